//! Accesses that nobody answers.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// How many addresses are worth a line in the log: a guest chooses how many there are.
const MOST: usize = 16;

/// Remembers stray addresses, so that each is logged once and not too many are.
#[derive(Default)]
pub(crate) struct Strays(Mutex<BTreeSet<u64>>);

impl Strays {
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
        let strays = Strays::default();
        assert!(strays.note("load", 0x1000));
        assert!(!strays.note("store", 0x1000));
        assert!(strays.note("load", 0x1004));
    }

    #[test]
    fn a_guest_that_probes_everything_does_not_flood_the_log() {
        let strays = Strays::default();
        let logged = (0..10_000).filter(|address| strays.note("load", *address));
        assert_eq!(logged.count(), MOST);
    }
}
