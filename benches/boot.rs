//! From the VMM's start to the guest's init: virtual time and exits, beside QEMU's `virt` machine.
//!
//! Both run on the same ARM KVM in the same run. On a machine without it that is the lab, with
//! `icount`: virtual time counts instructions, so that it does not depend on what else the machine does.
//! That lab has one CPU, and so have the guests: two would wait for each other.

#[cfg(target_arch = "aarch64")]
mod figures;

#[cfg(not(target_arch = "aarch64"))]
fn main() -> anyhow::Result<()> {
    use cubie_armlab::Machine;
    use cubie_armlab::relay::{self, Program};
    relay::build(Program::Example("cubietruck-vm"))?;
    let machine = Machine { icount: true, ..Machine::from_env()? };
    let status = relay::run(Program::Bench("boot"), &machine, &[])?;
    anyhow::ensure!(status.success(), "the measurement failed: {status}");
    Ok(())
}

#[cfg(target_arch = "aarch64")]
fn main() -> anyhow::Result<()> {
    measure::main()
}

#[cfg(target_arch = "aarch64")]
mod measure {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use anyhow::{Context, ensure};
    use cubie_armlab::images::{Cache, GuestArch, GuestImage, PeerQemu};
    use tempfile::TempDir;

    use super::figures::{Row, publish};

    /// What the guest's init says first.
    const MARKER: &str = "cubie: init reached";

    /// One start of a guest.
    struct Boot {
        time: Duration,
        exits: BTreeMap<String, u64>,
    }

    pub(super) fn main() -> anyhow::Result<()> {
        let cache = Cache::open()?;
        let shelf = Shelf(tempfile::tempdir()?);
        let bench = std::env::current_exe()?;
        let release = bench.ancestors().nth(2).context("a folder of the build")?;
        let program = shelf.copy(&release.join("examples/cubietruck-vm"))?;
        let peer_qemu = PeerQemu { root: shelf.copy(&cache.peer_qemu()?.root)? };
        let mut rows = vec![];
        for (arch, name) in [(GuestArch::Armv7, "armv7"), (GuestArch::Arm64, "arm64")] {
            let image = shelf.guest(cache.guest(arch)?)?;
            eprintln!("{name}: cubie …");
            let ours = boot(&mut cubie(&program, name, &image))?;
            eprintln!("{name}: QEMU …");
            let peer = boot(&mut qemu(&peer_qemu, arch, &image))?;
            let mut row = |what, unit, ours, peer| {
                let row = format!("{name}: {what}");
                rows.push(Row { row, unit, ours, peer, peer_name: "QEMU virt" });
            };
            row("start to init", "virtual ms", millis(&ours), millis(&peer));
            for (what, counter) in [
                ("exits", "exits"),
                ("exits for MMIO to user space", "mmio_exit_user"),
                ("exits for MMIO in the kernel", "mmio_exit_kernel"),
            ] {
                row(what, "exits", count(&ours, counter)?, count(&peer, counter)?);
            }
        }
        Ok(publish("boot", &rows, None)?)
    }

    fn millis(boot: &Boot) -> f64 {
        boot.time.as_secs_f64() * 1000.0
    }

    fn count(boot: &Boot, counter: &str) -> anyhow::Result<f64> {
        let count = boot.exits.get(counter).with_context(|| format!("KVM has no {counter}"))?;
        Ok(*count as f64)
    }

    /// Files in memory, so that waiting for a disk is not measured.
    struct Shelf(TempDir);

    impl Shelf {
        fn copy(&self, from: &Path) -> anyhow::Result<PathBuf> {
            let name = from.file_name().context("a file's name")?;
            let to = self.0.path().join(name);
            let status = Command::new("cp").arg("-R").arg(from).arg(&to).status()?;
            ensure!(status.success(), "copying {}: {status}", from.display());
            Ok(to)
        }

        fn guest(&self, image: GuestImage) -> anyhow::Result<GuestImage> {
            let (kernel, initrd) = (self.copy(&image.kernel)?, self.copy(&image.initrd)?);
            Ok(GuestImage { kernel, initrd })
        }
    }

    fn cubie(program: &Path, arch: &str, image: &GuestImage) -> Command {
        let mut command = Command::new(program);
        command.args(["--arch", arch, "--network", "none", "--cpus", "1", "--params", "quiet"]);
        command.arg("--kernel").arg(&image.kernel).arg("--initrd").arg(&image.initrd);
        command
    }

    /// QEMU with the same devices as the example: console, random source, disk.
    fn qemu(qemu: &PeerQemu, arch: GuestArch, image: &GuestImage) -> Command {
        let argv = qemu.command();
        let mut command = Command::new(&argv[0]);
        let cpu = match arch {
            GuestArch::Armv7 => "host,aarch64=off",
            GuestArch::Arm64 => "host",
        };
        command.args(&argv[1..]);
        command.args(
            "-M virt,gic-version=2 -enable-kvm -smp 1 -m 512 -nodefaults -display none".split(' '),
        );
        command.args(["-cpu", cpu, "-append", "console=hvc0 quiet"]);
        command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initrd);
        let devices = "-chardev stdio,id=c -device virtio-serial-device -device virtconsole,chardev=c \
            -device virtio-rng-device -drive driver=null-co,if=none,id=d -device virtio-blk-device,drive=d";
        command.args(devices.split_whitespace());
        command
    }

    fn boot(command: &mut Command) -> anyhow::Result<Boot> {
        let start = Instant::now();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let result = watch(&mut child, start);
        child.kill()?;
        child.wait()?;
        result
    }

    fn watch(child: &mut Child, start: Instant) -> anyhow::Result<Boot> {
        let output = child.stdout.take().context("a pipe")?;
        for line in BufReader::new(output).split(b'\n') {
            if String::from_utf8_lossy(&line?).contains(MARKER) {
                return Ok(Boot { time: start.elapsed(), exits: exits(child.id())? });
            }
        }
        anyhow::bail!("the guest ended before its init")
    }

    /// KVM's counters of the process's VM.
    fn exits(pid: u32) -> anyhow::Result<BTreeMap<String, u64>> {
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
        Ok(counters)
    }
}
