//! A device goes on in another transport, or in its own.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use cubie_virtq::QueueError;
use cubie_vm_irq::{Interrupt, Trigger};
use proptest::prelude::*;

use super::page::{Event, Shared, event, happen};
use super::{Bench, STATUS, VERSION_1};
use crate::mmio::MmioTransport;
use crate::{Features, Interface, QueueStage, TransportState};

mod bad;
mod queues;

const INTERRUPT_STATUS: u64 = 0x60;

/// All that a driver can read, but for wider accesses.
fn registers(bench: &mut Bench) -> Vec<u32> {
    (0..0x200).step_by(4).map(|offset| bench.get(offset)).collect()
}

/// Another device, in the state of this one, and paused.
fn moved(bench: &mut Bench) -> Bench {
    let mut new = Bench::new();
    new.registers = new.registers.with_interface(bench.registers.interface);
    new.registers.restore(&bench.registers.save()).unwrap();
    new
}

impl Shared {
    fn moved(&mut self) -> Self {
        let mut new = Self::new();
        new.bench.registers.restore(&self.bench.registers.save()).unwrap();
        new
    }

    fn words(&self) -> Vec<u32> {
        (0..0x200).step_by(4).map(|offset| self.load(offset)).collect()
    }
}

/// What happens, or a snapshot.
fn step() -> impl Strategy<Value = Option<Event>> {
    prop_oneof![4 => event().prop_map(Some), 1 => Just(None)]
}

proptest! {
    #[test]
    fn the_page_of_another_transport_reads_the_same(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut shared = Shared::new();
        for step in &steps {
            let Some(event) = step else {
                let before = shared.words();
                shared = shared.moved();
                prop_assert_eq!(&shared.words(), &before, "restored");
                shared.bench.registers.resume().unwrap();
                prop_assert_eq!(&shared.words(), &before, "and resumed");
                continue;
            };
            happen(&mut shared.bench, event);
            prop_assert_eq!(shared.words(), registers(&mut shared.bench));
        }
    }
}

#[test]
fn a_device_that_is_saved_stands_still_until_it_resumes() {
    let mut bench = Bench::new();
    bench.drive();
    let state = bench.registers.save();
    assert!(state.live && !bench.seen.running.load(Ordering::SeqCst));
    assert_eq!(bench.registers.save(), state, "once more");
    bench.registers.resume().unwrap();
    assert!(bench.seen.running.load(Ordering::SeqCst));
    bench.registers.resume().unwrap();
    assert_eq!(bench.seen.starts.load(Ordering::SeqCst), 2, "a second time changes nothing");
}

#[test]
fn what_a_driver_starts_meanwhile_starts_with_resume() {
    let mut bench = Bench::new();
    bench.registers.save();
    bench.drive();
    assert_eq!(bench.get(STATUS), 15);
    assert!(!bench.seen.running.load(Ordering::SeqCst));
    bench.registers.resume().unwrap();
    assert!(bench.seen.running.load(Ordering::SeqCst));
    bench.registers.save();
    bench.set(STATUS, 0);
    bench.registers.resume().unwrap();
    assert!(!bench.seen.running.load(Ordering::SeqCst), "nor does what it has reset");
}

#[test]
fn each_queue_in_use_is_kicked_once_and_what_pends_is_raised_again() {
    let mut bench = Bench::new();
    bench.drive();
    bench.config.update(|bytes| bytes[0] = 9);
    let mut new = moved(&mut bench);
    assert!(new.line.read().is_err(), "nothing before it goes on");
    new.registers.resume().unwrap();
    assert_eq!((new.line.read().unwrap(), new.get(INTERRUPT_STATUS)), (1, 2));
    let kicks: Vec<_> = new.registers.kicks().iter().map(|kick| kick.read().ok()).collect();
    assert_eq!(kicks, [Some(1), None], "the second one was never set up");
    new.set(0x64, 2);
    let mut newer = moved(&mut new);
    newer.registers.resume().unwrap();
    assert!(newer.line.read().is_err(), "nothing pends");
}

/// Saves its transport when it is told of a change: the line has not been told yet.
struct Saver(Arc<Mutex<MmioTransport>>, Arc<Mutex<Vec<TransportState>>>);

impl Trigger for Saver {
    fn trigger(&self) {
        self.1.lock().unwrap().push(self.0.lock().unwrap().save());
    }
}

