//! How a recording is played.

use std::time::Duration;

use cubie_virtio_core::VirtioDevice;

use super::run::Run;
use crate::{Difference, Recording};

/// Answers are waited for so long.
const DEADLINE: Duration = Duration::from_secs(10);

/// Plays a [`Recording`], with a guest of its own.
///
/// The driver's steps are done in their order, each when the answers that the driver had before it are
/// there. What the standard leaves to a device is not compared:
///
/// * Chains may be finished in any order, and in other batches. An interrupt that was taken has to come,
///   unless an earlier one was for the same chains.
/// * A register that was loaded is loaded until it has the answer. The device may offer more features and
///   longer queues than it did, and more reasons for an interrupt may pend; ConfigGeneration is any number.
/// * Of a chain, the length that the device says and the bytes that it wrote have to be the same; behind
///   that length, what was written then. (Buffers hold 0xee before, so that what is not written is found.)
#[must_use = "nothing is played yet"]
pub struct Player<'a> {
    pub(super) recording: &'a Recording,
    pub(super) deadline: Duration,
    pub(super) payload: bool,
    pub(super) on_note: Box<dyn FnMut(&str) + 'a>,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// All that the driver did.
    pub steps: usize,
    /// Chains that the device finished with, as it did then.
    pub chains: usize,
}

impl<'a> Player<'a> {
    pub(crate) fn new(recording: &'a Recording) -> Self {
        Self { recording, deadline: DEADLINE, payload: true, on_note: Box::new(|_| ()) }
    }

    /// Compares of what the device wrote to chains only the length, such as for a device whose answers
    /// are random.
    pub fn ignoring_payload(self) -> Self {
        Self { payload: false, ..self }
    }

    /// Waits so long for each answer, instead of ten seconds.
    pub fn waiting(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// At each [`Slot::note`](crate::Slot::note), has `host` do what the host did then, such as to type.
    pub fn on_note(self, host: impl FnMut(&str) + 'a) -> Self {
        Self { on_note: Box::new(host), ..self }
    }

    /// Plays the recording with this device, from its first step to its last.
    ///
    /// # Errors
    /// Where the device first answers differently.
    pub fn play(self, device: Box<dyn VirtioDevice>) -> Result<Played, Difference> {
        Run::play(self, device)
    }
}
