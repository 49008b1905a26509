//! The one verb of a device towards its guest.

use std::fmt;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

/// Something that gets the guest's attention.
///
/// Called from any thread, also on the hot path: an implementation neither blocks nor takes a lock.
pub trait Trigger: Send + Sync {
    /// Raises the interrupt once. Raising an interrupt that is still pending is harmless.
    fn trigger(&self);

    /// The eventfd that has the same effect when somebody else writes it, if there is one: the kernel
    /// (vhost) or another process (vhost-user) can then raise the interrupt without us.
    fn offload(&self) -> Option<&EventFd> {
        None
    }
}

/// An eventfd that something else listens to, such as the kernel behind an irqfd (KVM API 4.75).
impl Trigger for EventFd {
    fn trigger(&self) {
        // The write fails only when the counter would pass 2⁶⁴ − 2: it is then pending anyway.
        let _ = self.write(1);
    }

    fn offload(&self) -> Option<&EventFd> {
        Some(self)
    }
}

/// Shared handle of a [`Trigger`]: what rings and devices carry.
#[derive(Clone)]
pub struct Interrupt(Arc<dyn Trigger>);

impl Interrupt {
    /// Wraps a trigger.
    pub fn new(trigger: impl Trigger + 'static) -> Self {
        Self(Arc::new(trigger))
    }

    /// An interrupt that nobody hears: for polling drivers and for tests.
    pub fn silent() -> Self {
        struct Silent;
        impl Trigger for Silent {
            fn trigger(&self) {}
        }
        Self::new(Silent)
    }

    /// Raises the interrupt once, see [`Trigger::trigger`].
    pub fn trigger(&self) {
        self.0.trigger();
    }

    /// See [`Trigger::offload`].
    pub fn offload(&self) -> Option<&EventFd> {
        self.0.offload()
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt").field("offload", &self.offload().is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_raise_the_same_line() {
        let line = EventFd::new(0).unwrap();
        let interrupt = Interrupt::new(line.try_clone().unwrap());
        interrupt.clone().trigger();
        interrupt.trigger();
        assert_eq!(line.read().unwrap(), 2);
    }

    #[test]
    fn an_eventfd_can_be_handed_to_somebody_else() {
        let line = EventFd::new(0).unwrap();
        let interrupt = Interrupt::new(line.try_clone().unwrap());
        interrupt.offload().unwrap().write(5).unwrap();
        assert_eq!(line.read().unwrap(), 5);
    }

    #[test]
    fn a_silent_interrupt_has_nothing_to_offload() {
        let silent = Interrupt::silent();
        silent.trigger();
        assert!(silent.offload().is_none());
    }
}