#[test]
fn a_change_of_the_configuration_that_is_just_being_told_pends_after_driver_ok() {
    for (status, pending) in [(11, 0), (15, 2)] {
        let mut bench = Bench::new();
        bench.negotiate(VERSION_1);
        bench.set(0x44, 1);
        bench.set(STATUS, status);
        let Bench { registers, config, .. } = bench;
        let (registers, saved) = (Arc::new(Mutex::new(registers)), Arc::<Mutex<Vec<_>>>::default());
        config.connect(Some(Interrupt::new(Saver(registers.clone(), saved.clone()))));
        config.update(|bytes| bytes[0] = 9);
        let during = saved.lock().unwrap().remove(0);
        assert_eq!((during.config[0], during.interrupt_status), (9, pending));
        assert_eq!(registers.lock().unwrap().save().interrupt_status, 0, "and afterwards not");
    }
}

#[test]
fn a_device_that_did_not_start_is_not_started() {
    let mut bench = Bench::new();
    bench.negotiate(VERSION_1);
    bench.set(STATUS, 15);
    assert_eq!(bench.get(STATUS), 15 | 0x40, "without its queue");
    let mut new = moved(&mut bench);
    new.registers.resume().unwrap();
    assert_eq!((new.get(STATUS), new.seen.starts.load(Ordering::SeqCst)), (15 | 0x40, 0));
    assert_eq!(new.line.read().unwrap(), 1, "the driver has not heard of it");
}

#[test]
fn a_device_that_cannot_go_on_says_so_and_asks_for_a_reset() {
    let mut bench = Bench::new();
    bench.drive();
    let mut state = bench.registers.save();
    state.queues[0].params.desc = 0x8000_0000;
    let mut new = Bench::new();
    new.registers.restore(&state).unwrap();
    let error = new.registers.resume().unwrap_err().to_string();
    assert!(error.starts_with("queue 0: the descriptor table at 0x80000000"), "{error}");
    assert_eq!((new.get(STATUS), new.get(INTERRUPT_STATUS)), (15 | 0x40, 2));
    new.drive();
    assert_eq!(new.get(STATUS), 15);
}

#[test]
fn a_transport_of_another_kind_goes_on_as_well() {
    let mut trapped = Bench::new();
    trapped.drive();
    let mut shared = Shared::new();
    shared.bench.registers.restore(&trapped.registers.save()).unwrap();
    shared.bench.registers.resume().unwrap();
    assert_eq!(shared.load(INTERRUPT_STATUS), 1, "used buffers are always the reason in a page");
    let mut back = moved(&mut shared.bench);
    back.registers.resume().unwrap();
    assert_eq!((back.line.read().unwrap(), back.get(INTERRUPT_STATUS)), (1, 1));
    back.set(0x64, 1);
    assert_eq!(back.get(INTERRUPT_STATUS), 0);
}

#[test]
fn a_legacy_driver_that_was_early_hears_afterwards_what_was_kept_from_it() {
    let mut bench = Bench::new();
    bench.registers = bench.registers.with_interface(Interface::Legacy);
    for (register, value) in [(STATUS, 1), (STATUS, 3), (0x30, 0), (0x40, 1), (0x30, 1), (0x40, 3)]
    {
        bench.set(register, value);
    }
    assert!(bench.seen.running.load(Ordering::SeqCst));
    bench.config.update(|bytes| bytes[0] = 9);
    let mut new = moved(&mut bench);
    new.registers.resume().unwrap();
    assert!(new.seen.running.load(Ordering::SeqCst));
    assert_eq!((new.get(0x40), new.get(INTERRUPT_STATUS)), (3, 0));
    new.set(STATUS, 7);
    assert_eq!((new.get(STATUS), new.get(INTERRUPT_STATUS)), (7, 2));
}

#[test]
fn a_state_says_what_the_driver_has_broken() {
    let mut bench = Bench::new();
    bench.drive_with(VERSION_1 | Features::RING_RESET.0);
    let fault = bench.seen.fault.lock().unwrap().clone().unwrap();
    fault.tell(0, QueueError::TotalLength);
    let queue = bench.registers.save().queues[0];
    assert_eq!((queue.stage, queue.broken), (QueueStage::Ready, true));
    bench.registers.resume().unwrap_err();
    bench.set(0xc0, 1);
    let queue = bench.registers.save().queues[0];
    assert!(!queue.broken, "it was reset");
    fault.tell(0, QueueError::TotalLength);
    assert!(!bench.registers.save().queues[0].broken, "late word of the queue that it was");
}
