//! The places on the road, and what a packet costs there.

use cubie_virtio_net::Samples;

use crate::Reading;
use crate::number::each;

/// A place on the road, from the guest to the host's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The guest's application, its network stack, its driver: the time of the vCPUs, exits included.
    Guest,
    /// Between the guest and who serves the card: kicks, and registers. What they cost is part of the guest's time.
    Exits,
    /// The worker is woken, and finds out for what.
    Waking,
    /// The worker at the rings: takes chains, checks headers, writes used entries.
    Rings,
    /// The host's stack, in system calls of the worker; another host end, such as a user-space network, instead.
    Host,
    /// The driver is interrupted.
    Interrupts,
    /// The kernel serves the queues (vhost): waking, rings, stack and interrupts in one.
    Kernel,
    /// The host's interface, where frames leave what can be seen from here for the NIC.
    Interface,
}

impl Place {
    /// As a person calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Exits => "exits",
            Self::Waking => "waking",
            Self::Rings => "rings",
            Self::Host => "host's stack",
            Self::Interrupts => "interrupts",
            Self::Kernel => "vhost",
            Self::Interface => "interface",
        }
    }
}

/// What was seen at a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// Where.
    pub place: Place,
    /// Nanoseconds of processor time a packet, if they were measured.
    pub nanos: Option<f64>,
    /// What happened there, a packet.
    pub events: Vec<(&'static str, f64)>,
}

/// All hops, in the order of the road. There is at least one packet.
pub(crate) fn hops(reading: &Reading) -> Vec<Hop> {
    let packets = reading.frames().iter().sum();
    let hop = |place, nanos, events: &[(&'static str, Option<u64>)]| Hop {
        place,
        nanos,
        events: events
            .iter()
            .filter_map(|(what, many)| Some((*what, each((*many)?, packets)?)))
            .collect(),
    };
    let [receive, transmit] = &reading.effort;
    let kicks = receive.kicks.zip(transmit.kicks).map(|(one, other)| one + other);
    let exits = [
        ("kicks", kicks),
        ("for registers, to user space", reading.device_exits),
        ("all, in the kernel", reading.exits.map(|exits| exits.kernel_mmio)),
        ("all", reading.exits.map(|exits| exits.all)),
    ];
    let guest = reading.guest.and_then(|time| each(time.as_nanos() as u64, packets));
    let mut hops = vec![hop(Place::Guest, guest, &[]), hop(Place::Exits, None, &exits)];
    if reading.setup.vhost {
        let kernel = reading.kernel.and_then(|time| each(time.as_nanos() as u64, packets));
        hops.push(hop(Place::Kernel, kernel, &[]));
    } else {
        hops.extend(served_here(reading, hop));
    }
    let drops =
        reading.interface.map(|interface| interface.receive_drops + interface.transmit_drops);
    hops.push(hop(Place::Interface, None, &[("drops", drops)]));
    hops
}

/// The hops within this process.
fn served_here(
    reading: &Reading,
    hop: impl Fn(Place, Option<f64>, &[(&'static str, Option<u64>)]) -> Hop,
) -> [Hop; 4] {
    let [receive, transmit] = &reading.effort;
    let woken = receive.woken_by_kicks + receive.woken_by_host + transmit.woken_by_kicks;
    let empty = receive.empty_calls + transmit.empty_calls;
    let passed = reading.frames().iter().sum();
    // The host has also given the frames that the guest was not given, and was asked to take those that it refused.
    let in_vain = reading.receive.drops.total() + reading.transmit.drops.refused;
    let interrupts = [
        ("raised", Some(receive.interrupts + transmit.interrupts)),
        ("suppressed", Some(receive.suppressed() + transmit.suppressed())),
    ];
    let turns = sampled(reading, |samples| samples.nanos);
    let waking = reading
        .worked()
        .zip(turns)
        .and_then(|(time, turns)| Some((each(time.as_nanos() as u64, passed)? - turns).max(0.0)));
    [
        hop(Place::Waking, waking, &[("wake-ups", Some(woken))]),
        hop(
            Place::Rings,
            sampled(reading, Samples::rings),
            &[
                ("chains", Some(receive.chains + transmit.chains)),
                ("bytes copied", Some(receive.copied)),
            ],
        ),
        hop(
            Place::Host,
            sampled(reading, |samples| samples.host),
            &[("calls", Some(passed + in_vain + empty)), ("for nothing", Some(empty))],
        ),
        hop(Place::Interrupts, sampled(reading, |samples| samples.interrupts), &interrupts),
    ]
}

/// Nanoseconds a packet by what was sampled in each direction; `None` if a direction with frames has no sample.
fn sampled(reading: &Reading, of: impl Fn(&Samples) -> u64) -> Option<f64> {
    let frames = reading.frames();
    let mut all = 0.0;
    for (effort, frames) in reading.effort.iter().zip(frames) {
        if frames > 0 {
            all += each(of(&effort.samples), effort.samples.frames)? * frames as f64;
        }
    }
    Some(all / frames.iter().sum::<u64>() as f64)
}
