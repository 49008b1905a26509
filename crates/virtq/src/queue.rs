//! The queue that a device holds.

mod notifications;

use std::io;
use std::sync::Arc;

use cubie_vm_irq::Interrupt;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::chain::Chain;
use crate::chains::{Batch, Chains};
use crate::hold::Hold;
use crate::memory::Translator;
use crate::ring::{Ring, either};
use crate::{
    Features, Inflight, OnFault, QueueError, QueueParams, QueueResources, QueueState, Signals,
};

/// Batches that one [`Virtqueue::drain`] serves before it lets other events in: a driver that never
/// stops must not keep its device from being stopped.
const MOST_BATCHES: usize = 4;

/// The smallest ring, of either kind, at the beginning of a page of its own.
const IDLE: QueueParams = QueueParams { size: 1, desc: 0, driver: 0x10, device: 0x20 };

/// What the closure of [`Virtqueue::drain`] did with a chain.
#[derive(Debug)]
pub enum Serve {
    /// Finished; this many bytes were written to its writable buffers.
    Done(Chain, u32),
    /// Kept: it will be completed by [`Virtqueue::push`].
    Later,
    /// Not served now: it stays the next one in the ring, and draining ends.
    Stop(Chain),
}

/// Why [`Virtqueue::drain`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// No chain is left; the driver will kick with the next one, if it is wanted to.
    Empty,
    /// The closure said [`Serve::Stop`]; the driver was told not to kick.
    Stopped,
    /// More are there, but other events want their turn: the queue has kicked itself.
    Yielded,
    /// The driver broke the ring, see [`Virtqueue::error`].
    Broken,
}

/// The device's end of a virtqueue.
///
/// Owned by one thread. Everything between a kick and the interrupt is here: suppression of kicks, the
/// batch, one update of the used index, the look-again, one interrupt.
#[derive(Debug)]
pub struct Virtqueue {
    ring: Ring,
    params: QueueParams,
    features: Features,
    chains: Chains,
    error: Option<QueueError>,
    hold: Hold,
    /// The device looks at the ring by itself.
    polled: bool,
    idle: bool,
    index: u16,
    kick: EventFd,
    interrupt: Interrupt,
    fault: OnFault,
    signals: Signals,
}

impl Virtqueue {
    /// Resolves the ring's parts to host memory. The addresses are the driver's, so that a failure is
    /// its fault.
    pub fn new(resources: QueueResources) -> Result<Self, QueueError> {
        let QueueResources { index, params, state, features, kick, interrupt, fault, memory } =
            resources;
        let mut memory = Translator::new(memory);
        let ring = Ring::new(&params, state, features, &mut memory)?;
        let chains = Chains::new(params.size, features, memory);
        Ok(Self {
            ring,
            params,
            features,
            chains,
            error: None,
            hold: Hold::default(),
            polled: false,
            idle: false,
            index,
            kick,
            interrupt,
            fault,
            signals: Signals::default(),
        })
    }

