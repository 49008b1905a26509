//! Accesses that nobody answers.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// How many addresses are worth a line in the log: a guest chooses how many there are.
const MOST: usize = 16;

/// Those of all machines of this process: a guest that restarts in a loop gets a new one each time.
pub(crate) static STRAYS: Strays = Strays::new();

/// Remembers stray addresses, so that each is logged once and not too many are.
pub(crate) struct Strays(Mutex<BTreeSet<u64>>);

impl Strays {
    const fn new() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }

    /// Logs a stray access of this kind («load»), if it is worth it; returns whether it was.
    pub(crate) fn note(&self, kind: &str, address: u64) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST || !seen.insert(address) {
            return false;
        }
        tracing::warn!("the guest's {kind} at {address:#x} reaches no device");
        if seen.len() == MOST {
            tracing::warn!("further addresses without a device are not logged");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_logged_once() {
        let strays = Strays::new();
        assert!(strays.note("load", 0x1000));
        assert!(!strays.note("store", 0x1000));
        assert!(strays.note("load", 0x1004));
    }

    #[test]
    fn a_guest_that_probes_everything_does_not_flood_the_log() {
        let strays = Strays::new();
        let logged = (0..10_000).filter(|address| strays.note("load", *address));
        assert_eq!(logged.count(), MOST);
    }
}
