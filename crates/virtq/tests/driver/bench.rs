//! A driver and a device, and between them a model of what must come of each step.

use std::collections::VecDeque;
use std::sync::Arc;

use cubie_virtq::Features;
use cubie_virtq::driver::{Buffer, DriverQueue, Used};
use proptest::sample::Index;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::history::*;

/// How one side wants to be told of what the other does.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Always,
    Never,
    /// Of the entry so many ago, see [`Ask::answer`].
    Entry {
        ago: u32,
    },
}

impl Ask {
    /// Whether so many new entries are to be told of. Places come round again after `lap` entries.
    fn answer(&mut self, news: u32, lap: u32) -> bool {
        match self {
            Self::Always => news > 0,
            Self::Never => false,
            Self::Entry { ago } => {
                let new = *ago..*ago + news;
                *ago = new.end;
                new.into_iter().any(|entry| entry % lap == 0)
            }
        }
    }
}

/// A chain on its way, as the model knows it.
#[derive(Clone, Debug)]
struct Flight {
    token: u16,
    taken: Taken,
    writable: Vec<Buffer>,
    descriptors: u16,
    written: Vec<u8>,
    /// Its turn, with IN_ORDER.
    turn: u32,
}

/// A driver, a device, and the model between them.
pub(crate) struct Bench<D> {
    memory: Arc<GuestMemoryMmap>,
    driver: DriverQueue,
    device: D,
    features: Features,
    added: VecDeque<Flight>,
    published: VecDeque<Flight>,
    taken: Vec<Flight>,
    held: Vec<Flight>,
    completed: VecDeque<Flight>,
    turns: u32,
    next_turn: u32,
    free: u16,
    places: u64,
    tables: u64,
    kick: Ask,
    interrupt: Ask,
}

impl<D: Device> Bench<D> {
    pub(crate) fn new(
        memory: Arc<GuestMemoryMmap>,
        driver: DriverQueue,
        device: D,
        features: Features,
    ) -> Self {
        let free = driver.size();
        // All zeros: the first entry of a split ring, every one of a packed ring.
        let every = features.has(PACKED) || !features.has(EVENT_IDX);
        let ask = if every { Ask::Always } else { Ask::Entry { ago: 0 } };
        Self {
            memory,
            driver,
            device,
            features,
            added: VecDeque::new(),
            published: VecDeque::new(),
            taken: vec![],
            held: vec![],
            completed: VecDeque::new(),
            turns: 0,
            next_turn: 1,
            free,
            places: 0,
            tables: 0,
            kick: ask,
            interrupt: ask,
        }
    }

