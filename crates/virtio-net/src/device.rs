//! Control plane: identity, configuration, start and stop.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cubie_virtio_core::{
    Clock, Config, DeviceId, Features, HostClock, QueueState, Queues, RestoreError, StartError,
    VirtioDevice,
};

use crate::link::Link;
use crate::pair::Card;
use crate::poller;
use crate::protocol::{
    self, CTRL_GUEST_OFFLOADS, Duplex, FEATURES, GUEST_OFFLOADS, HOST_OFFLOADS, MQ, MTU,
    SPEED_DUPLEX, consistent,
};
use crate::saved::{self, Made};
use crate::vhost::{self, InKernel, Vhost, VhostError};
use crate::workers::Workers;
use crate::{Counters, Mac, NetBackend};

/// Chains that fit into each queue. So many fit into the control queue, too: its index is that of another
/// queue for a driver that does not know of several pairs.
const QUEUE_SIZE: u16 = 256;

/// As many as a tap has (Linux, drivers/net/tun.c, `MAX_TAP_QUEUES`).
const MOST_PAIRS: usize = 256;

/// The virtio network card.
pub struct Net<B: NetBackend> {
    config: Config,
    /// The address that the card was made with.
    mac: Mac,
    features: Features,
    mtu: Option<u16>,
    queue_sizes: Vec<u16>,
    link: Link,
    counters: Counters,
    clock: Arc<dyn Clock>,
    polling: Option<Duration>,
    complained: Arc<AtomicBool>,
    /// What the rings can have at most.
    rings: Features,
    served: Served<B>,
}

/// The host ends, by who serves the queues.
enum Served<B: NetBackend> {
    Here(Workers<B>),
    InKernel(Workers<InKernel<B>>),
}

/// Not as many host ends as a card can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a card has 1 to {MOST_PAIRS} pairs of queues, not {0}: give as many host ends")]
pub struct PairsError(usize);

/// An MTU that a card cannot have (VIRTIO 1.4 §5.1.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a card's MTU is 68 to 65535 bytes, not {0}: give another one, or none")]
pub struct MtuError(u16);

impl<B: NetBackend> Net<B> {
    /// A card with the address `mac` whose cable ends in `backend`.
    pub fn new(backend: B, mac: Mac) -> Self {
        Self::of(vec![backend], mac)
    }

    /// A card with a pair of queues, and a thread, for each of `backends`, up to 256. The driver begins with
    /// the first, and uses more when it likes. What each end can do should be the same.
    pub fn with_pairs(backends: Vec<B>, mac: Mac) -> Result<Self, PairsError> {
        match backends.len() {
            1..=MOST_PAIRS => Ok(Self::of(backends, mac)),
            count => Err(PairsError(count)),
        }
    }

    fn of(mut backends: Vec<B>, mac: Mac) -> Self {
        let pairs = backends.len();
        let config = Config::new(protocol::config::config(mac, pairs as u16));
        let common = |of: fn(&B) -> Features| backends.iter().map(of).reduce(Features::and);
        let host = common(B::offloads).unwrap_or_default().and(HOST_OFFLOADS);
        let guest = common(B::guest_offloads).unwrap_or_default().and(GUEST_OFFLOADS);
        let guest = match consistent(guest) {
            Features(0) => Features(0),
            some => some.with(CTRL_GUEST_OFFLOADS),
        };
        let several = if pairs > 1 { MQ } else { Features(0) };
        let link = Link::new(config.clone());
        backends.iter_mut().for_each(|end| end.plugged(&link));
        Self {
            mac,
            features: FEATURES.with(consistent(host)).with(guest).with(several),
            mtu: None,
            queue_sizes: vec![QUEUE_SIZE; protocol::control(pairs) + 1],
            link,
            counters: Counters::new(pairs),
            clock: Arc::new(HostClock::default()),
            polling: None,
            complained: Arc::default(),
            rings: Features(u64::MAX),
            served: Served::Here(Workers::new(backends, mac)),
            config,
        }
    }

