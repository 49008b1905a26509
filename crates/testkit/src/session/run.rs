//! A recording that is being played.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use cubie_virtio_core::VirtioDevice;
use virtio_bindings::virtio_mmio::*;
use vm_memory::{GuestMemoryError, GuestMemoryMmap};

use super::journal::wrote;
use super::layout::Layout;
use super::memory::copy;
use super::player::{Played, Player};
use super::recording::regions;
use super::ring::InFlight;
use super::step::{Bytes, Chain, Piece, Step};
use super::text::Text;
use crate::{Difference, Guest, RegisterTransport, Slot, Socket};

/// What is there now instead of what was recorded.
type Now = String;

pub(super) struct Run<'a> {
    player: Player<'a>,
    slot: Slot,
    registers: RegisterTransport,
    memory: Arc<GuestMemoryMmap>,
    layout: Layout,
    /// Chains that the device has finished with and the driver has not taken: bytes written.
    finished: BTreeMap<(u32, u16), u32>,
    /// Queues whose latest chains came without a kick.
    silent: BTreeSet<u32>,
    chains: usize,
    /// How many chains had been finished when the latest interrupt came.
    announced: Option<usize>,
    /// Chains were lent since then, or the configuration has changed.
    news: bool,
}

impl<'a> Run<'a> {
    pub(super) fn play(
        player: Player<'a>,
        device: Box<dyn VirtioDevice>,
    ) -> Result<Played, Difference> {
        let header = &player.recording.header;
        if header.device != device.id().0 {
            let of = |number| format!("device {number}");
            return Err(Difference::new(0, &of(header.device), of(device.id().0)));
        }
        let guest = Guest::apart();
        let memory = guest.memory().clone();
        if header.memory != regions(&memory) {
            let of = |regions| format!("a guest with memory at {regions:#x?}");
            return Err(Difference::new(0, &of(&header.memory), of(&regions(&memory))));
        }
        let interface = header.interface();
        let slot = Socket { interface, trapped: header.trapped, ..guest.socket() }.plug(device);
        let run = Self {
            player,
            registers: slot.transport(),
            slot,
            memory,
            layout: Layout::new(interface),
            finished: BTreeMap::new(),
            silent: BTreeSet::new(),
            chains: 0,
            announced: None,
            news: false,
        };
        run.all()
    }

    fn all(mut self) -> Result<Played, Difference> {
        let steps = &self.player.recording.steps;
        let (mut text, mut compared) = (Text::default(), 0);
        for (at, step) in steps.iter().enumerate() {
            let line = text.lines(step);
            self.step(step, &steps[at + 1..]).map_err(|now| Difference::new(at + 1, &line, now))?;
            compared += usize::from(matches!(step, Step::Take { .. }));
        }
        Ok(Played { steps: steps.len(), chains: compared })
    }

    fn step(&mut self, step: &Step, after: &[Step]) -> Result<(), Now> {
        match step {
            Step::Load { at, bytes } => self.load(*at, bytes),
            Step::Store { at, bytes } => self.store(*at, &bytes.0),
            Step::Lend { queue, area, chains } => self.lend(*queue, area, chains),
            Step::Take { queue, id, written, wrote } => self.take((*queue, *id), *written, wrote),
            Step::Missed { .. } => Err("nobody knows what the driver lent".to_owned()),
            Step::Interrupt => self.interrupt(after),
            Step::Config { bytes } => self.config(bytes),
            Step::Note { text } => {
                (self.player.on_note)(text);
                Ok(())
            }
        }
    }

    fn load(&mut self, at: u64, recorded: &Bytes) -> Result<(), Now> {
        let mut now = vec![0; recorded.0.len()];
        let waited = self.wait(|run| {
            run.registers.read_bytes(at, &mut now);
            Ok(will_do(at, &recorded.0, &now).then_some(()))
        })?;
        waited.ok_or_else(|| Text::default().lines(&Step::Load { at, bytes: Bytes(now) }))
    }

    fn store(&mut self, at: u64, bytes: &[u8]) -> Result<(), Now> {
        if let (Ok(offset), Ok(value)) = (u32::try_from(at), bytes.try_into()) {
            let value = u32::from_le_bytes(value);
            let before: Vec<u32> = self.layout.rings.keys().copied().collect();
            self.layout.store(offset, value);
            let rings = &self.layout.rings;
            self.finished.retain(|(queue, _), _| rings.contains_key(queue));
            self.silent.retain(|queue| rings.contains_key(queue));
            if offset == VIRTIO_MMIO_QUEUE_NOTIFY {
                self.silent.remove(&(value & 0xffff));
            }
            for (_, ring) in rings.iter().filter(|(queue, _)| !before.contains(queue)) {
                ring.clear(&self.memory).map_err(outside)?;
            }
        }
        self.registers.write_bytes(at, bytes);
        Ok(())
    }

    fn lend(&mut self, queue: u32, area: &[Piece], chains: &[Chain]) -> Result<(), Now> {
        for chain in chains {
            // The driver of then had it back, though nobody saw it take it.
            if self.in_flight(queue, chain.id).is_some() {
                self.answer((queue, chain.id))?;
            }
        }
        let ring = self.layout.rings.get_mut(&queue).ok_or("the queue was not set up")?;
        ring.lend_again(&self.memory, area, chains).map_err(outside)?;
        if !chains.is_empty() {
            self.silent.insert(queue);
            self.news = true;
        }
        Ok(())
    }

