//! The lab's initial and only root file system.

use crate::images::cpio::Writer;
use crate::images::{LabImage, ModuleTree};

use crate::wire::Token;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// What reaches the outer machine: its files, and its network for the agent; random numbers; and what guests
/// and their networks need. Everything else loads when it is asked for.
const MODULES: [&str; 8] =
    ["virtio_mmio", "9pnet_virtio", "9p", "virtio_net", "virtio_rng", "tun", "vhost_net", "loop"];

const FOLDERS: [&str; 14] = [
    "bin",
    "sbin",
    "usr",
    "usr/bin",
    "usr/sbin",
    "lib",
    "lib/modules",
    "dev",
    "etc",
    "etc/armlab",
    "etc/armlab/modules",
    "outer",
    "run",
    "root",
];

/// Writes the initramfs to `out`, readable by its owner only since it holds the token.
pub(super) fn write(out: &Path, image: &LabImage, agent: &Path, token: &Token) -> Result<()> {
    let tree = ModuleTree::open(&image.modules, &image.version)?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let mut archive = Writer::new(Vec::new());
    for folder in FOLDERS {
        archive.directory(folder)?;
    }
    archive.character("dev/console", (5, 1))?;
    archive.file("init", 0o755, &read(agent)?)?;
    archive.file("bin/busybox", 0o755, &read(&image.busybox)?)?;
    for (index, module) in tree.load_order(&MODULES)?.iter().enumerate() {
        let name = format!("etc/armlab/modules/{index:02}-{}.ko", module.name);
        archive.file(&name, 0o644, &module.bytes)?;
    }
    // modprobe reads its lists in small pieces, which is slow on the outer file system; modules may lie there.
    let modules = format!("lib/modules/{}", image.version);
    let outside = image.modules.canonicalize()?.join(&modules);
    archive.directory(&modules)?;
    for list in ["modules.dep", "modules.alias"] {
        archive.file(&format!("{modules}/{list}"), 0o644, &read(&outside.join(list))?)?;
    }
    let kernel = format!("/outer{}/kernel", outside.display());
    archive.symlink(&format!("{modules}/kernel"), &kernel)?;
    archive.file("etc/armlab/token", 0o600, token)?;
    for (name, content) in ETC {
        archive.file(name, 0o644, content.as_bytes())?;
    }
    super::runtime::write_private(out, &archive.finish()?)
}

/// 10.0.2.2 is the outer machine and 10.0.2.3 its resolver, in QEMU's user-mode network.
const ETC: [(&str, &str); 4] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost armlab\n10.0.2.2 outer\n"),
    ("etc/resolv.conf", "nameserver 10.0.2.3\n"),
];
