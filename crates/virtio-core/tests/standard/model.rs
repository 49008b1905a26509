//! The standard's register file (VIRTIO 1.4 §2.1, §3.1, §4.2) as a small model: what each register reads
//! after any history of writes, and what the device behind it has been told.

mod queues;

/// One of the two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Legacy = 1,
    Modern = 2,
}

/// How far the driver has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    Nothing,
    Acknowledged,
    Driven,
    Negotiated,
    Live,
}

use Phase::{Acknowledged, Driven, Live, Negotiated, Nothing};

/// What a queue is for the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Served {
    #[default]
    Absent,
    /// In reset.
    Idle,
    /// Size, three addresses, and how often it was stopped since it was set up.
    At([u64; 4], u16),
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    served: Served,
    /// As written: size, descriptor area, driver area, device area.
    place: [u64; 4],
    align: u64,
}

/// What is offered, and the device's own.
pub(crate) const MAX: [u32; 2] = [8, 16];
pub(crate) const OFFERED: u64 =
    1 << 5 | 1 << 28 | 1 << 29 | 1 << 32 | 1 << 34 | 1 << 38 | 1 << 40 | 1 << 50;
pub(crate) const REGION: (u32, u64, u64) = (3, 0x2_0000_1000, 0x1_0000_2000);

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) version: Version,
    phase: Phase,
    failed: bool,
    needs_reset: bool,
    running: bool,
    chosen: u64,
    offered_word: u32,
    chosen_word: u32,
    queue: u32,
    region: u32,
    page_size: u64,
    queues: [Queue; 2],
    pending: u32,
    pub(crate) generation: u32,
    started_at: u32,
    pub(crate) kicks: [u64; 2],
}

impl Model {
    pub(crate) fn new(version: Version, generation: u32) -> Self {
        let queue =
            |max| Queue { served: Served::Absent, place: [u64::from(max), 0, 0, 0], align: 4096 };
        Self {
            version,
            phase: Nothing,
            failed: false,
            needs_reset: false,
            running: false,
            chosen: 0,
            offered_word: 0,
            chosen_word: 0,
            queue: 0,
            region: 0,
            page_size: 4096,
            queues: MAX.map(queue),
            pending: 0,
            generation,
            started_at: 0,
            kicks: [0; 2],
        }
    }

    fn is_modern(&self) -> bool {
        self.version == Version::Modern
    }

    fn offered(&self) -> u64 {
        if self.is_modern() { OFFERED } else { OFFERED & 0xffff_ffff | 1 << 27 }
    }

    /// What the device serves, while it runs, and with which features.
    pub(crate) fn serving(&self) -> Option<(u64, [Served; 2])> {
        self.running.then(|| (self.chosen, self.queues.map(|queue| queue.served)))
    }

    pub(crate) fn read(&self, register: u32) -> u32 {
        let queue = self.queues.get(self.queue as usize);
        let in_use = queue.filter(|queue| matches!(queue.served, Served::At(..)));
        let region = if self.region == REGION.0 { REGION } else { (0, !0, !0) };
        match register {
            0x00 => 0x7472_6976,
            0x04 => self.version as u32,
            0x08 => 42,
            0x0c => u32::from_le_bytes(*b"CUBI"),
            0x10 => {
                self.offered().checked_shr(self.offered_word.saturating_mul(32)).unwrap_or(0) as u32
            }
            0x34 => MAX.get(self.queue as usize).copied().unwrap_or(0),
            0x40 if !self.is_modern() => {
                in_use.map_or(0, |queue| queue.place[1] / self.page_size) as u32
            }
            0x44 if self.is_modern() => in_use.is_some().into(),
            0x60 => self.pending,
            0x70 => self.status(),
            0xb0 if self.is_modern() => region.2 as u32,
            0xb4 if self.is_modern() => (region.2 >> 32) as u32,
            0xb8 if self.is_modern() => region.1 as u32,
            0xbc if self.is_modern() => (region.1 >> 32) as u32,
            0xfc => self.generation,
            _ => 0,
        }
    }

