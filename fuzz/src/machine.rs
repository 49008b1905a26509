//! A device and a driver by the script, every step looked after.

use std::ops::Range;

use cubie_virtq::{
    Chain, Drained, Features, OnFault, QueueError, QueueResources, QueueState, Serve, Virtqueue,
};
use cubie_vm_irq::Interrupt;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::driver::{Driver, poke};
use crate::guest::Guest;
use crate::model::Model;
use crate::script::{Answer, MOST_STEPS, Script, Serving, Start, Step};
use crate::serve::Held;

/// Batches that one `drain` may serve.
const MOST_BATCHES: usize = 4;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Chains that the device got.
    pub served: usize,
    /// What the queue said of the driver.
    pub error: Option<QueueError>,
}

impl Outcome {
    /// As a file's name: `served-4`, `descriptor-index`, `descriptor-index-after-2`.
    pub fn name(&self) -> String {
        let served = self.served.checked_next_power_of_two().unwrap_or(0) * self.served.min(1);
        let Some(error) = self.error else { return format!("served-{served}") };
        let variant = format!("{error:?}");
        let variant = variant.split([' ', '(']).next().unwrap_or_default();
        let mut name = String::new();
        for letter in variant.chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        if served > 0 { format!("{name}-after-{}", served.min(1)) } else { name }
    }
}

/// Carries a script out, with these features and those that it asks for itself.
///
/// # Panics
/// If anything of what the crate's page lists does not hold.
pub(crate) fn play(script: &Script, negotiated: Features) -> Outcome {
    let (start, mut guest) = (script.setup.start(negotiated), Guest::new());
    let fault = EventFd::new(EFD_NONBLOCK).expect("an eventfd");
    let queue = match queue(&start, start.state, &fault, &guest) {
        Ok(queue) => queue,
        Err(error) => return Outcome { served: 0, error: Some(error) },
    };
    let mut machine = Machine {
        parts: device_parts(&start, &guest),
        model: Model::new(&start, start.state),
        driver: Driver::new(&start),
        queue,
        start: &start,
        fault: &fault,
        guest: &mut guest,
        held: vec![],
        lost: 0,
        served: 0,
        error: None,
    };
    for step in script.steps.iter().take(MOST_STEPS) {
        if !machine.driver.step(step, machine.guest) {
            machine.step(step);
            machine.look_after();
        }
    }
    let Machine { served, error, .. } = machine;
    assert_eq!(fault.read().unwrap_or(0), u64::from(error.is_some()), "told once");
    Outcome { served, error }
}

fn queue(
    start: &Start,
    state: QueueState,
    fault: &EventFd,
    guest: &Guest,
) -> Result<Virtqueue, QueueError> {
    let fault = fault.try_clone().expect("an eventfd");
    Virtqueue::new(QueueResources {
        index: 0,
        params: start.params,
        state,
        features: start.features,
        kick: EventFd::new(EFD_NONBLOCK).expect("an eventfd"),
        interrupt: Interrupt::silent(),
        fault: OnFault::new(move |_, _| fault.write(1).expect("room for one")),
        memory: guest.memory().clone(),
    })
}

/// What the device may write without a chain: the used ring, or the upper halves of the descriptors
/// and its event suppression structure.
fn device_parts(start: &Start, guest: &Guest) -> Vec<Range<usize>> {
    let size = usize::from(start.params.size);
    let part = |address, len| {
        let at = guest.place(address, len).expect("the queue has started with it");
        at..at + len
    };
    if !start.packed {
        return vec![part(start.params.device, 6 + 8 * size)];
    }
    let ring = part(start.params.desc, 16 * size);
    let uppers = ring.step_by(16).map(|at| at + 8..at + 16);
    uppers.chain([part(start.params.device, 4)]).collect()
}

struct Machine<'a> {
    start: &'a Start,
    fault: &'a EventFd,
    queue: Virtqueue,
    guest: &'a mut Guest,
    driver: Driver,
    model: Model,
    held: Vec<Held>,
    /// Ring entries of the chains that the device has lost.
    lost: usize,
    served: usize,
    error: Option<QueueError>,
    parts: Vec<Range<usize>>,
}

