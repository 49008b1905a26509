//! A queue whose rings a daemon serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cubie_virtio_core::{Features, QueueResources, QueueState, Source, StartError};
use cubie_virtq::QueueError;
use vhost::vhost_user::message::{VhostUserVringAddr, VhostUserVringAddrFlags};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::event::{is_raised, raise};

/// How long a daemon may take to finish what is in flight when it is to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A queue of the driver's, with what the daemon writes to.
pub(crate) struct Ring {
    queue: QueueResources,
    /// Where the parts are in this process, by which the daemon knows them.
    parts: VhostUserVringAddr,
    /// Written when the daemon has used buffers: the interrupt itself, or what the relay listens to.
    call: EventFd,
    broken: EventFd,
}

/// What the daemon says of a ring that it cannot do itself.
#[derive(Debug)]
pub(crate) struct RingRelay {
    queue: u16,
    /// Where the interrupt is no eventfd.
    call: Option<EventFd>,
    broken: EventFd,
    told: Told,
    dead: bool,
}

/// Whom the relay tells.
#[derive(Debug)]
struct Told {
    interrupt: cubie_vm_irq::Interrupt,
    fault: cubie_virtio_core::OnFault,
}

impl Ring {
    /// With the worker's end of it.
    pub(crate) fn new(queue: QueueResources) -> Result<(Self, RingRelay), StartError> {
        let index = queue.index;
        // The parts must be in one piece each, as they are in the daemon's mapping.
        let used = queue.params.used_index(&queue.memory);
        used.map_err(|source| StartError::Queue { index, source })?;
        let host = |address| queue.memory.get_host_address(GuestAddress(address));
        let host = |address| host(address).map(|at| at as u64).map_err(std::io::Error::other);
        let (desc, used, avail) =
            (host(queue.params.desc)?, host(queue.params.device)?, host(queue.params.driver)?);
        let flags = VhostUserVringAddrFlags::empty();
        let parts = VhostUserVringAddr::new(index.into(), flags, desc, used, avail, 0);
        let broken = EventFd::new(EFD_NONBLOCK)?;
        let (call, heard) = match queue.interrupt.offload() {
            Some(line) => (line.try_clone()?, None),
            None => {
                let call = EventFd::new(EFD_NONBLOCK)?;
                (call.try_clone()?, Some(call))
            }
        };
        let relay = RingRelay {
            queue: index,
            call: heard,
            broken: broken.try_clone()?,
            told: Told { interrupt: queue.interrupt.clone(), fault: queue.fault.clone() },
            dead: false,
        };
        Ok((Self { queue, parts, call, broken }, relay))
    }

    pub(crate) fn index(&self) -> u16 {
        self.queue.index
    }

    pub(crate) fn size(&self) -> u16 {
        self.queue.params.size
    }

    pub(crate) fn memory(&self) -> &Arc<GuestMemoryMmap> {
        &self.queue.memory
    }

    pub(crate) fn parts(&self) -> &VhostUserVringAddr {
        &self.parts
    }

    /// How far it has got, as the next daemon is told.
    pub(crate) fn base(&self) -> u32 {
        self.queue.state.vring_base(self.queue.features)
    }

    /// Call, error, and kick, in the order in which a daemon is told of them.
    pub(crate) fn events(&self) -> [&EventFd; 3] {
        [&self.call, &self.broken, &self.queue.kick]
    }

    /// A daemon serves it from now on: it looks for what was offered before, and the driver for what was used.
    pub(crate) fn begin(&self) {
        raise(&self.queue.kick);
        self.alert();
    }

    /// Has the driver look for what was used.
    pub(crate) fn alert(&self) {
        self.queue.interrupt.trigger();
    }

    /// Some daemons answer while requests are in flight: waits until the ring says that none is. `false` if that
    /// takes too long.
    pub(crate) fn has_settled(&self) -> bool {
        let QueueState { next_avail, next_used } = self.queue.state;
        let end = Instant::now() + PATIENCE;
        let split = !self.queue.features.has(Features::PACKED);
        let mut used = next_used;
        while split && used != next_avail {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
            used = self.used_index().unwrap_or(next_avail);
        }
        true
    }

    fn used_index(&self) -> Option<u16> {
        self.queue.params.used_index(&self.queue.memory).ok()
    }

    /// The daemon has stopped it and said how far it has got.
    pub(crate) fn stopped_at(&mut self, base: u32) {
        let known = QueueState::from_vring_base(self.queue.features, base);
        let used = self.used_index().unwrap_or(known.next_used);
        let packed = self.queue.features.has(Features::PACKED);
        let next_used = if packed { known.next_used } else { used };
        self.queue.state = QueueState { next_used, ..known };
    }

    /// The daemon has died. Of a split ring, the ring itself says how many were finished: all else is served again,
    /// by the next daemon, which finds in notes which these are, or takes them for the last ones, as it does after
    /// QEMU. A packed ring does not say it: `false`, and the driver is asked for a reset.
    pub(crate) fn orphaned(&mut self) -> bool {
        let split = !self.queue.features.has(Features::PACKED);
        match self.used_index() {
            Some(used) if split => {
                self.queue.state = QueueState { next_avail: used, next_used: used };
                true
            }
            _ => {
                self.give_up();
                false
            }
        }
    }

    /// Nobody can serve it: the driver is asked for a reset.
    pub(crate) fn give_up(&self) {
        self.queue.fault.tell(self.queue.index, QueueError::Elsewhere);
    }

    pub(crate) fn state(&self) -> QueueState {
        self.queue.state
    }
}

impl RingRelay {
    /// What the daemon writes to; each arrives as `token`.
    pub(crate) fn sources(&self, token: u32) -> impl Iterator<Item = Source> {
        let all = self.call.iter().chain([&self.broken]);
        all.map(move |event| Source::readable(event, token))
    }

    /// Passes on what the daemon has said.
    pub(crate) fn pass_on(&mut self) {
        // Neither is read: whether that would wait is for the daemon to say, which has them, too. An interrupt too many
        // does no harm.
        if self.call.as_ref().is_some_and(is_raised) {
            self.told.interrupt.trigger();
        }
        if !self.dead && is_raised(&self.broken) {
            self.dead = true;
            self.told.fault.tell(self.queue, QueueError::Elsewhere);
        }
    }
}
