//! What the guests do, and what one piece of it costs.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::guests::Counters;
use crate::session::Guest;

/// Bytes of the disk.
pub(crate) const DISK: u64 = 64 << 20;
/// The tap of whichever guest runs.
pub(crate) const TAP: &str = "cubiebench";

/// A cost is the difference of two runs: what both need besides does not count.
const FEW: u32 = 200;
const MANY: u32 = 1200;

/// What something costs; for a piece of work, on average.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Nanoseconds of the lab's clock, which are instructions.
    pub(crate) instructions: f64,
    pub(crate) exits: f64,
    /// Of these, for MMIO that user space answers.
    pub(crate) user: f64,
    /// Of these, for MMIO that the kernel answers.
    pub(crate) kernel: f64,
    /// Interrupts of virtio devices that the guest has counted.
    pub(crate) interrupts: f64,
}

impl Cost {
    fn map(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            instructions: f(self.instructions, other.instructions),
            exits: f(self.exits, other.exits),
            user: f(self.user, other.user),
            kernel: f(self.kernel, other.kernel),
            interrupts: f(self.interrupts, other.interrupts),
        }
    }
}

/// What one side needs.
pub(crate) struct Costs {
    /// From the start to init: exits only.
    pub(crate) boot: Cost,
    /// From the start to the prompt, when all drivers are at work: exits only.
    pub(crate) prompt: Cost,
    /// A read of 4 KiB from the disk, one after the other.
    pub(crate) read: Cost,
    /// An echo request of the guest and its answer.
    pub(crate) ping: Cost,
}

pub(crate) fn measure(command: &mut Command) -> anyhow::Result<Costs> {
    let (mut guest, [boot, prompt]) = Guest::boot(command)?;
    let (boot, prompt) = (exits(&boot)?, exits(&prompt)?);
    guest.run("modprobe virtio_pci; while [ ! -e /dev/vda -o ! -e /sys/class/net/eth0 ]; do sleep 0.1; done")?;
    host(&format!("ip addr add 10.79.0.1/24 dev {TAP} && ip link set {TAP} up"))?;
    guest.run("ip addr add 10.79.0.2/24 dev eth0 && ip link set eth0 up")?;
    let read =
        each(&mut guest, |n| format!("dd if=/dev/vda of=/dev/null bs=4k count={n} iflag=direct"))?;
    let ping = each(&mut guest, |n| format!("ping -A -q -c {n} 10.79.0.1"))?;
    Ok(Costs { boot, prompt, read, ping })
}

/// All that counters since a guest's start tell.
fn exits(counters: &Counters) -> anyhow::Result<Cost> {
    Ok(Cost {
        instructions: f64::NAN,
        exits: counters.get("exits")?,
        user: counters.get("mmio_exit_user")?,
        kernel: counters.get("mmio_exit_kernel")?,
        interrupts: f64::NAN,
    })
}

/// The cost of one piece of the work that `command` does so many times.
fn each(guest: &mut Guest, command: impl Fn(u32) -> String) -> anyhow::Result<Cost> {
    // The first time, caches are cold and neighbours unknown.
    guest.run(&command(FEW))?;
    let (few, many) = (run(guest, &command(FEW))?, run(guest, &command(MANY))?);
    let pieces = f64::from(MANY - FEW);
    Ok(many.map(few, |many, few| (many - few) / pieces))
}

fn run(guest: &mut Guest, command: &str) -> anyhow::Result<Cost> {
    let interrupts_before = interrupts(guest)?;
    let (before, start) = (guest.counters()?, Instant::now());
    guest.run(command)?;
    let (time, after) = (start.elapsed(), guest.counters()?);
    let more = |counter| Ok::<_, anyhow::Error>(after.get(counter)? - before.get(counter)?);
    Ok(Cost {
        instructions: time.as_nanos() as f64,
        exits: more("exits")?,
        user: more("mmio_exit_user")?,
        kernel: more("mmio_exit_kernel")?,
        interrupts: interrupts(guest)? - interrupts_before,
    })
}

/// Interrupts of virtio devices so far. The guest has one CPU.
fn interrupts(guest: &mut Guest) -> anyhow::Result<f64> {
    let lines = guest.run("grep virtio /proc/interrupts")?;
    let count = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    let counts = lines.lines().filter(|line| line.contains("virtio")).map(count);
    let sum: u64 = counts.collect::<Option<Vec<_>>>().context("/proc/interrupts")?.iter().sum();
    Ok(sum as f64)
}

fn host(command: &str) -> anyhow::Result<()> {
    let status = Command::new("sh").arg("-c").arg(command).status()?;
    ensure!(status.success(), "{command}: {status}");
    Ok(())
}
