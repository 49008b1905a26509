//! The host's blame.

use std::io;

/// The hypervisor refused something: the host is to blame, never the guest.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct HvError {
    /// What was asked for, as a person would say it: «create the VM».
    pub what: String,
    /// What the operating system answered.
    #[source]
    pub source: io::Error,
}

impl HvError {
    /// `what` was asked for, `source` came back.
    pub fn new(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { what: what.into(), source: source.into() }
    }

    /// `what` is something that this hypervisor or host does not have at all.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::new(what, io::ErrorKind::Unsupported)
    }

    /// True when the hypervisor or the host does not have what was asked for: another way may do.
    pub fn is_unsupported(&self) -> bool {
        self.source.kind() == io::ErrorKind::Unsupported
    }
}
