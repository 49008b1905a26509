//! The queues' registers.

use super::Phase::{Driven, Live, Negotiated};
use super::{MAX, Model, Queue, Served, Version};

impl Model {
    pub(super) fn set_queue(&mut self, register: u32, value: u32) {
        let Some(queue) = self.queues.get(self.queue as usize).copied() else { return };
        match self.version {
            Version::Modern if self.phase >= Negotiated => self.set_modern(queue, register, value),
            Version::Modern => {}
            Version::Legacy => self.set_legacy(queue, register, value),
        }
    }

    fn set_modern(&mut self, mut queue: Queue, register: u32, value: u32) {
        let live = self.phase == Live;
        let in_use = matches!(queue.served, Served::At(..));
        let reset = register == 0xc0 && value == 1 && self.chosen >> 40 & 1 != 0;
        let taken_back = register == 0x44 && value == 0 && in_use && live;
        if reset || taken_back {
            self.reset_queue();
        } else if in_use {
            if register == 0x44 && value == 0 && !live {
                self.queues[self.queue as usize].served = Served::Absent;
            }
        } else if live && queue.served != Served::Idle {
            // Too late for a queue that was not set up.
        } else if register == 0x44 && value == 1 {
            self.enable(queue);
        } else {
            queue.put(register, value, MAX[self.queue as usize]);
            self.queues[self.queue as usize] = queue;
        }
    }

    fn set_legacy(&mut self, mut queue: Queue, register: u32, value: u32) {
        match (queue.served, register) {
            (Served::At(..), 0x40) if value == 0 => return self.reset_queue(),
            (Served::At(..), _) => {}
            (_, 0x38) if value <= MAX[self.queue as usize] => queue.place[0] = value.into(),
            (_, 0x3c) if value.is_power_of_two() => queue.align = value.into(),
            (_, 0x40) if value != 0 => {
                let (size, desc) = (queue.place[0], u64::from(value) * self.page_size);
                let available = desc + 16 * size;
                let used = (available + 6 + 2 * size).div_ceil(queue.align) * queue.align;
                queue.place = [size, desc, available, used];
                self.enable(queue);
                let complete =
                    self.queues.iter().all(|queue| matches!(queue.served, Served::At(..)));
                if complete && !self.running && self.phase >= Driven && !self.needs_reset {
                    self.start();
                }
                return;
            }
            _ => {}
        }
        self.queues[self.queue as usize] = queue;
    }

    fn enable(&mut self, queue: Queue) {
        self.change(Queue { served: Served::At(queue.place, 0), ..queue });
    }

    fn reset_queue(&mut self) {
        let fresh = Self::new(self.version, 0).queues[self.queue as usize];
        let served = if self.running { Served::Idle } else { Served::Absent };
        self.change(Queue { served, ..fresh });
    }

    /// The selected queue changes, behind the back of a device that runs.
    fn change(&mut self, queue: Queue) {
        for queue in self.queues.iter_mut().filter(|_| self.running) {
            if let Served::At(_, stops) = &mut queue.served {
                *stops += 1;
            }
        }
        self.queues[self.queue as usize] = queue;
        if self.running {
            self.start();
        }
    }
}

impl Queue {
    /// Where the queue lies, word by word.
    fn put(&mut self, register: u32, value: u32, max: u32) {
        let (part, high) = match register {
            0x38 if value <= max => {
                self.place[0] = value.into();
                return;
            }
            0x80 | 0x84 => (1, register & 4 != 0),
            0x90 | 0x94 => (2, register & 4 != 0),
            0xa0 | 0xa4 => (3, register & 4 != 0),
            _ => return,
        };
        let [low_half, high_half] = [self.place[part] & 0xffff_ffff, self.place[part] >> 32];
        let value = u64::from(value);
        self.place[part] = if high { value << 32 | low_half } else { high_half << 32 | value };
    }
}