    pub(crate) fn run(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Add { readable, writable, indirect } => {
                    self.add(&readable, &writable, indirect);
                }
                Step::Publish => self.publish(),
                Step::Take(most) => (0..most).for_each(|_| self.take()),
                Step::Complete { which, batch, written } => self.complete(which, batch, written),
                Step::Pop(most) => (0..most).for_each(|_| self.pop()),
                Step::EnableInterrupts => {
                    let already = self.driver.enable_interrupts();
                    assert_eq!(already, !self.completed.is_empty());
                    self.interrupt = self.asked(&self.completed);
                }
                Step::DisableInterrupts => {
                    self.driver.disable_interrupts();
                    self.interrupt = Ask::Never;
                }
                Step::Arm => {
                    let already = self.device.arm();
                    assert_eq!(already, !self.published.is_empty());
                    self.kick = self.asked(&self.published);
                }
            }
            assert_eq!(self.driver.free(), self.free);
            assert_eq!(self.driver.error(), None);
        }
        self.finish();
    }

    /// All that is on its way arrives.
    fn finish(&mut self) {
        self.publish();
        while !self.published.is_empty() {
            self.take();
        }
        self.take();
        while let Some(first) = self.taken.first() {
            let data = vec![0x5a; first.taken.room];
            self.used(vec![(0, data)]);
        }
        while !self.completed.is_empty() {
            self.pop();
        }
        self.pop();
        assert_eq!(self.driver.free(), self.driver.size());
    }

    fn buffer(&mut self, len: u8, writable: bool) -> Buffer {
        self.places += 1;
        let address = DATA + STRIDE * (self.places % PLACES);
        self.memory
            .write_slice(&vec![self.places as u8; len.into()], GuestAddress(address))
            .unwrap();
        Buffer { address, len: len.into(), writable }
    }

    fn add(&mut self, readable: &[u8], writable: &[u8], indirect: bool) {
        // No chain is longer than the queue, by way of a table either (VIRTIO 1.4 §2.7.5.3.1).
        let fits = readable.len() + writable.len() <= self.driver.size().into();
        let indirect = indirect && fits && self.features.has(INDIRECT);
        let readable: Vec<_> = readable.iter().map(|len| self.buffer(*len, false)).collect();
        let writable: Vec<_> = writable.iter().map(|len| self.buffer(*len, true)).collect();
        let all = [&readable[..], &writable].concat();
        let (token, descriptors) = if indirect {
            self.tables += 1;
            let table = TABLES + TABLE_STRIDE * (self.tables % PLACES);
            (self.driver.add_indirect(&all, table), 1)
        } else {
            (self.driver.add(&all), all.len() as u16)
        };
        assert_eq!(token.is_some(), !all.is_empty() && descriptors <= self.free);
        let Some(token) = token else { return };
        let read = readable.iter().flat_map(|buffer| bytes(&self.memory, buffer)).collect();
        let room = writable.iter().map(|buffer| buffer.len as usize).sum();
        let taken = Taken { read, room };
        let flights = self.added.iter().chain(&self.published).chain(&self.taken);
        let mut flights = flights.chain(&self.held).chain(&self.completed);
        assert!(flights.all(|flight| flight.token != token), "a token twice");
        self.turns += 1;
        self.added.push_back(Flight {
            token,
            taken,
            writable,
            descriptors,
            written: vec![],
            turn: self.turns,
        });
        self.free -= descriptors;
    }

    fn publish(&mut self) {
        let news = self.entries(&self.added);
        self.published.append(&mut self.added);
        self.driver.publish();
        let expected = self.kick.answer(news, self.lap());
        assert_eq!(self.driver.wants_kick(), expected);
        assert!(!self.driver.wants_kick(), "nothing is new now");
    }

    /// What the places in event indices count: descriptors of a packed ring, chains of a split one.
    fn entries<'a>(&self, flights: impl IntoIterator<Item = &'a Flight>) -> u32 {
        let packed = self.features.has(PACKED);
        let entries = |flight: &Flight| if packed { flight.descriptors.into() } else { 1 };
        flights.into_iter().map(entries).sum()
    }

    fn lap(&self) -> u32 {
        if self.features.has(PACKED) { 2 * u32::from(self.driver.size()) } else { 1 << 16 }
    }

    /// One side asks to be told of the first of these entries, which are there already, or of the next.
    fn asked(&self, there: &VecDeque<Flight>) -> Ask {
        let event_idx = self.features.has(EVENT_IDX);
        if event_idx { Ask::Entry { ago: self.entries(there) } } else { Ask::Always }
    }

    fn take(&mut self) {
        let expected = self.published.pop_front();
        assert_eq!(self.device.take(), expected.as_ref().map(|flight| flight.taken.clone()));
        self.taken.extend(expected);
    }

    fn complete(&mut self, which: Index, batch: u8, written: Index) {
        if self.taken.is_empty() {
            return;
        }
        let in_order = self.features.has(IN_ORDER);
        let one = !in_order || D::HOLDS_BACK;
        let batch = if one { 1 } else { usize::from(batch).min(self.taken.len()) };
        let first = if one { which.index(self.taken.len()) } else { 0 };
        let chains = (first..first + batch).map(|n| {
            let room = self.taken[n].taken.room;
            let len = if n + 1 == first + batch { written.index(room + 1) } else { room };
            (n, vec![n as u8 ^ 0xa5; len])
        });
        let chains = chains.collect();
        self.used(chains);
    }

    fn used(&mut self, chains: Vec<(usize, Vec<u8>)>) {
        self.device.complete(chains.clone());
        let first = chains[0].0;
        let mut news = 0;
        for (flight, (_, written)) in self.taken.drain(first..first + chains.len()).zip(chains) {
            self.held.push(Flight { written, ..flight });
        }
        let in_order = self.features.has(IN_ORDER);
        let ready = |flight: &Flight, turn| !in_order || flight.turn == turn;
        while let Some(n) = self.held.iter().position(|flight| ready(flight, self.next_turn)) {
            let flight = self.held.swap_remove(n);
            news += self.entries([&flight]);
            self.completed.push_back(flight);
            self.next_turn += 1;
        }
        let expected = self.interrupt.answer(news, self.lap());
        assert_eq!(self.device.wants_interrupt(), expected);
    }

    fn pop(&mut self) {
        let expected = self.completed.pop_front();
        let used = expected
            .as_ref()
            .map(|flight| Used { token: flight.token, written: flight.written.len() as u32 });
        assert_eq!(self.driver.pop_used(), used);
        let Some(flight) = expected else { return };
        let buffers = flight.writable.iter().flat_map(|buffer| bytes(&self.memory, buffer));
        assert!(buffers.zip(&flight.written).all(|(there, written)| there == *written));
        self.free += flight.descriptors;
    }
}
