//! States from a file that anybody has written to.

use cubie_virtq::{QueueParams, QueueState};
use proptest::prelude::*;

use super::super::page::{event, happen};
use super::super::{Bench, STATUS, VERSION_1};
use super::registers;
use crate::{DeviceId, Features, Interface, QueueStage, RestoreError, TransportState};

/// The state of a device at work.
fn live(interface: Interface) -> TransportState {
    let mut bench = Bench::new();
    bench.registers = bench.registers.with_interface(interface);
    match interface {
        Interface::Modern => bench.drive(),
        Interface::Legacy => {
            let stores =
                [(STATUS, 1), (STATUS, 3), (0x30, 0), (0x40, 1), (0x30, 1), (0x40, 3), (STATUS, 7)];
            stores.iter().for_each(|(register, value)| bench.set(*register, *value));
        }
    }
    let state = bench.registers.save();
    assert!(state.live);
    state
}

/// The fresh transport refuses a state that `spoil` has changed, and is as before.
#[track_caller]
fn refused(spoil: impl FnOnce(&mut TransportState)) -> RestoreError {
    let mut state = live(Interface::Modern);
    spoil(&mut state);
    let mut bench = Bench::new();
    let before = registers(&mut bench);
    let error = bench.registers.restore(&state).expect_err("a state that is refused");
    assert_eq!(registers(&mut bench), before);
    bench.drive();
    assert_eq!(bench.get(STATUS), 15, "it works");
    error
}

#[test]
fn a_state_of_another_device_is_refused_by_what_is_different() {
    use RestoreError::*;
    let here = Features(1 << 5 | 1 << 28 | 1 << 29 | 1 << 32 | 1 << 40).0;
    assert_eq!(refused(|state| state.version = 2), Version(2));
    assert_eq!(refused(|state| state.device = DeviceId(1)), Device { saved: 1, here: 42 });
    let saved = here | 1 << 6;
    assert_eq!(refused(|state| state.offered.0 = saved), Features { saved, here });
    assert_eq!(refused(|state| _ = state.queues.pop()), Queues { saved: 1, here: 2 });
    let error = QueueMax { queue: 1, saved: 8, here: 16 };
    assert_eq!(refused(|state| state.queues[1].max = 8), error);
    assert_eq!(refused(|state| state.config.push(0)), Config { saved: 5, here: 4 });
    let error = Interface { saved: crate::Interface::Legacy, here: crate::Interface::Modern };
    assert_eq!(refused(|state| state.interface = crate::Interface::Legacy), error);
    let error = Refused("1 bytes for one that has none".into());
    assert_eq!(refused(|state| state.own.push(1)), error);
}

/// How a state is spoiled.
type Spoil = fn(&mut TransportState);

#[test]
fn a_state_that_no_transport_comes_to_is_refused() {
    let damages: [(Spoil, &str); 13] = [
        (|state| state.status = 13, "no driver comes to this status"),
        (|state| state.status |= 0x100, "no driver comes to this status"),
        (|state| state.interrupt_status = 4, "interrupts for no known reason"),
        (|state| state.status = 1, "a device that runs without a driver"),
        (|state| state.status = 11, "a device that runs before DRIVER_OK"),
        (|state| state.live = false, "a device that does not run"),
        (|state| state.driver_features.0 = VERSION_1 | 1, "features that the device cannot"),
        (|state| state.driver_features.0 = 0, "features that the device cannot"),
        (|state| state.guest_page_size = 0, "a page size that is no power"),
        (|state| state.queues[0].params.size = 9, "a queue that is longer"),
        (|state| state.queues[0].align = 3, "an alignment that is no power"),
        (|state| state.queues[0].broken = true, "a broken queue nobody knows of"),
        (
            |state| (state.status, state.live) = (3, false),
            "a queue that is ready before FEATURES_OK",
        ),
    ];
    for (spoil, words) in damages {
        let error = refused(spoil).to_string();
        assert!(error.starts_with("the state is damaged: ") && error.contains(words), "{error}");
    }
}

#[test]
fn only_a_transport_without_a_driver_takes_a_state() {
    let state = live(Interface::Modern);
    let mut bench = Bench::new();
    bench.drive();
    assert_eq!(bench.registers.restore(&state), Err(RestoreError::InUse));
    assert_eq!(bench.get(STATUS), 15);
    bench.registers.reset();
    assert_eq!(bench.registers.restore(&state), Ok(()), "the same one, gone back");
    bench.registers.resume().unwrap();
    assert_eq!(bench.get(STATUS), 15);
}

/// A value for any field, near its limits more often than not.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![0..17u64, (0..64u32).prop_map(|bit| 1 << bit), Just(u64::MAX), any::<u64>()]
}

fn spoil(state: &mut TransportState, field: usize, value: u64) {
    let queue = value as usize % state.queues.len().max(1);
    match field {
        0 => state.status = value as u32,
        1 => state.interrupt_status = value as u32,
        2 => state.live ^= true,
        3 => state.device_features_select = value as u32,
        4 => state.driver_features_select = value as u32,
        5 => state.queue_select = value as u32,
        6 => state.shared_memory_select = value as u32,
        7 => state.driver_features = Features(value),
        8 => state.guest_page_size = value as u32,
        9 => state.config_generation = value as u32,
        10 => state.started_at = value as u32,
        11 => state.config.truncate(value as usize),
        12 => state.queues.truncate(value as usize),
        13 => state.interface = Interface::Legacy,
        14 => state.status ^= 1 << (value % 8),
        _ => {
            let Some(queue) = state.queues.get_mut(queue) else { return };
            match field {
                15 => queue.max = value as u16,
                16 => queue.params.size = value as u16,
                17 => queue.params = QueueParams { desc: value, device: !value, ..queue.params },
                18 => queue.align = value as u32,
                19 => queue.broken ^= true,
                20 => queue.stage = QueueStage::Reset,
                21 => queue.stage = QueueStage::Ready,
                _ => {
                    let (next_avail, next_used) = (value as u16, (value >> 16) as u16);
                    queue.state = QueueState { next_avail, next_used };
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn a_damaged_state_is_refused_or_harmless(
        interface in prop::sample::select(vec![Interface::Modern, Interface::Legacy]),
        damages in prop::collection::vec((0..23usize, value()), 1..4),
        events in prop::collection::vec(event(), 0..20),
    ) {
        let mut state = live(interface);
        for (field, value) in damages {
            spoil(&mut state, field, value);
        }
        let mut bench = Bench::new();
        bench.registers = bench.registers.with_interface(interface);
        let before = registers(&mut bench);
        match bench.registers.restore(&state) {
            Err(_) => prop_assert_eq!(registers(&mut bench), before),
            Ok(()) => {
                prop_assert_eq!(bench.registers.save(), state);
                // Guest memory need not be what such a state says.
                let _ = bench.registers.resume();
            }
        }
        for event in &events {
            happen(&mut bench, event);
            registers(&mut bench);
        }
    }
}

#[cfg(feature = "serde")]
#[test]
fn a_state_is_the_same_after_a_journey_as_text() {
    for interface in [Interface::Modern, Interface::Legacy] {
        let state = live(interface);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<TransportState>(&text).unwrap(), state);
        let cut = &text[..text.len() - 1];
        assert!(serde_json::from_str::<TransportState>(cut).is_err());
    }
}