    /// Has the kernel serve the queues (vhost-net) instead of this process, which then sees none of the frames
    /// and cannot count or filter them, nor drop them while the link is down: they wait. For drivers of split
    /// rings on taps. Opens `/dev/vhost-net` once a pair.
    /// To be called before the card is plugged in.
    ///
    /// # Errors
    /// When the kernel cannot. The card is then as it was.
    pub fn use_vhost(&mut self) -> Result<(), VhostError> {
        let Served::Here(workers) = &mut self.served else { return Ok(()) };
        let vhosts: Vec<_> = workers.parked().map(Vhost::of_tap).collect::<Result<_, _>>()?;
        let known = vhosts.iter().map(Vhost::features).reduce(Features::and).unwrap_or_default();
        self.features = vhost::offered(self.features, known);
        self.rings = known.with(Features::TRANSPORT);
        let ends = workers.take_parked().into_iter().zip(vhosts);
        let ends = ends.map(|(backend, vhost)| InKernel { backend, vhost });
        self.served = Served::InKernel(Workers::new(ends, self.mac));
        Ok(())
    }

    /// Tells the driver how many bytes of payload the network behind the card takes in a frame. Longer frames
    /// that need not be cut are dropped on their way to the guest.
    pub fn with_mtu(mut self, mtu: u16) -> Result<Self, MtuError> {
        if mtu < 68 {
            return Err(MtuError(mtu));
        }
        self.config.update(|bytes| protocol::config::set_mtu(bytes, mtu));
        (self.mtu, self.features) = (Some(mtu), self.features.with(MTU));
        Ok(self)
    }

    /// Tells the driver how fast the link is, in Mbit/s up to 2³¹ − 1, which changes nothing.
    #[must_use]
    pub fn with_speed(mut self, mbits: u32, duplex: Duplex) -> Self {
        let mbits = mbits.min(i32::MAX as u32);
        self.config.update(|bytes| protocol::config::set_speed(bytes, mbits, duplex));
        self.features = self.features.with(SPEED_DUPLEX);
        self
    }

    /// Has each pair look for frames by itself, for up to `most` since there were some, before its thread sleeps: so
    /// long the driver need not kick. That is for traffic that comes in quick succession, and takes a CPU of
    /// the host's meanwhile; where frames come later, it looks for a shorter time, and then not at all. At most
    /// 10 milliseconds. Of no effect where the kernel serves the queues.
    #[must_use]
    pub fn with_polling(self, most: Duration) -> Self {
        Self { polling: Some(most.min(poller::MOST)), ..self }
    }

    /// The same card in the time of `clock`, which it has to be given before it starts: how long interrupts wait
    /// that the driver wants to wait, and how long a pair looks for frames by itself.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// A handle on the counters of what passes and what does not.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// A handle that plugs the cable in and out.
    pub fn link(&self) -> Link {
        self.link.clone()
    }

    fn made(&self) -> Made {
        Made { mac: self.mac, mtu: self.mtu }
    }

    fn card(&self, features: Features) -> Card {
        let (mtu, link, counters) = (self.mtu, self.link.clone(), self.counters.clone());
        let (clock, polling) = (self.clock.clone(), self.polling);
        let complained = Arc::clone(&self.complained);
        Card { features, mtu, link, counters, clock, polling, complained }
    }
}

impl<B: NetBackend> VirtioDevice for Net<B> {
    fn id(&self) -> DeviceId {
        DeviceId::NET
    }

    fn features(&self) -> Features {
        self.features
    }

    fn rings(&self) -> Features {
        self.rings
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn start(&mut self, features: Features, queues: Queues) -> Result<(), StartError> {
        let card = self.card(features);
        match &mut self.served {
            Served::Here(workers) => workers.start(&card, self.mac, queues),
            Served::InKernel(workers) => workers.start(&card, self.mac, queues),
        }
    }

    fn stop(&mut self) -> Vec<QueueState> {
        let states = match &mut self.served {
            Served::Here(workers) => workers.stop(),
            Served::InKernel(workers) => workers.stop(),
        };
        // The next driver reads it before the card is started.
        self.link.show_mac(self.mac);
        states
    }

    /// What the driver has asked for, the link, and by what the card is known again.
    fn save(&self) -> Vec<u8> {
        let settings = match &self.served {
            Served::Here(workers) => workers.settings(),
            Served::InKernel(workers) => workers.settings(),
        };
        saved::save(self.made(), &self.link, settings)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let made = self.made();
        let (pairs, mine) = match &mut self.served {
            Served::Here(workers) => (workers.pairs(), workers.settings_mut()),
            Served::InKernel(workers) => (workers.pairs(), workers.settings_mut()),
        };
        let (link, settings) = saved::restored(state, made, pairs)?;
        *mine = settings;
        self.link.restore(link);
        Ok(())
    }
}
