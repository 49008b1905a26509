//! The guest's initramfs: busybox, Debian's modules for our devices, and a few scripts.
//!
//! It is small and not compressed, since it is mostly started under emulation. Drivers of virtio devices are
//! loaded at start; `/sbin/modprobe` loads the rest when the kernel asks for it, such as ext4 at a mount.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::cpio::Writer;
use super::modules::{Module, ModuleTree};
use super::system::System;
use super::{Cache, GuestArch};

/// The modules that `/init` names, and those that the kernel asks for by an alias.
const MODULES: [&str; 8] = [
    "virtio_mmio",
    "virtio_console",
    "virtio_net",
    "virtio_blk",
    "virtio_rng",
    "virtio_pci",
    "ext4",
    "8021q",
];
/// The checksum of ext4's metadata. It is asked for by an alias, which some kernels answer themselves.
const CHECKSUM: &str = "crc32c_generic";

const FOLDERS: [&str; 16] = [
    "bin",
    "dev",
    "etc",
    "etc/udhcpc",
    "lib",
    "lib/modules",
    "mnt",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "var",
    "var/run",
];
const LINKS: [(&str, &str); 6] = [
    ("bin/sh", "busybox"),
    ("sbin/init", "../bin/busybox"),
    ("sbin/modprobe", "../bin/busybox"),
    ("usr/bin", "../bin"),
    ("usr/sbin", "../sbin"),
    ("etc/mtab", "../proc/mounts"),
];
const FILES: [(&str, u32, &str); 6] = [
    ("init", 0o755, include_str!("guest/init")),
    ("etc/inittab", 0o644, include_str!("guest/inittab")),
    ("etc/session", 0o755, include_str!("guest/session")),
    ("etc/profile", 0o644, include_str!("guest/profile")),
    ("etc/udhcpc/default.script", 0o755, include_str!("guest/dhcp")),
    // mount without -t tries these before it asks the kernel, which does not know them yet.
    ("etc/filesystems", 0o644, "ext4\n"),
];

pub(super) fn prepare(cache: &Cache, arch: GuestArch, system: &System) -> Result<PathBuf> {
    let version = system.version()?;
    let name = format!("guest-{}-{:08x}.cpio", arch.name(), recipe(&version));
    cache.entry(&name, |path| {
        super::say(&format!("building the initramfs of {} guests", arch.name()));
        let out = BufWriter::new(File::create(path)?);
        write(out, system, &version)?.flush()?;
        Ok(())
    })
}

/// A checksum of all that goes into the initramfs, so that a changed script makes a new one.
fn recipe(version: &str) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(version.as_bytes());
    sum.update(include_bytes!("guest.rs"));
    for (_, _, content) in FILES {
        sum.update(content.as_bytes());
    }
    sum.sum()
}

fn write<W: Write>(out: W, system: &System, version: &str) -> Result<W> {
    let busybox = system.busybox();
    let busybox = fs::read(&busybox).with_context(|| format!("reading {}", busybox.display()))?;
    let mut archive = Writer::new(out);
    for folder in FOLDERS {
        archive.directory(folder)?;
    }
    // The kernel opens it for init, before anything is mounted.
    archive.character("dev/console", (5, 1))?;
    archive.file("bin/busybox", 0o755, &busybox)?;
    for (name, target) in LINKS {
        archive.symlink(name, target)?;
    }
    for (name, mode, content) in FILES {
        archive.file(name, mode, content.as_bytes())?;
    }
    add_modules(&mut archive, &modules(&system.root, version)?, version)?;
    Ok(archive.finish()?)
}

fn modules(root: &Path, version: &str) -> Result<Vec<Module>> {
    let tree = ModuleTree::open(root, version)?;
    let checksum = tree.file(CHECKSUM).map(|_| CHECKSUM);
    tree.load_order(&MODULES.into_iter().chain(checksum).collect::<Vec<_>>())
}

/// The modules, and the lists of depmod(8) that busybox's modprobe reads.
fn add_modules<W: Write>(
    archive: &mut Writer<W>,
    modules: &[Module],
    version: &str,
) -> io::Result<()> {
    let folder = format!("lib/modules/{version}");
    archive.directory(&folder)?;
    for module in modules {
        archive.file(&format!("{folder}/{}.ko", module.name), 0o644, &module.bytes)?;
    }
    let lists = [
        ("modules.dep", dependencies(modules)),
        ("modules.alias", aliases(modules)),
        ("modules.builtin", builtin(modules)),
    ];
    for (name, list) in lists {
        archive.file(&format!("{folder}/{name}"), 0o644, list.as_bytes())?;
    }
    Ok(())
}

