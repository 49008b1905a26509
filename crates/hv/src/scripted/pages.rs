//! Pages that the scripted guest reads without an exit.

use std::io::ErrorKind;
use std::sync::{Arc, Weak};

use cubie_mmio_bus::MemoryPage;

/// Bytes of a page of the scripted host.
pub const PAGE_SIZE: usize = 0x1000;

/// The pages by address. Each lives as long as the handle that [`Pages::map`] gave.
#[derive(Default)]
pub(super) struct Pages(Vec<(u64, Weak<MemoryPage>)>);

impl Pages {
    /// A fresh page at `address`, which is aligned and free.
    pub(super) fn map(&mut self, address: u64) -> Result<Arc<MemoryPage>, ErrorKind> {
        if !address.is_multiple_of(PAGE_SIZE as u64) {
            return Err(ErrorKind::InvalidInput);
        }
        self.0.retain(|(_, page)| page.strong_count() > 0);
        if self.0.iter().any(|(base, _)| *base == address) {
            return Err(ErrorKind::AlreadyExists);
        }
        let page = Arc::new(MemoryPage::new(PAGE_SIZE));
        self.0.push((address, Arc::downgrade(&page)));
        Ok(page)
    }

    /// The `len` bytes at `address`, if one shown page has them all.
    pub(super) fn load(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let inside = |(base, page): &(u64, Weak<MemoryPage>)| {
            let offset = usize::try_from(address.checked_sub(*base)?).ok()?;
            (offset.checked_add(len)? <= PAGE_SIZE).then_some((offset, page.upgrade()?))
        };
        let (offset, page) = self.0.iter().find_map(inside)?;
        let byte = |at: usize| page.load(at & !3).to_le_bytes()[at & 3];
        page.is_shown().then(|| (offset..offset + len).map(byte).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cubie_mmio_bus::RegisterPage;

    #[test]
    fn a_load_of_any_width_gets_its_bytes() {
        let mut pages = Pages::default();
        let page = pages.map(0x1000).unwrap();
        page.store(4, &[0x0403_0201, 0x0807_0605]);
        assert_eq!(pages.load(0x1007, 1).unwrap(), [4]);
        assert_eq!(pages.load(0x1006, 4).unwrap(), [3, 4, 5, 6]);
        assert_eq!(pages.load(0x1004, 8).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(pages.load(0x1ff8, 8).unwrap(), [0; 8]);
    }

    #[test]
    fn a_load_beside_the_page_gets_nothing() {
        let mut pages = Pages::default();
        let _pages = [0, 0x2000].map(|address| pages.map(address).unwrap());
        for address in [0xff9, 0x1000, 0x1ffc, 0x2ffc, 0x3000, u64::MAX] {
            assert_eq!(pages.load(address, 8), None, "{address:#x}");
        }
    }

    #[test]
    fn a_place_is_aligned_and_free() {
        let mut pages = Pages::default();
        assert_eq!(pages.map(0x1800).unwrap_err(), ErrorKind::InvalidInput);
        let page = pages.map(0x1000).unwrap();
        assert_eq!(pages.map(0x1000).unwrap_err(), ErrorKind::AlreadyExists);
        drop(page);
        assert!(pages.map(0x1000).is_ok(), "the page went with its handle");
    }
}
