//! From the VMM's start to the guest's init: virtual time and exits, beside QEMU's `virt` machine.
//!
//! Both run on the same ARM KVM in the same run. On a machine without it that is the lab, with
//! `icount`: virtual time counts instructions, so that it does not depend on what else the machine does.
//! That lab has one CPU, and so have the guests: two would wait for each other.

#[cfg(target_arch = "aarch64")]
mod figures;
#[cfg(target_arch = "aarch64")]
mod guests;
#[cfg(not(target_arch = "aarch64"))]
mod lab;

#[cfg(not(target_arch = "aarch64"))]
fn main() -> anyhow::Result<()> {
    lab::run("boot")
}

#[cfg(target_arch = "aarch64")]
fn main() -> anyhow::Result<()> {
    measure::main()
}

#[cfg(target_arch = "aarch64")]
mod measure {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use anyhow::Context;

    use super::figures::{Row, publish};
    use super::guests::{ARCHES, Counters, INIT, Shelf, cubie, qemu};

    /// One start of a guest.
    struct Boot {
        time: Duration,
        exits: Counters,
    }

    pub(super) fn main() -> anyhow::Result<()> {
        let shelf = Shelf::new()?;
        let (program, peer) = (shelf.cubie()?, shelf.qemu()?);
        let disk = "-drive driver=null-co,if=none,id=d -device virtio-blk-device,drive=d";
        let mut rows = vec![];
        for (arch, name) in ARCHES {
            let image = shelf.guest(arch)?;
            eprintln!("{name}: cubie …");
            let ours = boot(cubie(&program, name, &image).args(["--network", "none"]))?;
            eprintln!("{name}: QEMU …");
            let peer = boot(&mut qemu(&peer, arch, &image, disk))?;
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
                row(what, "exits", ours.exits.get(counter)?, peer.exits.get(counter)?);
            }
        }
        Ok(publish("boot", &rows, None)?)
    }

    fn millis(boot: &Boot) -> f64 {
        boot.time.as_secs_f64() * 1000.0
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
            if String::from_utf8_lossy(&line?).contains(INIT) {
                return Ok(Boot { time: start.elapsed(), exits: Counters::read(child.id())? });
            }
        }
        anyhow::bail!("the guest ended before its init")
    }
}
