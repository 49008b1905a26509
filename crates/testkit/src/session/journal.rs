//! The steps as they happen.

use std::sync::{Arc, Mutex};

use cubie_virtio_core::Config;
use cubie_virtq::driver::Buffer;
use vm_memory::GuestMemoryMmap;

use super::layout::Layout;
use super::memory::{changes, copy};
use super::recording::{Header, Recording};
use super::ring::{InFlight, Returned};
use super::step::{Bytes, Piece, Step};
use super::text::Text;
use crate::registers::lock;

/// What is written down of a slot. A shared handle: the registers have it, the slot, and the guest whose
/// drivers take their buffers back.
#[derive(Clone, Debug)]
pub(crate) struct Journal(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    header: Header,
    memory: Arc<GuestMemoryMmap>,
    config: Config,
    generation: u32,
    layout: Layout,
    steps: Vec<Step>,
    /// How many of them somebody has read, and how.
    told: usize,
    text: Text,
}

impl Journal {
    pub(crate) fn new(header: Header, memory: Arc<GuestMemoryMmap>, config: Config) -> Self {
        let log = Log {
            memory,
            generation: config.generation(),
            config,
            layout: Layout::new(header.interface()),
            header,
            steps: vec![],
            told: 0,
            text: Text::default(),
        };
        Self(Arc::new(Mutex::new(log)))
    }

    /// The driver has loaded from a register.
    pub(crate) fn loaded(&self, at: u64, answer: &[u8]) {
        let log = &mut *lock(&self.0);
        let step = Step::Load { at, bytes: Bytes(answer.to_vec()) };
        // A driver that polls says nothing new.
        if log.steps.last() != Some(&step) {
            log.look_at_config();
            log.steps.push(step);
        }
    }

    /// The driver is about to store to a register.
    pub(crate) fn stores(&self, at: u64, data: &[u8]) {
        let log = &mut *lock(&self.0);
        log.look();
        log.steps.push(Step::Store { at, bytes: Bytes(data.to_vec()) });
        if let (Ok(offset), Ok(value)) = (u32::try_from(at), data.try_into()) {
            log.layout.store(offset, u32::from_le_bytes(value));
        }
    }

    /// The driver is about to show the device a chain of these buffers, in a table of its own if there is one.
    pub(crate) fn lends(&self, queue: u32, id: u16, buffers: &[Buffer], table: Option<u64>) {
        let log = &mut *lock(&self.0);
        log.look();
        let ring = log.layout.rings.get_mut(&queue);
        if let Some(chain) = ring.and_then(|r| r.announced(&log.memory, (id, buffers, table))) {
            log.steps.push(Step::Lend { queue, area: vec![], chains: vec![chain] });
        }
    }

    /// The driver takes back a buffer, and with the first one of a chain the chain.
    pub(crate) fn takes_buffer(&self, at: u64) {
        let log = &mut *lock(&self.0);
        // It may have been made available without a kick.
        log.look();
        let mut rings = log.layout.rings.iter_mut();
        let found = rings.find_map(|(queue, ring)| {
            let end = ring.next_used(&log.memory)?;
            let chain = &ring.in_flight(end.0)?.chain;
            let is_its = chain.buffers.iter().any(|buffer| buffer.at == at);
            is_its.then(|| ring.pass_used(end)).map(|_| (*queue, end))
        });
        if let Some((queue, end)) = found {
            log.take(queue, end);
        }
    }

    /// The driver takes back a chain.
    pub(crate) fn takes_chain(&self, queue: u32, end: Returned) {
        let log = &mut *lock(&self.0);
        log.look();
        log.take(queue, end);
    }

    /// The driver takes the interrupt.
    pub(crate) fn takes_interrupt(&self) {
        let log = &mut *lock(&self.0);
        log.look();
        log.steps.push(Step::Interrupt);
    }

    /// The test has something to say.
    pub(crate) fn note(&self, text: &str) {
        let log = &mut *lock(&self.0);
        log.look();
        log.steps.push(Step::Note { text: text.to_owned() });
    }

    /// All steps so far.
    pub(crate) fn recording(&self) -> Recording {
        let log = &mut *lock(&self.0);
        log.look();
        Recording { header: log.header.clone(), steps: log.steps.clone() }
    }

    /// The steps since the last time, a line or more for each.
    pub(crate) fn tell(&self) -> String {
        let log = &mut *lock(&self.0);
        log.look();
        let news = &log.steps[log.told..];
        log.told = log.steps.len();
        news.iter().map(|step| log.text.lines(step)).collect()
    }
}

impl Log {
    fn look(&mut self) {
        self.look_at_config();
        for (queue, ring) in &mut self.layout.rings {
            let (area, chains) = ring.lent(&self.memory);
            if !area.is_empty() || !chains.is_empty() {
                self.steps.push(Step::Lend { queue: *queue, area, chains });
            }
        }
    }

    fn look_at_config(&mut self) {
        let generation = self.config.generation();
        if generation != self.generation {
            self.generation = generation;
            let mut bytes = vec![0; self.config.len()];
            self.config.read(0, &mut bytes);
            self.steps.push(Step::Config { bytes: Bytes(bytes) });
        }
    }

    fn take(&mut self, queue: u32, (id, written): Returned) {
        let ring = self.layout.rings.get_mut(&queue);
        let Some(taken) = ring.and_then(|ring| ring.take(id)) else {
            return self.steps.push(Step::Missed { queue, id });
        };
        let wrote = wrote(&self.memory, &taken, written);
        self.steps.push(Step::Take { queue, id, written, wrote });
    }
}

/// What the device wrote to a chain, buffer by buffer: what it says, and what has changed behind that.
pub(crate) fn wrote(memory: &GuestMemoryMmap, taken: &InFlight, written: u32) -> Vec<Piece> {
    let (mut pieces, mut base, mut left) = (vec![], 0, written as usize);
    for buffer in taken.chain.writable() {
        let now = copy(memory, buffer.at, buffer.len as usize);
        let before = taken.before.get(base..).unwrap_or_default();
        let said = left.min(now.len());
        if said > 0 {
            let bytes = Bytes(now[..said].to_vec());
            pieces.push(Piece { at: base as u64, bytes });
        }
        let behind = changes(before.get(said..).unwrap_or_default(), &now[said..]);
        let offset = (base + said) as u64;
        pieces.extend(behind.into_iter().map(|p| Piece { at: p.at + offset, bytes: p.bytes }));
        left -= said;
        base += now.len();
    }
    pieces
}
