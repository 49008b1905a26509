//! Interrupts that are held back until there is more to tell.

use std::num::NonZeroU32;

/// What a driver was not told of yet, and how much that may be.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// Completions that are told at once; `None` if each is.
    until: Option<NonZeroU32>,
    untold: u32,
    /// How often there was something to tell.
    told: u32,
}

impl Hold {
    /// So many more are published. Whether they have to wait.
    #[inline]
    pub(crate) fn keeps(&mut self, more: u32) -> bool {
        let Some(until) = self.until else { return false };
        self.untold = self.untold.saturating_add(more);
        self.untold < until.get()
    }

    /// Changes how many may wait. Whether those that do have to be told now.
    pub(crate) fn change(&mut self, until: Option<NonZeroU32>) -> bool {
        self.until = until;
        self.untold >= until.map_or(1, NonZeroU32::get)
    }

    /// All is told.
    #[inline]
    pub(crate) fn tell(&mut self) {
        self.untold = 0;
        self.told = self.told.wrapping_add(1);
    }

    /// The number of the interrupt that waits.
    #[inline]
    pub(crate) fn waiting(&self) -> Option<u32> {
        (self.untold > 0).then_some(self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_wait_and_no_more() {
        let mut hold = Hold::default();
        assert!(!hold.keeps(1) && hold.waiting().is_none(), "nothing is held back at first");
        assert!(!hold.change(NonZeroU32::new(10)));
        assert!(hold.keeps(4) && hold.keeps(5));
        assert_eq!(hold.waiting(), Some(0));
        assert!(!hold.keeps(1));
        hold.tell();
        assert_eq!(hold.waiting(), None);
        assert!(hold.keeps(9) && hold.waiting() == Some(1));
        assert!(!hold.change(NonZeroU32::new(10)) && hold.change(NonZeroU32::new(9)));
        assert!(hold.change(None), "what waits is told when nothing is held back any more");
    }
}
