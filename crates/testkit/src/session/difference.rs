//! Where a device answers differently.

use std::fmt;

/// The first step of a recording that this device does not answer as that one did.
///
/// Debug shows it as Display does, in lines: that is what a test with `unwrap` says.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("step {step} is different\n  recorded: {recorded}\n       now: {now}")]
pub struct Difference {
    step: usize,
    recorded: String,
    now: String,
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Difference {
    pub(super) fn new(step: usize, recorded: &str, now: impl Into<String>) -> Self {
        Self { step, recorded: recorded.trim_end().to_owned(), now: now.into() }
    }

    /// Which step, counted from 1; in the file, it is on the line after that. 0 when the device was not
    /// even played with.
    pub fn step(&self) -> usize {
        self.step
    }

    /// What the driver did there, with what it was answered: a line of the transcript.
    pub fn recorded(&self) -> &str {
        &self.recorded
    }

    /// What it is answered now.
    pub fn now(&self) -> &str {
        &self.now
    }
}