    fn status(&self) -> u32 {
        let phase = match (self.phase, self.version) {
            (Nothing, _) => 0,
            (Acknowledged, _) => 1,
            (Driven, _) => 3,
            (Negotiated, _) => 11,
            (Live, Version::Modern) => 15,
            (Live, Version::Legacy) => 7,
        };
        phase | u32::from(self.needs_reset) << 6 | u32::from(self.failed) << 7
    }

    pub(crate) fn write(&mut self, register: u32, value: u32) {
        match register {
            0x14 => self.offered_word = value,
            0x20 => self.choose(value),
            0x24 => self.chosen_word = value,
            0x30 => self.queue = value,
            0x50 => self.kick(value),
            0x64 => self.pending &= !value,
            0x70 => self.set_status(value),
            0xac if self.is_modern() => self.region = value,
            _ if self.failed => {}
            0x28 if !self.is_modern() => {
                let in_use = self.queues.iter().any(|queue| matches!(queue.served, Served::At(..)));
                if value.is_power_of_two() && !in_use {
                    self.page_size = value.into();
                }
            }
            _ => self.set_queue(register, value),
        }
    }

    fn choose(&mut self, word: u32) {
        let shift = match self.chosen_word {
            _ if self.failed => return,
            0 => 0,
            1 if self.is_modern() => 32,
            _ => return,
        };
        let word = u64::from(word) << shift;
        match self.version {
            Version::Modern if self.phase == Driven => {
                self.chosen = self.chosen & !(0xffff_ffff << shift) | word;
            }
            Version::Legacy if !self.running => self.chosen = word & self.offered(),
            _ => {}
        }
    }

    fn kick(&mut self, value: u32) {
        let queue = if self.chosen >> 38 & 1 != 0 { value & 0xffff } else { value };
        if let Some(kicks) = self.kicks.get_mut(queue as usize).filter(|_| self.running) {
            *kicks += 1;
        }
    }

    fn set_status(&mut self, value: u32) {
        let order: &[(Phase, u32)] = match self.version {
            Version::Modern => &[(Acknowledged, 1), (Driven, 3), (Negotiated, 11), (Live, 15)],
            Version::Legacy => &[(Acknowledged, 1), (Driven, 3), (Live, 7)],
        };
        let all = order[order.len() - 1].1;
        let now = self.status() & all;
        match value {
            0 => *self = Self { kicks: self.kicks, ..Self::new(self.version, self.generation) },
            _ if self.failed => {}
            _ if value & 0x80 != 0 => self.failed = true,
            // A bit is taken back.
            _ if now & !value != 0 => {}
            // Not the first steps of the order: one is left out.
            _ if value & all != 0 && order.iter().all(|(_, bits)| *bits != value & all) => {}
            _ => {
                for (phase, bits) in order {
                    if *bits & !value == 0 && *phase > self.phase && !self.take_step(*phase) {
                        break;
                    }
                }
            }
        }
    }

    fn take_step(&mut self, phase: Phase) -> bool {
        let acceptable = self.chosen & !OFFERED == 0 && self.chosen >> 32 & 1 != 0;
        if phase == Negotiated && !acceptable {
            return false;
        }
        self.phase = phase;
        if phase == Live && self.running && self.started_at != self.generation {
            self.pending |= 2;
        }
        if phase == Live && !self.running && !self.needs_reset {
            self.start();
        }
        true
    }

    /// The device cannot do without queue 0, and no queue has the size 0.
    fn start(&mut self) {
        self.started_at = self.generation;
        let empty = |queue: &Queue| matches!(queue.served, Served::At([0, ..], _));
        self.running = self.queues[0].served != Served::Absent && !self.queues.iter().any(empty);
        if !self.running {
            self.needs_reset = true;
            self.config_changed();
        }
    }

    /// The configuration has changed, and the driver is told if it is ready for that.
    pub(crate) fn config_changed(&mut self) {
        if self.phase == Live {
            self.pending |= 2;
        }
    }

    /// The device was stopped and goes on.
    pub(crate) fn resumed(&mut self) {
        if self.running {
            for (queue, kicks) in self.queues.iter_mut().zip(&mut self.kicks) {
                if let Served::At(_, stops) = &mut queue.served {
                    (*stops, *kicks) = (*stops + 1, *kicks + 1);
                }
            }
        }
    }

    pub(crate) fn used_buffers(&mut self) {
        if self.running {
            self.pending |= 1;
        }
    }
}
