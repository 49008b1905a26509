//! Guests to be measured: their files in memory, their command lines, and what KVM counts of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use cubie_armlab::images::{Cache, GuestArch, GuestImage, PeerQemu};
use tempfile::TempDir;

/// What a guest's init says first.
pub(crate) const INIT: &str = "cubie: init reached";

/// The kinds of guests, as `--arch` names them.
pub(crate) const ARCHES: [(GuestArch, &str); 2] =
    [(GuestArch::Armv7, "armv7"), (GuestArch::Arm64, "arm64")];

/// Files in memory, so that waiting for a disk is not measured.
pub(crate) struct Shelf {
    cache: Cache,
    folder: TempDir,
}

impl Shelf {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { cache: Cache::open()?, folder: tempfile::tempdir()? })
    }

    /// The example, which is built beside the benchmark.
    pub(crate) fn cubie(&self) -> anyhow::Result<PathBuf> {
        let bench = std::env::current_exe()?;
        let release = bench.ancestors().nth(2).context("a folder of the build")?;
        self.copy(&release.join("examples/cubietruck-vm"))
    }

    /// Without manuals and translations, which are most of its files.
    pub(crate) fn qemu(&self) -> anyhow::Result<PeerQemu> {
        let (from, root) = (self.cache.peer_qemu()?.root, self.folder.path().join("qemu"));
        for part in ["lib", "usr/bin", "usr/lib", "usr/share/qemu"] {
            let to = root.join(part);
            fs::create_dir_all(to.parent().context("a folder")?)?;
            copy(&from.join(part), &to)?;
        }
        Ok(PeerQemu { root })
    }

    pub(crate) fn guest(&self, arch: GuestArch) -> anyhow::Result<GuestImage> {
        let image = self.cache.guest(arch)?;
        let (kernel, initrd) = (self.copy(&image.kernel)?, self.copy(&image.initrd)?);
        Ok(GuestImage { kernel, initrd })
    }

    fn copy(&self, from: &Path) -> anyhow::Result<PathBuf> {
        let name = from.file_name().context("a file's name")?;
        let to = self.folder.path().join(name);
        copy(from, &to)?;
        Ok(to)
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-R").arg(from).arg(to).status()?;
    ensure!(status.success(), "copying {}: {status}", from.display());
    Ok(())
}

/// The example with one CPU.
pub(crate) fn cubie(program: &Path, arch: &str, image: &GuestImage) -> Command {
    let mut command = Command::new(program);
    command.args(["--arch", arch, "--cpus", "1", "--params", "quiet"]);
    command.arg("--kernel").arg(&image.kernel).arg("--initrd").arg(&image.initrd);
    command
}

/// QEMU's `virt` with as much of a machine, a console and a random source; `devices` are its options.
pub(crate) fn qemu(qemu: &PeerQemu, arch: GuestArch, image: &GuestImage, devices: &str) -> Command {
    let argv = qemu.command();
    let mut command = Command::new(&argv[0]);
    let cpu = match arch {
        GuestArch::Armv7 => "host,aarch64=off",
        GuestArch::Arm64 | GuestArch::Amd64 => "host",
    };
    command.args(&argv[1..]);
    let machine = "-M virt,gic-version=2,highmem=off -enable-kvm -smp 1 -m 512 -nodefaults -display none \
        -global virtio-mmio.force-legacy=false -chardev stdio,id=c -device virtio-serial-device \
        -device virtconsole,chardev=c -device virtio-rng-device";
    command.args(machine.split_whitespace().chain(devices.split_whitespace()));
    command.args(["-cpu", cpu, "-append", "console=hvc0 quiet"]);
    command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initrd);
    command
}

/// KVM's counters of a VM, by their names.
pub(crate) struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Those of the process's VM.
    pub(crate) fn read(pid: u32) -> anyhow::Result<Self> {
        let mut counters = BTreeMap::new();
        for vm in fs::read_dir("/sys/kernel/debug/kvm").context("debugfs")? {
            let vm = vm?;
            if !vm.file_name().to_string_lossy().starts_with(&format!("{pid}-")) {
                continue;
            }
            for counter in fs::read_dir(vm.path())?.flatten() {
                let value = fs::read_to_string(counter.path()).ok();
                if let Some(value) = value.and_then(|text| text.trim().parse().ok()) {
                    counters.insert(counter.file_name().to_string_lossy().into_owned(), value);
                }
            }
        }
        ensure!(!counters.is_empty(), "KVM counts nothing for process {pid}");
        Ok(Self(counters))
    }

    pub(crate) fn get(&self, counter: &str) -> anyhow::Result<f64> {
        let count = self.0.get(counter).with_context(|| format!("KVM has no {counter}"))?;
        Ok(*count as f64)
    }
}