    fn take(&mut self, which: (u32, u16), then: u32, recorded: &[Piece]) -> Result<(), Now> {
        let (queue, id) = which;
        let (taken, written) = self.answer(which)?;
        let wrote = wrote(&self.memory, &taken, written);
        let now = |what: &str| {
            let step = Step::Take { queue, id, written, wrote: wrote.clone() };
            Err(format!("{}{what}", Text::default().lines(&step).trim_end()))
        };
        if written != then {
            return now("");
        }
        if !self.player.payload {
            return Ok(());
        }
        match first_difference(&self.memory, &taken, recorded) {
            None => Ok(()),
            Some((at, then, byte)) => {
                now(&format!(": byte {at} is {byte:02x}, and was {then:02x}"))
            }
        }
    }

    /// Takes a chain back, when the device has finished with it. The bytes written.
    fn answer(&mut self, which: (u32, u16)) -> Result<(InFlight, u32), Now> {
        let (queue, id) = which;
        if self.in_flight(queue, id).is_none() {
            return Err("the device does not have the chain".to_owned());
        }
        let deadline = self.player.deadline;
        let written = self.wait(|run| Ok(run.finished.remove(&which)))?;
        let written = written.ok_or_else(|| format!("no answer after {deadline:?}"))?;
        let ring = self.layout.rings.get_mut(&queue);
        let taken = ring.and_then(|ring| ring.take(id)).ok_or("the chain is gone")?;
        Ok((taken, written))
    }

    fn in_flight(&self, queue: u32, id: u16) -> Option<&InFlight> {
        self.layout.rings.get(&queue)?.in_flight(id)
    }

    fn interrupt(&mut self, after: &[Step]) -> Result<(), Now> {
        if self.is_announced(after) {
            return Ok(());
        }
        let deadline = self.player.deadline;
        let raised = self.wait(|run| Ok(run.slot.interrupt().read().ok()))?;
        raised.ok_or_else(|| format!("no interrupt after {deadline:?}"))?;
        self.collect()?;
        (self.announced, self.news) = (Some(self.chains), false);
        Ok(())
    }

    /// All that the driver finds after this interrupt was there at the one before: the device made one
    /// batch of two.
    fn is_announced(&self, after: &[Step]) -> bool {
        let more = |step: &&Step| !matches!(step, Step::Interrupt | Step::Lend { .. });
        let mut found = after.iter().take_while(more).filter_map(|step| match step {
            Step::Take { queue, id, .. } => Some((*queue, *id)),
            _ => None,
        });
        !self.news
            && self.announced == Some(self.chains)
            && found.all(|which| self.finished.contains_key(&which))
    }

    fn config(&mut self, recorded: &Bytes) -> Result<(), Now> {
        self.news = true;
        let config = self.slot.config().clone();
        let mut now = vec![];
        let waited = self.wait(|_| {
            now.resize(config.len(), 0);
            config.read(0, &mut now);
            Ok((now == recorded.0).then_some(()))
        })?;
        waited.ok_or_else(|| Text::default().lines(&Step::Config { bytes: Bytes(now) }))
    }

    /// Tries until there is something, or until the deadline.
    fn wait<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<Option<T>, Now>,
    ) -> Result<Option<T>, Now> {
        let end = Instant::now() + self.player.deadline;
        // The device of then was awake, and had asked for no kick. This one may sleep.
        for queue in std::mem::take(&mut self.silent) {
            self.registers.write(VIRTIO_MMIO_QUEUE_NOTIFY, queue);
        }
        loop {
            self.collect()?;
            let late = Instant::now() >= end;
            if let Some(found) = attempt(self)? {
                return Ok(Some(found));
            }
            if late {
                return Ok(None);
            }
            std::thread::yield_now();
        }
    }

    /// Notes what the device has finished with.
    fn collect(&mut self) -> Result<(), Now> {
        for (queue, ring) in &mut self.layout.rings {
            while let Some(end) = ring.next_used(&self.memory) {
                let finished = ring.pass_used(end);
                if finished.is_empty() {
                    let (id, _) = end;
                    return Err(format!("queue {queue}: chain {id}, which is not the device's"));
                }
                self.chains += finished.len();
                self.finished.extend(finished.iter().map(|(id, n)| ((*queue, *id), *n)));
            }
        }
        Ok(())
    }
}

fn outside(error: GuestMemoryError) -> Now {
    format!("a ring that the driver of then had in memory is not: {error}")
}

/// Does `now` do for a driver that has read `then`?
fn will_do(at: u64, then: &[u8], now: &[u8]) -> bool {
    let word = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(u32::from_le_bytes).ok();
    match (u32::try_from(at), word(then), word(now)) {
        (Ok(VIRTIO_MMIO_CONFIG_GENERATION), ..) => true,
        (Ok(VIRTIO_MMIO_INTERRUPT_STATUS | VIRTIO_MMIO_DEVICE_FEATURES), Some(then), Some(now)) => {
            now & then == then
        }
        (Ok(VIRTIO_MMIO_QUEUE_NUM_MAX), Some(then), Some(now)) => now >= then,
        _ => now == then,
    }
}

/// The first byte of a chain that is not as recorded: its offset in the writable bytes, then and now.
fn first_difference(
    memory: &GuestMemoryMmap,
    taken: &InFlight,
    recorded: &[Piece],
) -> Option<(usize, u8, u8)> {
    let buffers = taken.chain.writable();
    let now: Vec<u8> = buffers.flat_map(|b| copy(memory, b.at, b.len as usize)).collect();
    let offset = |piece: &Piece| usize::try_from(piece.at).unwrap_or(usize::MAX);
    let mut bytes = recorded.iter().flat_map(|piece| (offset(piece)..).zip(&piece.bytes.0));
    bytes.find_map(|(at, then)| {
        let now = now.get(at).copied().unwrap_or_default();
        (now != *then).then_some((at, *then, now))
    })
}