/// `modules.dep`: each module with all that it needs, the nearest first. `modules` is in load order.
fn dependencies(modules: &[Module]) -> String {
    let mut list = String::new();
    for (index, module) in modules.iter().enumerate() {
        list += &format!("{}.ko:", module.name);
        let mut needed = module.depends.clone();
        for earlier in modules[..index].iter().rev() {
            if needed.contains(&earlier.name) {
                list += &format!(" {}.ko", earlier.name);
                needed.extend_from_slice(&earlier.depends);
            }
        }
        list.push('\n');
    }
    list
}

/// `modules.alias`, as far as modprobe is asked for it.
fn aliases(modules: &[Module]) -> String {
    let lines = modules.iter().flat_map(|module| {
        module.aliases.iter().map(|alias| format!("alias {alias} {}\n", module.name))
    });
    lines.collect()
}

/// `modules.builtin`: what has no file is in the kernel, or [`ModuleTree::load_order`] would have failed.
/// Debian 13's kernels have virtio_console built in, Debian 12's have not.
fn builtin(modules: &[Module]) -> String {
    let built_in = |name: &&str| modules.iter().all(|module| module.name != *name);
    MODULES.iter().copied().filter(built_in).map(|name| format!("{name}.ko\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, depends: &[&str], aliases: &[&str]) -> Module {
        let owned = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
        let (depends, aliases) = (owned(depends), owned(aliases));
        Module { name: name.to_owned(), bytes: b"ELF".to_vec(), depends, aliases }
    }

    #[test]
    fn modules_dep_lists_all_that_is_needed_nearest_first() {
        let modules = [
            module("failover", &[], &[]),
            module("net_failover", &["failover"], &[]),
            module("crc16", &[], &[]),
            // virtio is built in: modprobe must not look for it.
            module("virtio_net", &["virtio", "net_failover"], &[]),
        ];
        let expected = "failover.ko:\nnet_failover.ko: failover.ko\ncrc16.ko:\n\
                        virtio_net.ko: net_failover.ko failover.ko\n";
        assert_eq!(dependencies(&modules), expected);
    }

    #[test]
    fn modules_alias_leads_from_a_file_system_to_its_module() {
        let modules = [module("ext4", &[], &["fs-ext4", "fs-ext2"]), module("jbd2", &[], &[])];
        assert_eq!(aliases(&modules), "alias fs-ext4 ext4\nalias fs-ext2 ext4\n");
    }

    #[test]
    fn drivers_without_a_file_count_as_built_in() {
        let with_files = MODULES.into_iter().filter(|&name| name != "virtio_console");
        let with_files: Vec<_> = with_files.map(|name| module(name, &[], &[])).collect();
        assert_eq!(builtin(&with_files), "virtio_console.ko\n");
    }

    #[test]
    fn modules_and_their_lists_lie_where_modprobe_looks() {
        let mut archive = Writer::new(Vec::new());
        add_modules(&mut archive, &[module("virtio_blk", &[], &[])], "6.1.0").unwrap();
        let bytes = archive.finish().unwrap();
        for name in ["virtio_blk.ko", "modules.dep", "modules.alias", "modules.builtin"] {
            let path = format!("lib/modules/6.1.0/{name}\0");
            assert!(bytes.windows(path.len()).any(|window| window == path.as_bytes()), "{name}");
        }
    }

    #[test]
    fn every_folder_comes_after_the_one_that_holds_it() {
        let links = LINKS.map(|link| link.0);
        let files = FILES.map(|file| file.0);
        for path in FOLDERS.into_iter().chain(links).chain(files) {
            let Some((folder, _)) = path.rsplit_once('/') else {
                continue;
            };
            let position = |name| FOLDERS.iter().position(|&folder| folder == name);
            let above = position(folder).unwrap_or_else(|| panic!("{path} has no folder"));
            assert!(position(path).is_none_or(|own| above < own), "{path}");
        }
    }

    #[test]
    fn another_kernel_makes_another_initramfs() {
        assert_ne!(recipe("6.1.0-50-arm64"), recipe("6.1.0-51-arm64"));
    }
}
