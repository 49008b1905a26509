//! What the guests do, and what a MiB of it costs.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::guest::{ARGUMENT, PROGRAM, set_tso};
use crate::host::Host;
use crate::session::Guest;
use crate::side::{Side, TAP};
use crate::syscalls::Syscalls;

const MIB: usize = 1 << 20;
/// A cost is the difference of two runs: what both need besides does not count.
const FEW: usize = MIB;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToHost,
    ToGuest,
}

pub(crate) const DIRECTIONS: [(Direction, &str); 2] =
    [(Direction::ToHost, "guest to host"), (Direction::ToGuest, "host to guest")];

/// One way of one side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) direction: Direction,
    /// Who sends leaves segmentation to the card.
    pub(crate) segmentation: bool,
}

impl Job {
    /// Bytes of the longer run: short frames take their time.
    fn many(self) -> usize {
        FEW + if self.segmentation { 12 * MIB } else { 3 * MIB }
    }
}

/// What was counted, in this order.
pub(crate) const COUNTED: [&str; 6] =
    ["virtual ms", "frames", "exits to user space", "exits", "interrupts", "system calls"];
const FRAMES: usize = 1;

/// What a MiB costs, in the order of [`COUNTED`].
pub(crate) type Costs = [f64; COUNTED.len()];

/// Frames of a MiB, both ways together.
pub(crate) fn frames(costs: &Costs) -> f64 {
    costs[FRAMES]
}

/// Boots a guest and has it do all jobs.
pub(crate) fn measure(command: &mut Command, side: &Side) -> anyhow::Result<Vec<(Job, Costs)>> {
    let (mut guest, _) = Guest::boot(command)?;
    guest.run("modprobe virtio_pci; while [ ! -e /sys/class/net/eth0 ]; do sleep 0.1; done")?;
    if side.network.has_tap() {
        host(&format!("ip addr add 10.79.0.1/24 dev {TAP} && ip link set {TAP} up"))?;
        guest.run("ip addr add 10.79.0.2/24 dev eth0 && ip link set eth0 up")?;
        guest.run("ping -q -c 1 10.79.0.1")?;
    } else {
        guest.run("ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up")?;
    }
    if side.network.lanes() > 1 {
        // The driver begins with one a CPU.
        guest.run(&format!("{PROGRAM} {ARGUMENT} pairs {}", side.network.lanes()))?;
    }
    let mut all = vec![];
    for segmentation in [true, false] {
        if !segmentation && !side.network.is_cut() {
            continue;
        }
        if !segmentation {
            guest.run(&format!("{PROGRAM} {ARGUMENT} tso off"))?;
            set_tso(TAP, false)?;
        }
        for (direction, name) in DIRECTIONS {
            let job = Job { direction, segmentation };
            let costs = cost(&mut guest, side, job)?;
            let cut = if segmentation { "" } else { ", no TSO" };
            eprintln!("  {side}, {name}{cut}: {costs:.1?}");
            all.push((job, costs));
        }
    }
    Ok(all)
}

/// What a MiB costs.
fn cost(guest: &mut Guest, side: &Side, job: Job) -> anyhow::Result<Costs> {
    let calls = Syscalls::of(guest.pid())?;
    // The first time, caches are cold and neighbours unknown.
    run(guest, side, job, FEW, &calls)?;
    let few = run(guest, side, job, FEW, &calls)?;
    let many = run(guest, side, job, job.many(), &calls)?;
    let mibs = (job.many() - FEW) / MIB;
    Ok(std::array::from_fn(|i| (many[i] - few[i]) / mibs as f64))
}

/// Moves so many bytes once. What that costs, all in all.
fn run(
    guest: &mut Guest,
    side: &Side,
    job: Job,
    bytes: usize,
    calls: &Syscalls,
) -> anyhow::Result<Costs> {
    let streams = usize::from(side.network.lanes());
    let host = Host::start(job.direction, bytes, streams)?;
    let address = if side.network.has_tap() { "10.79.0.1" } else { "10.0.2.2" };
    let what = match job.direction {
        Direction::ToHost => "send",
        Direction::ToGuest => "receive",
    };
    let (seen, before, called) = (seen(guest)?, guest.counters()?, calls.count()?);
    let port = host.port;
    guest.run(&format!("{PROGRAM} {ARGUMENT} {what} {address}:{port} {bytes} {streams}"))?;
    let (time, after) = (host.join()?, guest.counters()?);
    let calls = calls.count()? - called;
    let more = |counter| Ok::<_, anyhow::Error>(after.get(counter)? - before.get(counter)?);
    let now = self::seen(guest)?;
    Ok([
        time.as_secs_f64() * 1000.0,
        now.frames - seen.frames,
        more("mmio_exit_user")?,
        more("exits")?,
        now.interrupts - seen.interrupts,
        calls,
    ])
}

/// What the guest has counted of its card.
struct Seen {
    frames: f64,
    interrupts: f64,
}

fn seen(guest: &mut Guest) -> anyhow::Result<Seen> {
    let frames = guest.run("cat /sys/class/net/eth0/statistics/?x_packets")?;
    let frames = numbers(frames.split_whitespace()).sum::<u64>() as f64;
    let lines = guest
        .run("grep \"$(basename $(readlink /sys/class/net/eth0/device))\\b\" /proc/interrupts")?;
    // A count for each CPU behind the name's colon, then the controller and what of it.
    let counts = lines.lines().filter_map(|line| line.split_once(':'));
    let interrupts = counts.map(|(_, rest)| numbers(rest.split_whitespace()).sum::<u64>());
    let interrupts = interrupts.reduce(|one, other| one + other).context("/proc/interrupts")?;
    Ok(Seen { frames, interrupts: interrupts as f64 })
}

/// The numbers that a line begins with.
fn numbers<'a>(words: impl Iterator<Item = &'a str>) -> impl Iterator<Item = u64> {
    words.map_while(|word| word.parse().ok())
}

fn host(command: &str) -> anyhow::Result<()> {
    let status = Command::new("sh").arg("-c").arg(command).status()?;
    ensure!(status.success(), "{command}: {status}");
    Ok(())
}
