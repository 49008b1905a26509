//! One request of the driver.

use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use crate::ring::Taken;
use crate::segments::{Pieces, Segments, StatusByte};

/// What a chain is made of; owned by the queue's pool while no chain uses it, so that taking a chain
/// allocates nothing.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) taken: Taken,
    /// With IN_ORDER: its place among the chains in flight, and its writable bytes.
    pub(crate) turn: u16,
    pub(crate) room: u32,
    pub(crate) readable: Pieces,
    pub(crate) writable: Pieces,
    pub(crate) header: Pieces,
    pub(crate) status: Option<StatusByte>,
    /// Keeps mapped what the segments point to.
    pub(crate) memory: Arc<GuestMemoryMmap>,
}

impl Body {
    pub(crate) fn new(memory: Arc<GuestMemoryMmap>) -> Box<Self> {
        Box::new(Self {
            taken: Taken { id: 0, entries: 0, descriptors: 0 },
            turn: 0,
            room: 0,
            readable: Pieces::default(),
            writable: Pieces::default(),
            header: Pieces::default(),
            status: None,
            memory,
        })
    }

    /// Forgets the buffers; the rest is written when the next chain is taken.
    #[inline]
    pub(crate) fn clear(&mut self) {
        let Self { taken: _, turn: _, room: _, readable, writable, header, status, memory: _ } =
            self;
        readable.clear();
        writable.clear();
        header.clear();
        *status = None;
    }
}

/// One request of the driver: buffers to read, then buffers to write.
///
/// It is completed exactly once, by [`Virtqueue::push`](crate::Virtqueue::push) or by returning it from
/// the closure of [`Virtqueue::drain`](crate::Virtqueue::drain). One that is dropped is lost to the
/// driver until the device is reset; with IN_ORDER, so are all that are taken after it.
#[must_use = "a chain that is not completed is lost to the driver"]
#[derive(Debug)]
pub struct Chain {
    /// All that belongs to it: so it is as cheap to move as a pointer.
    pub(crate) body: Box<Body>,
}

impl Chain {
    /// What the driver calls the chain: the index of its first descriptor, in a packed ring its buffer
    /// id. Less than the queue's size, and unique among the chains in flight of an honest driver.
    #[inline]
    pub fn head(&self) -> u16 {
        self.body.taken.id
    }

    /// What the driver gives.
    #[inline]
    pub fn readable(&mut self) -> Segments<'_> {
        Segments(&mut self.body.readable)
    }

    /// Where the driver wants its answer.
    #[inline]
    pub fn writable(&mut self) -> Segments<'_> {
        Segments(&mut self.body.writable)
    }

    /// Both at once.
    #[inline]
    pub fn split(&mut self) -> (Segments<'_>, Segments<'_>) {
        let Body { readable, writable, .. } = &mut *self.body;
        (Segments(readable), Segments(writable))
    }

    /// Sets the first `len` writable bytes aside as [`Chain::header`], to be written when the rest is
    /// there, as received packets have it, and takes them off [`Chain::writable`]. `false` when there
    /// are not so many. At most once a chain.
    #[must_use]
    pub fn reserve_header(&mut self, len: usize) -> bool {
        let Body { writable, header, .. } = &mut *self.body;
        writable.split_front(len, header)
    }

    /// What [`Chain::reserve_header`] has set aside; empty without it.
    pub fn header(&mut self) -> Segments<'_> {
        Segments(&mut self.body.header)
    }

    /// Sets the last writable byte aside as the request's status, as block requests and control
    /// commands have it, and takes it off [`Chain::writable`]. `false` when there is no such byte.
    #[must_use]
    pub fn reserve_status(&mut self) -> bool {
        self.body.status = StatusByte::take(&mut self.body.writable);
        self.body.status.is_some()
    }

    /// Writes the status set aside by [`Chain::reserve_status`]; without it, nothing.
    pub fn set_status(&mut self, status: u8) {
        if let Some(byte) = &self.body.status {
            byte.set(status);
        }
    }
}
