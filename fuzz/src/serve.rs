//! A chain in the device's hands, each touch of its segments foretold in the copy of memory.

use std::ops::Range;

use cubie_virtq::{Chain, Segments};

use crate::guest::{Guest, REGIONS};
use crate::script::Touch;

/// A chain that the device has.
pub(crate) struct Held {
    pub(crate) chain: Chain,
    /// Ring entries that it came in.
    pub(crate) entries: u16,
    reserved: bool,
    /// Where in the copy its status byte lies.
    status: Option<usize>,
}

impl Held {
    /// Takes over a new chain.
    ///
    /// # Panics
    /// If a piece of it lies outside of guest memory, or there are more than a descriptor can make.
    pub(crate) fn new(mut chain: Chain, entries: u16, size: u16, guest: &Guest) -> Self {
        let most = usize::from(size) * REGIONS.len();
        let (readable, writable) = chain.split();
        let pieces = readable.iovecs().len() + writable.iovecs().len();
        assert!(pieces <= most, "{pieces} pieces");
        assert!(readable.len() + writable.len() <= u32::MAX as usize);
        for segments in [readable, writable] {
            let spans = spans(&segments, usize::MAX, guest);
            assert_eq!(spans.iter().map(Range::len).sum::<usize>(), segments.len());
        }
        assert!(chain.header().is_empty());
        Self { chain, entries, reserved: false, status: None }
    }

    pub(crate) fn touch(&mut self, touches: &[Touch], guest: &mut Guest) {
        for touch in touches {
            self.once(*touch, guest);
        }
    }

    fn once(&mut self, touch: Touch, guest: &mut Guest) {
        let chain = &mut self.chain;
        match touch {
            Touch::Read(count) => {
                let spans = spans(&chain.readable(), count.into(), guest);
                let expected: Vec<u8> =
                    spans.into_iter().flat_map(|span| &guest.copy()[span]).copied().collect();
                let (mut bytes, before) = ([0; 255], chain.readable().len());
                let done = chain.readable().read(&mut bytes[..count.into()]);
                assert_eq!(&bytes[..done], expected);
                assert_eq!(chain.readable().len(), before - done);
            }
            Touch::Write(count, value) => fill(&mut chain.writable(), count, value, guest),
            Touch::Skip(count) => {
                let before = chain.writable().len();
                chain.writable().consume(count.into());
                assert_eq!(chain.writable().len(), before.saturating_sub(count.into()));
            }
            Touch::ReserveHeader(count) if !self.reserved => {
                let room = chain.writable().len() >= count.into();
                assert_eq!(chain.reserve_header(count.into()), room);
                assert_eq!(chain.header().len(), if room { count.into() } else { 0 });
                self.reserved = room;
            }
            Touch::WriteHeader(value) => fill(&mut chain.header(), 255, value, guest),
            Touch::ReserveStatus if self.status.is_none() => {
                let last =
                    spans(&chain.writable(), usize::MAX, guest).last().map(|span| span.end - 1);
                assert_eq!(chain.reserve_status(), last.is_some());
                self.status = last;
            }
            Touch::SetStatus(value) => {
                chain.set_status(value);
                if let Some(at) = self.status {
                    guest.copy_mut()[at] = value;
                }
            }
            Touch::ReserveHeader(_) | Touch::ReserveStatus => {}
        }
    }
}

/// Writes `count` bytes of `value`, to memory and to its copy.
fn fill(segments: &mut Segments, count: u8, value: u8, guest: &mut Guest) {
    let spans = spans(segments, count.into(), guest);
    let len: usize = spans.iter().map(Range::len).sum();
    assert_eq!(segments.write(&[value; 255][..count.into()]), len);
    for span in spans {
        guest.copy_mut()[span].fill(value);
    }
}

/// Where in the copy the first `count` bytes lie.
fn spans(segments: &Segments, count: usize, guest: &Guest) -> Vec<Range<usize>> {
    let mut left = count;
    let mut spans = vec![];
    for piece in segments.iovecs().iter().filter(|piece| piece.iov_len > 0) {
        let at = guest.place_of_host(piece.iov_base.addr(), piece.iov_len);
        let here = piece.iov_len.min(left);
        spans.push(at..at + here);
        left -= here;
    }
    spans
}