    /// A queue that its driver has reset (VIRTIO 1.4 §2.6.1), for a device that goes on with its others:
    /// empty, whoever kicks, and at the beginning. Where `resources` say that it lies, and how far it has
    /// got, counts for nothing.
    ///
    /// # Errors
    /// When the host has no page for it.
    pub fn idle(resources: QueueResources) -> io::Result<Self> {
        // A ring like any other, so that nothing on the road of a chain asks whether there is one; but in
        // memory that no driver can write to.
        let page = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4096)]);
        let memory = Arc::new(page.map_err(io::Error::other)?);
        let state = QueueState::fresh(resources.features);
        let queue = Self::new(QueueResources { params: IDLE, state, memory, ..resources });
        Ok(Self { idle: true, ..queue.map_err(io::Error::other)? })
    }

    /// Notes what is in flight in `inflight`, and takes first what was when the last queue with these notes ended,
    /// also with its process; where `state` said that the queue had got to counts for nothing. Before anything is
    /// taken. Of no effect on packed rings, nor with IN_ORDER, where one used entry stands for several chains.
    #[must_use]
    pub fn tracked(mut self, inflight: Inflight) -> Self {
        if let Ring::Split(ring) = &mut self.ring
            && !self.features.has(Features::IN_ORDER)
        {
            ring.track(inflight);
        }
        self
    }

    /// The driver's notifications arrive here; it need not be read when polled edge triggered.
    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// Which queue of its device.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        self.params.size
    }

    /// What was negotiated.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Whether the driver has reset it, see [`Virtqueue::idle`].
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// How far it has got. Valid while no chain is in flight and all is signalled.
    pub fn state(&self) -> QueueState {
        self.ring.state()
    }

    /// What the driver did wrong, once it has. The queue is dead until the device is reset.
    pub fn error(&self) -> Option<QueueError> {
        self.error
    }

    /// Serves all available chains in batches, then asks for the next kick.
    ///
    /// `serve` gets each chain once; see [`Serve`] for what it may answer. What it completes is
    /// published, and the driver interrupted, once a batch.
    pub fn drain(&mut self, mut serve: impl FnMut(Chain) -> Serve) -> Drained {
        for _ in 0..MOST_BATCHES {
            self.ring.disable_kicks();
            if self.error.is_some() {
                return Drained::Broken;
            }
            let batch = either!(&mut self.ring, ring => self.chains.batch(ring, &mut serve));
            self.signal();
            match batch {
                Ok(Batch::Full) => {}
                Ok(Batch::Stopped) => return Drained::Stopped,
                Ok(Batch::Empty) if self.look_again() => {}
                Ok(Batch::Empty) if self.error.is_none() => return Drained::Empty,
                Ok(Batch::Empty) => return Drained::Broken,
                Err(error) => {
                    self.latch(error);
                    return Drained::Broken;
                }
            }
        }
        self.kick_itself();
        Drained::Yielded
    }

    /// Takes the next chain, for devices that take several at once. `None` when the ring is empty, or
    /// broken. Kicks are neither enabled nor disabled: end with [`Virtqueue::look_again`].
    #[inline]
    pub fn pop(&mut self) -> Option<Chain> {
        if self.error.is_some() {
            return None;
        }
        let chain = either!(&mut self.ring, ring => self.chains.take(ring));
        chain.unwrap_or_else(|error| {
            self.latch(error);
            None
        })
    }

    /// Gives back the chain that [`Virtqueue::pop`] returned last, and then those before it, from the last to
    /// the first: it will be the next one again.
    pub fn unpop(&mut self, chain: Chain) {
        either!(&mut self.ring, ring => self.chains.give_back(ring, chain));
    }

    /// Completes a chain, of whose writable bytes the first `written` were written. The driver learns
    /// of it with the next [`Virtqueue::signal`]; with IN_ORDER, when the chains taken before it are
    /// complete too.
    #[inline]
    pub fn push(&mut self, chain: Chain, written: u32) {
        either!(&mut self.ring, ring => self.chains.put(ring, chain, written));
    }

    /// The memory map has changed: looks the ring and all further buffers up in `memory`. Chains in
    /// flight keep what they were made from mapped. Between two batches only, that is, not within
    /// [`Virtqueue::drain`]. A queue that is idle lies nowhere.
    ///
    /// # Errors
    /// When the ring does not lie in `memory`. The queue goes on in the old one.
    pub fn remap(&mut self, memory: Arc<GuestMemoryMmap>) -> Result<(), QueueError> {
        if self.idle {
            return Ok(());
        }
        let mut memory = Translator::new(memory);
        self.ring.remap(&self.params, &mut memory)?;
        self.chains.remap(memory);
        Ok(())
    }

    #[cold]
    fn latch(&mut self, error: QueueError) {
        self.error = Some(error);
        self.fault.tell(self.index, error);
    }
}
