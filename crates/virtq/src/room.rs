//! Several chains as one room, for what does not fit into one.

use std::collections::VecDeque;
use std::ptr::NonNull;

use crate::segments::Pieces;
use crate::{Chain, Segments, Virtqueue};

/// When so many pieces of memory are lent, no further chain is: even with a long one they are fewer than a
/// system call takes.
const MOST_PIECES: usize = 256;

/// Chains taken from a queue and lent as one: their writable buffers, one behind the other. What arrives
/// uses as many of them as it needs, as received packets do that are spread over buffers (VIRTIO 1.4
/// §5.1.6.4); the others stay for the next.
///
/// The chains are in flight until the room is given back, which makes them the queue's next ones again.
///
/// The length of what arrives is not known before. So that nothing is lost when the driver is late with its
/// buffers, a room may have memory of its own behind them; what has come into that is copied when there are
/// buffers enough.
///
/// 1. [`Room::fill`] takes chains until there is enough.
/// 2. [`Room::lend`] lends them, with the first bytes set aside as a header that is written last.
/// 3. [`Room::settle`] if more was written than the chains have room for, now or when there are more.
/// 4. [`Room::push`] completes those chains that were written; [`Virtqueue::signal`] shows them to the driver.
/// 5. [`Room::give_back`] before the queue stops.
#[derive(Debug, Default)]
pub struct Room {
    chains: VecDeque<Chain>,
    /// Of several chains it can be more than memory has bytes, since buffers may overlap.
    len: u64,
    header: Pieces,
    rest: Pieces,
    /// Lent behind the chains.
    spare: Box<[u8]>,
    /// Bytes of the chains that were lent last.
    lent: usize,
    /// Bytes that came into the room's own memory first.
    copied: u64,
}

impl Room {
    /// A room that lends `spare` bytes of its own behind the chains, unless these have as many.
    pub fn with_spare(spare: usize) -> Self {
        Self { spare: vec![0; spare].into(), ..Self::default() }
    }

    /// Bytes that the chains have room for.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Chains in it. When they are as many as the queue has places, no more can come.
    pub fn chains(&self) -> usize {
        self.chains.len()
    }

    /// True when there is not a chain in it.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Takes chains from `queue`, up to `most`, until the room has `len` bytes or the ring has no more. The
    /// driver was told not to kick; end with [`Virtqueue::look_again`] if it should.
    pub fn fill(&mut self, queue: &mut Virtqueue, len: usize, most: usize) {
        queue.disable_kicks();
        while self.chains.len() < most && self.len < len as u64 {
            let Some(mut chain) = queue.pop() else { return };
            self.len += chain.writable().len() as u64;
            self.chains.push_back(chain);
        }
    }

    /// All but the first `header` bytes, which are set aside as [`Room::header`]; `None` when the chains have
    /// not so many.
    pub fn lend(&mut self, header: usize) -> Option<Segments<'_>> {
        gather(&self.chains, usize::MAX, &mut self.rest);
        self.lent = self.rest.len();
        if self.lent < self.spare.len() {
            self.add_spare();
        }
        self.header.clear();
        let there = self.lent >= header && self.rest.split_front(header, &mut self.header);
        there.then_some(Segments(&mut self.rest))
    }

    /// What [`Room::lend`] has set aside.
    pub fn header(&mut self) -> Segments<'_> {
        Segments(&mut self.header)
    }

    /// Copies out what lies from byte `at` on of what was lent last, such as a packet's own header once it has
    /// arrived. Returns the bytes copied: fewer than asked for when there are no more.
    pub fn peek(&mut self, at: usize, data: &mut [u8]) -> usize {
        gather(&self.chains, at + data.len(), &mut self.rest);
        if self.rest.len() < at + data.len() {
            self.add_spare();
        }
        let mut rest = Segments(&mut self.rest);
        rest.consume(at);
        rest.read(data)
    }

    /// Moves what of the first `written` bytes has come into the room's own memory to the chains taken since.
    /// `false` if these are not enough yet: fill the room first.
    #[must_use]
    pub fn settle(&mut self, written: usize) -> bool {
        let enough = self.len >= written as u64;
        let excess = written.saturating_sub(self.lent);
        if enough && excess > 0 {
            let (mut at, mut left) = (self.lent, &self.spare[..excess.min(self.spare.len())]);
            self.copied += left.len() as u64;
            for chain in &self.chains {
                self.rest.clear();
                self.rest.extend(&chain.body.writable);
                let mut here = Segments(&mut self.rest);
                let before = at.min(here.len());
                at -= before;
                here.consume(before);
                left = &left[here.write(left)..];
            }
        }
        enough
    }

    /// Bytes that [`Room::settle`] had to copy since the last time that this was asked for.
    pub fn take_copied(&mut self) -> u64 {
        std::mem::take(&mut self.copied)
    }

    /// Completes the chains that the first `written` bytes are in, at least one. How many they are.
    pub fn push(&mut self, queue: &mut Virtqueue, written: usize) -> usize {
        self.forget();
        let (mut left, mut count) = (written, 0);
        while (left > 0 || count == 0)
            && let Some(mut chain) = self.chains.pop_front()
        {
            let len = chain.writable().len();
            self.len -= len as u64;
            let here = left.min(len);
            left -= here;
            count += 1;
            // No chain has more than 2³² − 1 bytes.
            queue.push(chain, here as u32);
        }
        queue.count_as_one(count);
        count
    }

    /// How many chains the first `written` bytes are in, at least one if there is one.
    pub fn count(&self, written: usize) -> usize {
        let (mut end, mut count) = (0u64, 0);
        for chain in &self.chains {
            count += 1;
            end += chain.body.writable.len() as u64;
            if end >= written as u64 {
                break;
            }
        }
        count
    }

    /// Gives all chains back to `queue`, from which nothing else was taken since.
    pub fn give_back(&mut self, queue: &mut Virtqueue) {
        self.forget();
        self.len = 0;
        while let Some(chain) = self.chains.pop_back() {
            queue.unpop(chain);
        }
    }

    /// Lends the room's own memory, too.
    fn add_spare(&mut self) {
        let len = self.spare.len();
        if len > 0 {
            self.rest.push(NonNull::from(&mut *self.spare).cast(), len);
        }
    }

    /// Nothing is lent of chains that are gone.
    fn forget(&mut self) {
        self.header.clear();
        self.rest.clear();
    }
}

/// At least the first `len` bytes of `chains` as one, if there are so many in pieces that are not too many.
fn gather(chains: &VecDeque<Chain>, len: usize, into: &mut Pieces) {
    into.clear();
    for chain in chains {
        let all = into.len().checked_add(chain.body.writable.len());
        if into.len() >= len || into.left().len() >= MOST_PIECES || all.is_none() {
            break;
        }
        into.extend(&chain.body.writable);
    }
}
