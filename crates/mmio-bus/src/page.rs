//! Registers that a guest reads as memory.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Memory that a guest reads in place of a device's registers; its writes still come through the bus.
///
/// For devices whose reads have no side effects: the device stores what its registers hold, and the
/// guest's loads cost no exit. The page is shown from the start and holds zeros. All methods may be
/// called from any thread, vCPU threads among them, while the guest runs.
///
/// Two stores at the same words by two threads need an order of their own: the page keeps each word
/// whole and nothing more.
pub trait RegisterPage: Send + Sync {
    /// Bytes: a page of the host's.
    fn size(&self) -> usize;

    /// Stores little-endian `words` from `offset` (a multiple of 4) on, each at once and in no order; the
    /// guest sees them when this returns, also one that reads past the cache. So one `store` after another
    /// makes an order.
    ///
    /// # Panics
    /// When the words leave the page or `offset` is no multiple of 4: the device's author is to blame.
    fn store(&self, offset: usize, words: &[u32]);

    /// From now on until [`show`](Self::show), the guest's loads come through the bus as well, and what
    /// is stored meanwhile is seen all at once. Hiding a hidden page changes nothing.
    fn hide(&self) -> io::Result<()>;

    /// The guest reads the memory again. Showing a shown page changes nothing.
    fn show(&self) -> io::Result<()>;
}

/// A [`RegisterPage`] of the host's own, which no guest maps: for tests of devices, and for machines
/// without a hypervisor.
#[derive(Debug)]
pub struct MemoryPage {
    words: Box<[AtomicU32]>,
    shown: AtomicBool,
}

impl MemoryPage {
    /// A page of `size` bytes, shown and zero.
    ///
    /// # Panics
    /// When `size` is no multiple of 4.
    pub fn new(size: usize) -> Self {
        assert!(size.is_multiple_of(4), "a page of {size} bytes ends inside a word");
        let words = (0..size / 4).map(|_| AtomicU32::new(0)).collect();
        Self { words, shown: AtomicBool::new(true) }
    }

    /// The word at `offset`, as a guest would read it while the page is shown.
    ///
    /// # Panics
    /// When `offset` is outside the page or no multiple of 4.
    pub fn load(&self, offset: usize) -> u32 {
        u32::from_le(self.words[word(offset)].load(Ordering::Acquire))
    }

    /// True when the guest reads the memory, false when its loads come through the bus.
    pub fn is_shown(&self) -> bool {
        self.shown.load(Ordering::Acquire)
    }
}

fn word(offset: usize) -> usize {
    assert!(offset.is_multiple_of(4), "offset {offset:#x} lies inside a word");
    offset / 4
}

impl RegisterPage for MemoryPage {
    fn size(&self) -> usize {
        self.words.len() * 4
    }

    fn store(&self, offset: usize, words: &[u32]) {
        let places = &self.words[word(offset)..][..words.len()];
        for (place, value) in places.iter().zip(words) {
            place.store(value.to_le(), Ordering::Release);
        }
    }

    fn hide(&self) -> io::Result<()> {
        self.shown.store(false, Ordering::Release);
        Ok(())
    }

    fn show(&self) -> io::Result<()> {
        self.shown.store(true, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_page_is_shown_and_zero() {
        let page = MemoryPage::new(0x1000);
        assert_eq!(page.size(), 0x1000);
        assert!(page.is_shown());
        assert!((0..0x1000).step_by(4).all(|offset| page.load(offset) == 0));
    }

    #[test]
    fn words_lie_where_they_were_stored_and_nowhere_else() {
        let page = MemoryPage::new(16);
        page.store(4, &[0x7472_6976, 2]);
        assert_eq!([0, 4, 8, 12].map(|offset| page.load(offset)), [0, 0x7472_6976, 2, 0]);
        page.store(12, &[3]);
        page.store(16, &[]);
        assert_eq!(page.load(12), 3);
    }

    #[test]
    fn a_hidden_page_keeps_what_is_stored_until_it_is_shown() {
        let page = MemoryPage::new(8);
        page.hide().unwrap();
        page.store(0, &[1, 2]);
        assert!(!page.is_shown());
        page.show().unwrap();
        assert!(page.is_shown());
        assert_eq!([page.load(0), page.load(4)], [1, 2]);
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn words_beyond_the_page_are_the_authors_mistake() {
        MemoryPage::new(8).store(4, &[1, 2]);
    }

    #[test]
    #[should_panic(expected = "inside a word")]
    fn an_offset_inside_a_word_is_the_authors_mistake() {
        MemoryPage::new(8).store(2, &[1]);
    }
}
