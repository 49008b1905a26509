//! How the pairs are to act, as the driver has asked for by commands.

use cubie_virtio_core::Features;

use crate::protocol::{Command, MQ};

/// What holds for all pairs. The default is what holds before the first command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Pairs of queues that the driver uses: the first ones.
    pub(crate) pairs: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pairs: 1 }
    }
}

/// What bounds a driver's commands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// What it has negotiated.
    pub(crate) features: Features,
    /// Pairs that it has set up.
    pub(crate) pairs: u16,
}

impl Settings {
    /// What holds after `command`; `None` if the driver may not ask for that.
    pub(crate) fn after(&self, command: Command, limits: Limits) -> Option<Self> {
        match command {
            Command::Pairs(pairs) => {
                let may = limits.features.has(MQ) && (1..=limits.pairs).contains(&pairs);
                may.then_some(Self { pairs })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_may_use_the_pairs_that_it_has_set_up() {
        let after = |features, pairs| {
            let limits = Limits { features, pairs: 4 };
            let settings = Settings::default().after(Command::Pairs(pairs), limits);
            settings.map(|settings| settings.pairs)
        };
        let pairs = [0, 1, 4, 5, 0x8001].map(|pairs| after(MQ, pairs));
        assert_eq!(pairs, [None, Some(1), Some(4), None, None]);
        assert_eq!(after(Features::default(), 1), None, "the command was not negotiated");
    }
}
