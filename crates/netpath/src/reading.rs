//! All counters of a card at a time.

use std::time::Duration;

use cubie_hv::Exits;
use cubie_virtio_net::{Counters, Effort, Traffic};

use crate::Switch;

/// All counters of one card, at a time or between two. What nobody can tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// How the card is set up.
    pub setup: Setup,
    /// When the counting began, since the counters stood at 0: with these at first, and later in a difference.
    pub begun: Duration,
    /// How long it has been going on.
    pub elapsed: Duration,
    /// What passed to the guest through this process.
    pub receive: Traffic,
    /// What passed from the guest through this process.
    pub transmit: Traffic,
    /// What it took to receive, and to transmit.
    pub effort: [Effort; 2],
    /// Exits to user space for the card's registers.
    pub device_exits: Option<u64>,
    /// Exits of all vCPUs, whatever for.
    pub exits: Option<Exits>,
    /// Threads of the vCPUs: the guest's time, and that of its exits.
    pub guest: Option<Duration>,
    /// The card's threads in this process.
    pub workers: Option<Duration>,
    /// Of this, what they looked for frames when there were none, instead of sleeping.
    pub polling: Option<Duration>,
    /// The kernel's threads that serve the card's queues (vhost).
    pub kernel: Option<Duration>,
    /// The host's interface.
    pub interface: Option<Interface>,
}

/// How a card is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// What the card is on, as a person knows it: `tap cubie0`.
    pub name: String,
    /// The kernel serves the queues (vhost).
    pub vhost: bool,
    /// Pairs of queues.
    pub pairs: usize,
    /// CPUs of the guest, each of which can have a pair of its own.
    pub cpus: usize,
    /// Registers are trapped, not in a page.
    pub trapped: bool,
    /// What is not on and could be, as everything else is set. Nothing else is advised.
    pub switches: Vec<Switch>,
}

/// Counters of the host's interface that the card is on, such as a tap. The directions are the guest's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Frames and their bytes that the guest took.
    pub received: [u64; 2],
    /// Frames and their bytes that the guest gave.
    pub sent: [u64; 2],
    /// Frames for the guest that the host dropped: the guest takes them too slowly.
    pub receive_drops: u64,
    /// Frames of the guest that the host dropped.
    pub transmit_drops: u64,
}

impl Reading {
    /// What a card's own counters tell; all else is not known.
    pub fn of_card(counters: &Counters, elapsed: Duration) -> Self {
        Self {
            elapsed,
            receive: counters.receive(),
            transmit: counters.transmit(),
            effort: counters.effort(),
            workers: Some(counters.worker_time()),
            polling: Some(counters.polling_time()),
            setup: Setup { pairs: counters.pairs(), ..Setup::default() },
            ..Self::default()
        }
    }

    /// What came since `earlier`, a reading of the same card.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let times = |now: Option<Duration>, then: Option<Duration>| {
            now.zip(then).map(|(now, then)| now.saturating_sub(then))
        };
        Self {
            setup: self.setup.clone(),
            begun: earlier.begun + earlier.elapsed,
            elapsed: self.elapsed.saturating_sub(earlier.elapsed),
            receive: self.receive.since(earlier.receive),
            transmit: self.transmit.since(earlier.transmit),
            effort: [0, 1].map(|way| self.effort[way].since(earlier.effort[way])),
            device_exits: self
                .device_exits
                .zip(earlier.device_exits)
                .map(|(now, then)| now.saturating_sub(then)),
            exits: self.exits.zip(earlier.exits).map(|(now, then)| now.since(then)),
            guest: times(self.guest, earlier.guest),
            workers: times(self.workers, earlier.workers),
            polling: times(self.polling, earlier.polling),
            kernel: times(self.kernel, earlier.kernel),
            interface: self.interface.zip(earlier.interface).map(|(now, then)| now.since(then)),
        }
    }

    /// Frames to the guest and from it, whoever moved them.
    pub fn frames(&self) -> [u64; 2] {
        self.moved(0, [self.receive.frames, self.transmit.frames])
    }

    /// Their bytes.
    pub fn bytes(&self) -> [u64; 2] {
        self.moved(1, [self.receive.bytes, self.transmit.bytes])
    }

    /// What the card's threads did besides looking for frames that were not there.
    pub(crate) fn worked(&self) -> Option<Duration> {
        Some(self.workers?.saturating_sub(self.polling.unwrap_or_default()))
    }

    /// When all this was, for a person.
    pub(crate) fn span(&self) -> String {
        let [begun, elapsed] = [self.begun, self.elapsed].map(|time| time.as_secs_f64());
        match self.begun {
            Duration::ZERO => format!("{elapsed:.1} s since the start"),
            _ => format!("{elapsed:.1} s, from {begun:.1} s after the start"),
        }
    }

    /// What this process did not see, the interface has.
    fn moved(&self, which: usize, here: [u64; 2]) -> [u64; 2] {
        match &self.interface {
            Some(interface) if self.setup.vhost => {
                [interface.received[which], interface.sent[which]]
            }
            _ => here,
        }
    }
}

impl Interface {
    /// What came since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let pair =
            |now: [u64; 2], then: [u64; 2]| [0, 1].map(|at| now[at].saturating_sub(then[at]));
        Self {
            received: pair(self.received, earlier.received),
            sent: pair(self.sent, earlier.sent),
            receive_drops: self.receive_drops.saturating_sub(earlier.receive_drops),
            transmit_drops: self.transmit_drops.saturating_sub(earlier.transmit_drops),
        }
    }
}
