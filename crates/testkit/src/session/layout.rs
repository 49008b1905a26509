//! Where the queues lie, by what the driver has written to the registers.

use std::collections::BTreeMap;

use cubie_virtio_core::{Features, Interface};
use cubie_virtq::QueueParams;
use virtio_bindings::virtio_mmio::*;

use super::ring::Ring;
use crate::raw::QUEUE_RESET;

/// What the driver has said so far.
#[derive(Debug)]
pub(crate) struct Layout {
    interface: Interface,
    features: Features,
    high_features: bool,
    page_size: u32,
    select: u32,
    setups: BTreeMap<u32, Setup>,
    pub(crate) rings: BTreeMap<u32, Ring>,
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    params: QueueParams,
    align: u32,
}

impl Layout {
    pub(crate) fn new(interface: Interface) -> Self {
        Self {
            interface,
            features: Features::default(),
            high_features: false,
            page_size: 4096,
            select: 0,
            setups: BTreeMap::new(),
            rings: BTreeMap::new(),
        }
    }

    /// The driver stores to a register.
    pub(crate) fn store(&mut self, offset: u32, value: u32) {
        match offset {
            VIRTIO_MMIO_STATUS if value == 0 => *self = Self::new(self.interface),
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.high_features = value != 0,
            VIRTIO_MMIO_DRIVER_FEATURES => {
                half(&mut self.features.0, self.high_features, value);
            }
            VIRTIO_MMIO_GUEST_PAGE_SIZE => self.page_size = value,
            VIRTIO_MMIO_QUEUE_SEL => self.select = value,
            VIRTIO_MMIO_QUEUE_READY if value == 0 => self.forget(),
            QUEUE_RESET if value != 0 => self.forget(),
            VIRTIO_MMIO_QUEUE_READY if value == 1 => self.ready(),
            VIRTIO_MMIO_QUEUE_PFN if self.interface == Interface::Legacy => self.place(value),
            _ => self.shape(offset, value),
        }
    }

    fn shape(&mut self, offset: u32, value: u32) {
        let params = QueueParams { size: 0, desc: 0, driver: 0, device: 0 };
        let setup = self.setups.entry(self.select).or_insert(Setup { params, align: 4096 });
        let params = &mut setup.params;
        match offset {
            VIRTIO_MMIO_QUEUE_NUM => params.size = value as u16,
            VIRTIO_MMIO_QUEUE_ALIGN => setup.align = value,
            VIRTIO_MMIO_QUEUE_DESC_LOW => half(&mut params.desc, false, value),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => half(&mut params.desc, true, value),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => half(&mut params.driver, false, value),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => half(&mut params.driver, true, value),
            VIRTIO_MMIO_QUEUE_USED_LOW => half(&mut params.device, false, value),
            VIRTIO_MMIO_QUEUE_USED_HIGH => half(&mut params.device, true, value),
            _ => {}
        }
    }

    fn forget(&mut self) {
        self.rings.remove(&self.select);
    }

    fn ready(&mut self) {
        let setup = self.setups.get(&self.select).filter(|setup| setup.params.size != 0);
        if let Some(setup) = setup {
            let features = self.features;
            self.rings.entry(self.select).or_insert_with(|| Ring::new(setup.params, features));
        }
    }

    /// A legacy queue is one piece, but for the gap before the used ring (VIRTIO 1.4 §2.7.2).
    fn place(&mut self, page: u32) {
        if page == 0 {
            return self.forget();
        }
        let base = u64::from(page) * u64::from(self.page_size);
        if let Some(Setup { params, align }) = self.setups.get_mut(&self.select) {
            let entries = u64::from(params.size);
            params.desc = base;
            params.driver = base + 16 * entries;
            params.device =
                (params.driver + 2 * (3 + entries)).next_multiple_of(u64::from(*align).max(1));
        }
        self.ready();
    }
}

fn half(whole: &mut u64, high: bool, value: u32) {
    *whole = match high {
        true => *whole & 0xffff_ffff | u64::from(value) << 32,
        false => *whole & !0xffff_ffff | u64::from(value),
    };
}
