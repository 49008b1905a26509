//! Which switch would help, by the figures.

use std::fmt;
use std::time::Duration;

use crate::hop::{Hop, Place};
use crate::number::{each, time};
use crate::{Reading, Setup};

/// Something that can be set differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// The guest and the host exchange frames that are yet to be cut.
    Offloads,
    /// The kernel serves the queues.
    Vhost,
    /// A pair of queues, and a thread, for each of the guest's CPUs.
    Queues,
    /// The card's threads look for frames before they sleep.
    Polling,
    /// The driver has interrupts wait for more to tell.
    Moderation,
    /// The guest reads registers in a page.
    Page,
}

impl Switch {
    /// As JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offloads => "offloads",
            Self::Vhost => "vhost",
            Self::Queues => "queues",
            Self::Polling => "polling",
            Self::Moderation => "moderation",
            Self::Page => "page",
        }
    }

    /// How it is set, for a person.
    fn how(self, setup: &Setup) -> String {
        match self {
            Self::Offloads => "mode=tap, which has offloads".into(),
            Self::Vhost => "vhost=1".into(),
            Self::Queues => format!("mq={}", setup.cpus),
            Self::Polling => "poll=50".into(),
            Self::Moderation => "`ethtool -C eth0 rx-usecs 50 rx-frames 16` in the guest".into(),
            Self::Page => "--registers page".into(),
        }
    }
}

/// A switch that would help, and what speaks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// What to set.
    pub switch: Switch,
    /// Nanoseconds a packet that it would save at most: what the hops cost that it bears on.
    pub gain: f64,
    /// The figures that speak for it, and how it is set.
    pub why: String,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (up to {} a packet)", self.why, time(self.gain))
    }
}

/// A gain under this part of the road beyond the guest is none.
const LEAST: f64 = 0.05;
/// A frame of an Ethernet, with its header.
const FRAME: f64 = 1514.0;
/// The longest packet that can be left for the host to cut (VIRTIO 1.4 §5.1.6.3.1).
const LONGEST: f64 = 65_550.0;
/// Frames as long as this on the average are cut from something longer.
const BULK: f64 = 1000.0;

/// What would help, the most first.
pub(crate) fn advice(reading: &Reading, hops: &[Hop]) -> Vec<Advice> {
    let figures = Figures { reading, hops };
    // What the guest does besides is in its part, such as its boot: nothing would be worth while beside that.
    let beyond = cost(hops.iter().filter(|hop| hop.place != Place::Guest));
    let all = [
        figures.offloads(cost(hops)),
        figures.vhost(),
        figures.queues(),
        figures.polling(),
        figures.moderation(),
        figures.page(),
    ];
    let mut all: Vec<_> =
        all.into_iter().flatten().filter(|advice| advice.gain > LEAST * beyond).collect();
    all.sort_by(|one, other| other.gain.total_cmp(&one.gain));
    all
}

/// What these hops cost together, as far as it is known.
fn cost<'a>(hops: impl IntoIterator<Item = &'a Hop>) -> f64 {
    hops.into_iter().filter_map(|hop| hop.nanos).sum()
}

struct Figures<'a> {
    reading: &'a Reading,
    hops: &'a [Hop],
}

impl Figures<'_> {
    /// What these places cost together.
    fn cost(&self, places: &[Place]) -> f64 {
        cost(self.hops.iter().filter(|hop| places.contains(&hop.place)))
    }

    fn event(&self, place: Place, what: &str) -> f64 {
        let hop = self.hops.iter().find(|hop| hop.place == place);
        let event = hop.and_then(|hop| hop.events.iter().find(|(name, _)| *name == what));
        event.map_or(0.0, |(_, many)| *many)
    }

    fn advise(&self, switch: Switch, gain: f64, figures: String) -> Option<Advice> {
        let setup = &self.reading.setup;
        let how = switch.how(setup);
        setup.switches.contains(&switch).then(|| Advice {
            switch,
            gain,
            why: format!("{figures}: {how}"),
        })
    }

    /// Most of the road is walked once a packet, however long it is.
    fn offloads(&self, whole: f64) -> Option<Advice> {
        let (frames, bytes) = (self.reading.frames(), self.reading.bytes());
        let busy = usize::from(bytes[1] > bytes[0]);
        let mean = each(bytes[busy], frames[busy])?;
        if !(BULK..=FRAME).contains(&mean) {
            return None;
        }
        // A packet as long as can be is this many frames.
        let gain = whole * (1.0 - mean / LONGEST) * frames[busy] as f64
            / frames.iter().sum::<u64>() as f64;
        let what = format!("frames of {mean:.0} bytes are cut before they take the road");
        self.advise(Switch::Offloads, gain, what)
    }

    /// The kernel has the same work with rings and interrupts, but no system call for each.
    fn vhost(&self) -> Option<Advice> {
        let [receive, transmit] = &self.reading.effort;
        let calls = self.event(Place::Host, "calls")
            + self.event(Place::Interrupts, "raised")
            + self.event(Place::Waking, "wake-ups");
        let gain = self.cost(&[Place::Rings, Place::Interrupts, Place::Waking]);
        let batches = receive.batches + transmit.batches;
        let batch = each(self.reading.frames().iter().sum(), batches)?;
        let what = format!("{calls:.1} system calls a packet, in batches of {batch:.1}");
        self.advise(Switch::Vhost, gain, what)
    }

    /// A thread that has no time left holds up all the others.
    fn queues(&self) -> Option<Advice> {
        let Setup { pairs, cpus, .. } = self.reading.setup;
        let servers = self.reading.worked().into_iter().chain(self.reading.kernel);
        let ran: Duration = servers.sum();
        let elapsed = self.reading.elapsed.max(Duration::from_nanos(1));
        let busy = ran.div_duration_f64(elapsed) / pairs.max(1) as f64;
        if pairs >= cpus || busy < 0.7 {
            return None;
        }
        let here = [Place::Waking, Place::Rings, Place::Host, Place::Interrupts, Place::Kernel];
        let gain = self.cost(&here) * (1.0 - pairs as f64 / cpus as f64);
        let what = format!("{pairs} of {cpus} pairs, busy for {:.0} % of the time", 100.0 * busy);
        self.advise(Switch::Queues, gain, what)
    }

    /// Who does not sleep need not be woken.
    fn polling(&self) -> Option<Advice> {
        let wakeups = self.event(Place::Waking, "wake-ups");
        let what = format!("{wakeups:.2} wake-ups a packet");
        self.advise(Switch::Polling, self.cost(&[Place::Waking]), what)
    }

    /// Fewer interrupts, as far as there are more than one for a batch of 16.
    fn moderation(&self) -> Option<Advice> {
        let raised = self.event(Place::Interrupts, "raised");
        let spare = (raised - 1.0 / 16.0).max(0.0);
        let gain = self.cost(&[Place::Interrupts]) * spare / raised.max(f64::MIN_POSITIVE);
        let what = format!("{raised:.2} interrupts a packet");
        self.advise(Switch::Moderation, gain, what)
    }

    /// Exits are not timed: each is taken to cost the guest's threads what all of them cost on the average.
    fn page(&self) -> Option<Advice> {
        let Reading { device_exits, exits, .. } = self.reading;
        let (user, all) = ((*device_exits)?, exits.as_ref()?.all);
        let gain = self.cost(&[Place::Guest]) * each(user, all)?.min(1.0);
        let exits = each(user, self.reading.frames().iter().sum())?;
        self.advise(Switch::Page, gain, format!("{exits:.2} exits to user space a packet"))
    }
}
