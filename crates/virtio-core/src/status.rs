//! Device status (VIRTIO 1.4 §2.1, §3.1.1): what a driver may say next.

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};

pub(crate) const ACKNOWLEDGE: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE;
pub(crate) const DRIVER: u32 = VIRTIO_CONFIG_S_DRIVER;
pub(crate) const FEATURES_OK: u32 = VIRTIO_CONFIG_S_FEATURES_OK;
pub(crate) const DRIVER_OK: u32 = VIRTIO_CONFIG_S_DRIVER_OK;
pub(crate) const NEEDS_RESET: u32 = VIRTIO_CONFIG_S_NEEDS_RESET;
pub(crate) const FAILED: u32 = VIRTIO_CONFIG_S_FAILED;

/// The steps of an initialisation, in order.
pub(crate) const MODERN: &[u32] = &[ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK];
/// Those of drivers from before FEATURES_OK (VIRTIO 1.4 §3.1.2).
pub(crate) const LEGACY: &[u32] = &[ACKNOWLEDGE, DRIVER, DRIVER_OK];

/// What a write to the status register means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Back to the beginning.
    Reset,
    /// Nothing that a driver may say now.
    Ignore,
    /// The status becomes `status`, if the conditions of the new bits hold.
    Advance {
        /// The new status.
        status: u32,
        /// FEATURES_OK is new: it holds only if the device can work with the driver's features.
        negotiate: bool,
        /// DRIVER_OK is new: the device starts.
        start: bool,
    },
}

/// The driver, whose steps are `order`, writes `wanted` while the status is `now`.
///
/// Bits are only ever added, in their order; NEEDS_RESET is the device's own and FAILED ends it all.
pub(crate) fn step(order: &[u32], now: u32, wanted: u32) -> Step {
    if wanted == 0 {
        return Step::Reset;
    }
    if now & FAILED != 0 {
        return Step::Ignore;
    }
    let known = order.iter().fold(FAILED, |known, bit| known | bit);
    let status = now | wanted & known;
    let forgets = now & !wanted & !NEEDS_RESET != 0;
    let skips = order.windows(2).any(|pair| status & pair[0] == 0 && status & pair[1] != 0);
    if (forgets || skips) && wanted & FAILED == 0 {
        return Step::Ignore;
    }
    let new = status & !now;
    if new & FAILED != 0 {
        // A driver that gives up may do so from anywhere; nothing else counts.
        return Step::Advance { status: now | FAILED, negotiate: false, start: false };
    }
    Step::Advance { status, negotiate: new & FEATURES_OK != 0, start: new & DRIVER_OK != 0 }
}

/// Can a driver whose steps are `order` come to `status`, with or without the device's own NEEDS_RESET?
pub(crate) fn is_reachable(order: &[u32], status: u32) -> bool {
    let known = order.iter().fold(FAILED | NEEDS_RESET, |known, bit| known | bit);
    let skips = order.windows(2).any(|pair| status & pair[0] == 0 && status & pair[1] != 0);
    status & !known == 0 && !skips
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: u32 = ACKNOWLEDGE | DRIVER | FEATURES_OK;

    fn advance(status: u32, negotiate: bool, start: bool) -> Step {
        Step::Advance { status, negotiate, start }
    }

    #[test]
    fn the_table_of_transitions() {
        let table = [
            // A good driver.
            (0, ACKNOWLEDGE, advance(ACKNOWLEDGE, false, false)),
            (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, advance(ACKNOWLEDGE | DRIVER, false, false)),
            (ACKNOWLEDGE | DRIVER, READY, advance(READY, true, false)),
            (READY, READY | DRIVER_OK, advance(READY | DRIVER_OK, false, true)),
            // One in a hurry.
            (0, ACKNOWLEDGE | DRIVER, advance(ACKNOWLEDGE | DRIVER, false, false)),
            // Reset from anywhere.
            (0, 0, Step::Reset),
            (READY | DRIVER_OK, 0, Step::Reset),
            (FAILED, 0, Step::Reset),
            (READY | DRIVER_OK | NEEDS_RESET, 0, Step::Reset),
            // Steps left out.
            (0, DRIVER, Step::Ignore),
            (ACKNOWLEDGE, ACKNOWLEDGE | FEATURES_OK, Step::Ignore),
            (ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | DRIVER_OK, Step::Ignore),
            // Bits taken back.
            (READY, ACKNOWLEDGE | DRIVER, Step::Ignore),
            // NEEDS_RESET is the device's.
            (0, NEEDS_RESET, advance(0, false, false)),
            (READY | NEEDS_RESET, READY, advance(READY | NEEDS_RESET, false, false)),
            // SUSPEND, which is not offered.
            (READY | DRIVER_OK, READY | DRIVER_OK | 0x10, advance(READY | DRIVER_OK, false, false)),
            (ACKNOWLEDGE, ACKNOWLEDGE | 0x10, advance(ACKNOWLEDGE, false, false)),
            // Giving up.
            (ACKNOWLEDGE, FAILED, advance(ACKNOWLEDGE | FAILED, false, false)),
            (READY, READY | FAILED, advance(READY | FAILED, false, false)),
            (READY, READY | DRIVER_OK | FAILED, advance(READY | FAILED, false, false)),
            (ACKNOWLEDGE | FAILED, READY, Step::Ignore),
        ];
        for (now, wanted, expected) in table {
            assert_eq!(step(MODERN, now, wanted), expected, "{now:#x} -> {wanted:#x}");
        }
    }

    #[test]
    fn the_table_of_legacy_transitions() {
        let known = ACKNOWLEDGE | DRIVER;
        let table = [
            (0, known, advance(known, false, false)),
            (known, known | DRIVER_OK, advance(known | DRIVER_OK, false, true)),
            // FEATURES_OK does not exist, and harms nobody.
            (known, known | FEATURES_OK, advance(known, false, false)),
            (known, READY | DRIVER_OK, advance(known | DRIVER_OK, false, true)),
            (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER_OK, Step::Ignore),
            (known, ACKNOWLEDGE, Step::Ignore),
            (known | DRIVER_OK, 0, Step::Reset),
            (known, known | FAILED, advance(known | FAILED, false, false)),
        ];
        for (now, wanted, expected) in table {
            assert_eq!(step(LEGACY, now, wanted), expected, "{now:#x} -> {wanted:#x}");
        }
    }

    #[test]
    fn no_write_ever_skips_a_step() {
        for now in 0..=0xff {
            for wanted in 0..=0xff {
                let Step::Advance { status, .. } = step(MODERN, now, wanted) else {
                    continue;
                };
                let in_order =
                    |s: u32| MODERN.windows(2).all(|pair| s & pair[0] != 0 || s & pair[1] == 0);
                assert!(in_order(status) || !in_order(now), "{now:#x} -> {wanted:#x}");
            }
        }
    }

    #[test]
    fn what_is_reachable_is_what_steps_lead_to() {
        for order in [MODERN, LEGACY] {
            let mut reached = std::collections::BTreeSet::from([0, NEEDS_RESET]);
            while let Some(status) = reached.iter().copied().find_map(|now| {
                let steps = (0..=0xff).map(|wanted| step(order, now, wanted));
                steps.into_iter().find_map(|step| match step {
                    Step::Advance { status, .. } => [status, status | NEEDS_RESET]
                        .into_iter()
                        .find(|status| !reached.contains(status)),
                    Step::Reset | Step::Ignore => None,
                })
            }) {
                reached.insert(status);
            }
            for status in 0..=0x1ff {
                assert_eq!(is_reachable(order, status), reached.contains(&status), "{status:#x}");
            }
        }
    }
}
