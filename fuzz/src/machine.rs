//! A device and a driver by the script, every step looked after.

use std::ops::Range;

use cubie_virtq::{Chain, Drained, Features, QueueError, QueueResources, Serve, Virtqueue};
use cubie_vm_irq::Interrupt;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::driver::{Driver, available_index, poke};
use crate::guest::Guest;
use crate::script::{Answer, MOST_STEPS, Script, Serving, Setup, Step};
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

/// Carries a script out, with these features and those that it asks for itself.
///
/// # Panics
/// If anything of what the crate's page lists does not hold.
pub(crate) fn play(script: &Script, features: Features) -> Outcome {
    let Script { setup, steps } = script;
    let mut guest = Guest::new();
    let guest = &mut guest;
    let event_idx = if setup.event_idx { Features::bit(29) } else { Features::default() };
    let fault = EventFd::new(EFD_NONBLOCK).expect("an eventfd");
    let start = Start { setup, features: features.with(event_idx), fault: &fault };
    let queue = match start.queue(setup.state, guest) {
        Ok(queue) => queue,
        Err(error) => return Outcome { served: 0, error: Some(error) },
    };
    let mut machine = Machine {
        next_avail: setup.state.next_avail,
        seen: setup.state.next_avail,
        driver: Driver::new(setup),
        parts: start.device_parts(guest),
        start,
        queue,
        guest,
        held: vec![],
        lost: 0,
        served: 0,
        error: None,
    };
    for step in steps.iter().take(MOST_STEPS) {
        machine.step(step);
        machine.look_after();
    }
    let Machine { served, error, .. } = machine;
    assert_eq!(fault.read().unwrap_or(0), u64::from(error.is_some()), "told once");
    Outcome { served, error }
}

/// What each start of the queue has in common.
struct Start<'a> {
    setup: &'a Setup,
    features: Features,
    fault: &'a EventFd,
}

impl Start<'_> {
    fn queue(&self, state: cubie_virtq::QueueState, guest: &Guest) -> Result<Virtqueue, QueueError> {
        Virtqueue::new(QueueResources {
            index: 0,
            params: self.setup.params,
            state,
            features: self.features,
            kick: EventFd::new(EFD_NONBLOCK).expect("an eventfd"),
            interrupt: Interrupt::silent(),
            fault: Interrupt::new(self.fault.try_clone().expect("an eventfd")),
            memory: guest.memory().clone(),
        })
    }

    /// What the device may write without a chain.
    fn device_parts(&self, guest: &Guest) -> Vec<Range<usize>> {
        let params = &self.setup.params;
        let len = 6 + 8 * usize::from(params.size);
        let at = guest.place(params.device, len).expect("the queue has started with it");
        vec![at..at + len]
    }
}

struct Machine<'a> {
    start: Start<'a>,
    queue: Virtqueue,
    guest: &'a mut Guest,
    held: Vec<Held>,
    lost: usize,
    served: usize,
    error: Option<QueueError>,
    /// What the device may write without a chain.
    parts: Vec<Range<usize>>,
    next_avail: u16,
    /// The available index as the device has last read it.
    seen: u16,
    driver: Driver,
}

impl Machine<'_> {
    fn step(&mut self, step: &Step) {
        if self.driver.step(step, self.guest) {
            return;
        }
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
            Step::Lose(which) => self.lost += usize::from(self.choose(*which).is_some()),
            Step::Signal => self.queue.signal(),
            Step::LookAgain => {
                if self.queue.look_again() {
                    self.guest.check(&self.parts);
                    self.seen = available_index(self.guest, self.start.setup).unwrap_or(self.seen);
                }
            }
            Step::Restart => self.restart(),
            _ => unreachable!("the driver has done its steps"),
        }
    }

    /// What holds after every step.
    fn look_after(&mut self) {
        self.guest.check(&self.parts);
        let in_flight = self.held.len() + self.lost;
        assert!(in_flight <= self.queue.size().into(), "{in_flight} in flight");
        if self.start.setup.well_placed {
            assert_eq!(self.queue.state().next_avail, self.next_avail);
        }
        if self.error.is_none() {
            self.error = self.queue.error();
        }
        if self.error.is_some() {
            assert_eq!(self.queue.error(), self.error, "the first one stays");
            assert!(self.queue.pop().is_none() && !self.queue.look_again());
            let end = self.queue.drain(|_| panic!("a broken queue serves"));
            assert_eq!(end, Drained::Broken);
            self.guest.check(&self.parts);
        }
    }

    fn take(&mut self, chain: Chain) -> Held {
        assert!(chain.head() < self.queue.size());
        self.guest.check(&self.parts);
        was_available(self.guest, self.start.setup, &mut self.next_avail, &mut self.seen);
        self.served += 1;
        Held::new(chain, self.queue.size(), self.guest)
    }

    fn drain(&mut self, servings: &[Serving]) {
        let size = self.queue.size();
        let Self { queue, guest, held, parts, next_avail, seen, start, served, .. } = self;
        let (mut calls, mut stopped) = (0, false);
        let end = queue.drain(|chain| {
            assert!(chain.head() < size && !stopped);
            guest.check(parts);
            was_available(guest, start.setup, next_avail, seen);
            let mut now = Held::new(chain, size, guest);
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
                    *next_avail = next_avail.wrapping_sub(1);
                    Serve::Stop(now.chain)
                }
            }
        });
        *served += calls;
        guest.check(parts);
        *seen = available_index(guest, start.setup).unwrap_or(*seen);
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
            self.next_avail = self.next_avail.wrapping_sub(1);
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
            self.queue = self.start.queue(state, self.guest).expect("it has started before");
            assert_eq!(self.queue.state(), state);
            self.seen = self.next_avail;
        }
    }
}

/// Checks that the chain just taken had been offered.
fn was_available(guest: &Guest, setup: &Setup, next: &mut u16, seen: &mut u16) {
    if setup.well_placed {
        let offered = |index: u16| (1..=setup.params.size).contains(&index.wrapping_sub(*next));
        if !offered(*seen) {
            *seen = available_index(guest, setup).expect("well placed");
        }
        assert!(offered(*seen), "{next} is taken and {seen} are available");
    }
    *next = next.wrapping_add(1);
}
