//! VIRTIO_F_IN_ORDER (VIRTIO 1.4 §2.7.9, §2.8.8): chains are used in the order in which they were
//! made available, whatever order the device completes them in.

use crate::ring::Taken;

/// A chain that the device has completed.
#[derive(Clone, Copy, Debug)]
struct Completed {
    taken: Taken,
    written: u32,
    /// All of its writable bytes were written: it may be skipped, and the driver takes it for that.
    whole: bool,
}

/// Completed chains wait here for those before them.
///
/// A run of chains of which all but the last were written completely goes into the ring as one used
/// entry, the last one's.
#[derive(Debug)]
pub(crate) struct InOrder {
    /// By turn; as many as chains can be in flight.
    waiting: Box<[Option<Completed>]>,
    next: u16,
    oldest: u16,
    /// Its turn has come, but the next one may be used for both.
    last: Option<Completed>,
}

impl InOrder {
    pub(crate) fn new(size: u16) -> Self {
        let waiting = vec![None; size.into()].into();
        Self { waiting, next: 0, oldest: 0, last: None }
    }

    /// The turn of a chain that is taken now.
    pub(crate) fn take_turn(&mut self) -> u16 {
        let next = self.after(self.next);
        std::mem::replace(&mut self.next, next)
    }

    /// The chain taken last was given back.
    pub(crate) fn give_back(&mut self, turn: u16) {
        self.next = turn;
    }

    /// A chain of `room` writable bytes is complete. `push` gets what goes into the ring with
    /// it. How many chains have had their turn now, the last of which waits for [`InOrder::flush`].
    pub(crate) fn complete(
        &mut self,
        turn: u16,
        taken: Taken,
        (written, room): (u32, u32),
        mut push: impl FnMut(Taken, u32),
    ) -> u32 {
        let (whole, mut turns) = (written == room, 0);
        self.waiting[usize::from(turn)] = Some(Completed { taken, written, whole });
        while let Some(mut next) = self.waiting[usize::from(self.oldest)].take() {
            self.oldest = self.after(self.oldest);
            turns += 1;
            match self.last.take() {
                Some(last) if last.whole => next.taken.entries += last.taken.entries,
                Some(last) => push(last.taken, last.written),
                None => {}
            }
            self.last = Some(next);
        }
        turns
    }

    /// `push` gets what is still held back for the sake of a batch.
    pub(crate) fn flush(&mut self, push: impl FnOnce(Taken, u32)) {
        if let Some(last) = self.last.take() {
            push(last.taken, last.written);
        }
    }

    fn after(&self, turn: u16) -> u16 {
        let next = turn + 1;
        if usize::from(next) == self.waiting.len() { 0 } else { next }
    }
}