impl Machine<'_> {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Drain(servings) => self.drain(servings),
            Step::Pop(touches) => {
                if let Some(chain) = self.queue.pop() {
                    let mut held = self.take(chain);
                    held.touch(touches, self.guest);
                    self.held.push(held);
                }
            }
            Step::Unpop => self.unpop(),
            Step::Push(which, written) => {
                if let Some(held) = self.choose(*which) {
                    self.queue.push(held.chain, *written);
                }
            }
            Step::Lose(which) => {
                self.lost += self.choose(*which).map_or(0, |held| usize::from(held.entries));
            }
            Step::Signal => self.queue.signal(),
            Step::LookAgain => {
                if self.queue.look_again() {
                    self.guest.check(&self.parts);
                    self.model.look(self.guest);
                }
            }
            Step::Restart => self.restart(),
            Step::Remap => {
                let memory = self.guest.memory().clone();
                self.queue.remap(memory).expect("the ring is where it was");
            }
            _ => unreachable!("the driver has done its steps"),
        }
    }

    /// What holds after every step.
    fn look_after(&mut self) {
        self.guest.check(&self.parts);
        let held: usize = self.held.iter().map(|held| usize::from(held.entries)).sum();
        let in_flight = held + self.lost;
        assert!(in_flight <= self.queue.size().into(), "{in_flight} in flight");
        if self.error.is_none() {
            self.error = self.queue.error();
        }
        if self.error.is_some() {
            assert_eq!(self.queue.error(), self.error, "the first one stays");
            assert!(self.queue.pop().is_none() && !self.queue.look_again());
            let end = self.queue.drain(|_| panic!("a broken queue serves"));
            assert_eq!(end, Drained::Broken);
            self.guest.check(&self.parts);
        } else if let Some(next) = self.model.next_avail() {
            assert_eq!(self.queue.state().next_avail, next);
        }
    }

    fn take(&mut self, chain: Chain) -> Held {
        assert!(chain.head() < self.queue.size());
        self.guest.check(&self.parts);
        let entries = self.model.take(self.guest);
        self.served += 1;
        Held::new(chain, entries, self.queue.size(), self.guest)
    }

    fn drain(&mut self, servings: &[Serving]) {
        let size = self.queue.size();
        let Self { queue, guest, held, parts, model, served, .. } = self;
        let (mut calls, mut stopped) = (0, false);
        let end = queue.drain(|chain| {
            assert!(chain.head() < size && !stopped);
            guest.check(parts);
            let entries = model.take(guest);
            let mut now = Held::new(chain, entries, size, guest);
            let serving = servings.get(calls);
            calls += 1;
            let Some(Serving { touches, poke: meanwhile, answer }) = serving else {
                return Serve::Done(now.chain, 0);
            };
            now.touch(touches, guest);
            if let Some((place, value)) = meanwhile {
                poke(guest, *place, *value);
            }
            match answer {
                Answer::Done(written) => Serve::Done(now.chain, *written),
                Answer::Later => {
                    held.push(now);
                    Serve::Later
                }
                Answer::Stop => {
                    stopped = true;
                    model.give_back(entries);
                    Serve::Stop(now.chain)
                }
            }
        });
        *served += calls;
        guest.check(parts);
        match end {
            Drained::Empty => model.look(guest),
            Drained::Yielded => model.perhaps_look(guest),
            Drained::Stopped | Drained::Broken => {}
        }
        assert!(calls <= MOST_BATCHES * usize::from(size));
        assert_eq!(end == Drained::Stopped, stopped);
        assert_eq!(end == Drained::Broken, queue.error().is_some());
        if end == Drained::Yielded {
            assert!(queue.kick().read().is_ok(), "it has kicked itself");
        }
    }

    fn unpop(&mut self) {
        // Only a chain just taken can be given back, so that one is.
        if let Some(chain) = self.queue.pop() {
            let held = self.take(chain);
            self.queue.unpop(held.chain);
            self.model.give_back(held.entries);
        }
    }

    fn choose(&mut self, which: u8) -> Option<Held> {
        let which = usize::from(which).checked_rem(self.held.len())?;
        Some(self.held.remove(which))
    }

    /// Stops the queue, if nothing is in flight, and starts another with its state.
    fn restart(&mut self) {
        if self.held.is_empty() && self.lost == 0 && self.error.is_none() {
            self.queue.signal();
            let state = self.queue.state();
            let again = queue(self.start, state, self.fault, self.guest);
            self.queue = again.expect("it has started before");
            assert_eq!(self.queue.state(), state);
            if self.model.next_avail().is_some() {
                self.model = Model::new(self.start, state);
            }
        }
    }
}
