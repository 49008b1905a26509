//! One of the device's queues, as far as the front-end has set it up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cubie_virtio_core::{Features, QueueState};
use cubie_virtq::QueueParams;
use cubie_vm_irq::Interrupt;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::memory::Memory;
use crate::request::Addresses;

/// How far a queue has got.
#[derive(Clone, Copy, Debug)]
enum Progress {
    /// As SET_VRING_BASE has it: the used index of a split ring is in the ring.
    Base(u32),
    /// The device has served it.
    State(QueueState),
}

/// A queue's set-up. It is *on* when it has a kick and is enabled.
#[derive(Debug)]
pub(crate) struct Ring {
    /// The device's own size, and the one that the driver wants.
    most: u16,
    pub(crate) size: u16,
    pub(crate) addresses: Option<Addresses>,
    progress: Option<Progress>,
    kick: Option<EventFd>,
    pub(crate) call: Option<Interrupt>,
    pub(crate) error: Option<Interrupt>,
    pub(crate) enabled: bool,
    /// The driver has broken it. A queue that is started anew has another one.
    broken: Arc<AtomicBool>,
    /// The device serves it at the moment.
    pub(crate) served: bool,
    /// Somebody may wait for an interrupt that was never sent: of a daemon that was killed between a used index and
    /// its interrupt, or from before there was a call.
    unheard: bool,
}

impl Ring {
    pub(crate) fn new(most: u16) -> Self {
        Self {
            most,
            size: most,
            addresses: None,
            progress: None,
            kick: None,
            call: None,
            error: None,
            enabled: false,
            broken: Arc::default(),
            served: false,
            unheard: false,
        }
    }

    /// As at the beginning, but for whom to tell: front-ends say that once.
    pub(crate) fn reset(&mut self) {
        let (call, error) = (self.call.take(), self.error.take());
        *self = Self { call, error, ..Self::new(self.most) };
    }

    /// It goes on from here when it starts.
    pub(crate) fn set_base(&mut self, base: u32) {
        self.progress = Some(Progress::Base(base));
        self.unheard = true;
    }

    /// Whom its interrupts go to from now on.
    pub(crate) fn set_call(&mut self, call: Option<Interrupt>) {
        self.call = call;
        self.unheard = true;
    }

    /// It is served from now on. An interrupt too many does no harm; with an event index, one too few would be the
    /// last: the driver's event lies behind the used index then, and is never passed.
    pub(crate) fn catch_up(&mut self) {
        if let Some(call) = self.call.as_ref().filter(|_| self.served && self.unheard) {
            call.trigger();
            self.unheard = false;
        }
    }

    /// The device has got so far.
    pub(crate) fn set_state(&mut self, state: QueueState) {
        self.progress = Some(Progress::State(state));
    }

    /// It starts, as soon as all is there.
    pub(crate) fn start(&mut self, kick: EventFd) {
        (self.kick, self.broken) = (Some(kick), Arc::default());
    }

    /// It stops. How far it has got, as GET_VRING_BASE has it.
    pub(crate) fn stop(&mut self, features: Features) -> u32 {
        self.kick = None;
        let base = match self.progress {
            Some(Progress::Base(base)) => base,
            Some(Progress::State(state)) => state.vring_base(features),
            None => QueueState::fresh(features).vring_base(features),
        };
        self.progress = Some(Progress::Base(base));
        base
    }

    /// The device is to serve it.
    pub(crate) fn is_on(&self, all_enabled: bool) -> bool {
        self.kick.is_some() && (self.enabled || all_enabled) && !self.broken.load(Ordering::SeqCst)
    }

    /// Who hears that the driver has broken it: the front-end, and whoever starts the device again.
    pub(crate) fn fault(&self) -> Fault {
        Fault { broken: Arc::clone(&self.broken), error: self.error.clone() }
    }

    /// Where it lies, if its parts lie in `memory`.
    pub(crate) fn place(&self, memory: &Memory) -> Option<QueueParams> {
        let Addresses { desc, driver, device } = self.addresses?;
        Some(QueueParams {
            size: self.size,
            desc: memory.guest_address(desc)?,
            driver: memory.guest_address(driver)?,
            device: memory.guest_address(device)?,
        })
    }

    /// How far it has got, if it lies at `params`.
    pub(crate) fn state(
        &self,
        params: QueueParams,
        features: Features,
        memory: &Memory,
    ) -> QueueState {
        let base = match self.progress {
            None => return QueueState::fresh(features),
            Some(Progress::State(state)) => return state,
            Some(Progress::Base(base)) => QueueState::from_vring_base(features, base),
        };
        if features.has(Features::PACKED) {
            return base;
        }
        // What is wrong with the ring, its start will say.
        let used = params.used_index(memory.map());
        QueueState { next_used: used.unwrap_or(base.next_used), ..base }
    }

    /// The driver's notifications arrive here. Of a ring that is off, none.
    pub(crate) fn kick(&self) -> io::Result<EventFd> {
        match &self.kick {
            Some(kick) => kick.try_clone(),
            None => EventFd::new(EFD_NONBLOCK),
        }
    }
}

/// See [`Ring::fault`].
#[derive(Debug)]
pub(crate) struct Fault {
    broken: Arc<AtomicBool>,
    error: Option<Interrupt>,
}

impl Fault {
    pub(crate) fn tell(&self) {
        self.broken.store(true, Ordering::SeqCst);
        if let Some(error) = &self.error {
            error.trigger();
        }
    }
}
