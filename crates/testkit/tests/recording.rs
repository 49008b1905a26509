//! Sessions that are played against other devices.

mod pattern;

use std::fs;
use std::time::Duration;

use cubie_testkit::{
    Descriptor, Difference, Guest, GuestHal, Played, RAM_BASE, RawDriver, Recording, Slot, within,
};
use cubie_virtio_core::{Config, DeviceId, Features, QueueState, Queues, StartError, VirtioDevice};
use pattern::{Manner, pattern};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::{DeviceStatus, Transport};
use vm_memory::Bytes;

const DEADLINE: Duration = Duration::from_secs(20);
/// For an answer that never comes.
const SHORT: Duration = Duration::from_millis(200);

fn recorded(guest: &Guest) -> Slot {
    guest.socket().recorded().plug(pattern(Manner::Plain))
}

/// Offers several chains at once, two times, and takes the interrupts.
fn batches(slot: &Slot, features: Features) -> Recording {
    let guest = slot.guest();
    let mut raw = RawDriver::new(slot, features, &[8]);
    let buffers = [(); 3].map(|()| guest.buffer(40));
    let table = guest.buffer(64);
    guest.memory().write_slice(b"a question", buffers[0]).unwrap();
    for _ in 0..5 {
        assert!(!raw.queue(0).enable_interrupts(), "nothing is in flight");
        for at in buffers {
            let chain = [Descriptor::readable(at.0, 10), Descriptor::writable(at.0 + 10, 30)];
            match features.has(Features::INDIRECT) && at == buffers[1] {
                true => raw.add_indirect(0, &chain, table.0),
                false => raw.add(0, &chain),
            };
        }
        raw.kick(0);
        slot.wait_interrupt(DEADLINE);
        for _ in buffers {
            raw.wait_used(0, DEADLINE);
        }
    }
    slot.recording()
}

fn simple() -> Recording {
    batches(&recorded(&Guest::new()), Features::default())
}

fn played_as(recording: &Recording, manner: Manner) -> Result<Played, Difference> {
    recording.player().waiting(SHORT).play(pattern(manner))
}

fn difference(manner: Manner) -> Difference {
    played_as(&simple(), manner).unwrap_err()
}

#[test]
fn a_session_in_every_kind_of_ring_is_played_again() {
    let guest = Guest::new();
    for ring in [Features::default(), Features::PACKED, Features::EVENT_IDX] {
        for more in [Features::default(), Features::INDIRECT, Features::IN_ORDER] {
            let recording = batches(&recorded(&guest), ring.with(more));
            let played = recording.play(pattern(Manner::Plain)).unwrap();
            assert_eq!(played.chains, 15, "{ring:?} {more:?}");
        }
    }
}

#[test]
fn the_order_of_answers_is_the_devices_own() {
    let guest = Guest::new();
    for ring in [Features::default(), Features::PACKED] {
        for more in [Features::default(), Features::INDIRECT] {
            let recording = batches(&recorded(&guest), ring.with(more));
            let played = recording.play(pattern(Manner::Backwards));
            assert_eq!(played.unwrap().chains, 15, "{ring:?} {more:?}");
        }
    }
}

#[test]
fn a_session_of_the_independent_driver_is_played_again_through_a_file() {
    within(DEADLINE, || {
        let guest = Guest::new();
        let file = tempfile::NamedTempFile::new().unwrap();
        let slots = [recorded(&guest), {
            guest.socket().legacy().trapped().recorded().plug(pattern(Manner::Plain))
        }];
        for slot in slots {
            for len in [9, 4000, 5] {
                let mut driver = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
                for _ in 0..20 {
                    driver.request_entropy(&mut vec![0; len]).unwrap();
                }
            }
            slot.recording().write(file.path()).unwrap();
            let recording = Recording::read(file.path()).unwrap();
            assert_eq!(recording.to_string(), slot.transcript());
            assert_eq!(recording.play(pattern(Manner::Plain)).unwrap().chains, 60);
        }
    });
}

#[test]
fn queues_that_are_reset_and_configurations_that_are_written_are_played_again() {
    let slot = recorded(&Guest::new());
    let mut raw = RawDriver::new(&slot, Features::RING_RESET, &[8]);
    let at = slot.guest().buffer(8).0;
    for size in [4, 16, 2] {
        raw.offer(0, &[Descriptor::writable(at, 8)]);
        raw.wait_used(0, DEADLINE);
        raw.transport().write_config_space(2, size as u8).unwrap();
        raw.reset_queue(0);
        raw.renew_queue(0, size);
    }
    raw.offer(0, &[Descriptor::writable(at, 8)]);
    raw.wait_used(0, DEADLINE);
    let played = slot.recording().play(pattern(Manner::Plain)).unwrap();
    assert_eq!(played.chains, 4);
}

#[test]
fn a_driver_that_breaks_its_ring_breaks_it_again() {
    let slot = recorded(&Guest::new());
    let mut raw = RawDriver::new(&slot, Features::default(), &[8]);
    raw.offer(0, &[Descriptor::writable(RAM_BASE - 1, 8)]);
    slot.wait_interrupt(DEADLINE);
    assert!(raw.transport().get_status().contains(DeviceStatus::DEVICE_NEEDS_RESET));
    slot.recording().play(pattern(Manner::Plain)).unwrap();
}

#[test]
fn a_wrong_byte_is_shown_with_its_place() {
    let recording = simple();
    let difference = played_as(&recording, Manner::Wrong).unwrap_err();
    assert_eq!(
        difference.recorded(),
        "takes  queue 0, chain 0: 29 written, \
         29 at 0 (5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a …)"
    );
    assert!(difference.now().ends_with(": byte 16 is 5b, and was 5a"), "{difference}");
    assert!(difference.to_string().starts_with(&format!("step {} is", difference.step())));
    let played = recording.player().ignoring_payload().play(pattern(Manner::Wrong));
    assert_eq!(played.unwrap().chains, 15, "lengths are the same");
}

#[test]
fn bytes_that_were_not_written_are_found() {
    let difference = difference(Manner::Idle);
    assert!(difference.now().ends_with(": byte 0 is ee, and was 5a"), "{difference}");
}

#[test]
fn another_length_is_found_whatever_the_payload() {
    let recording = simple();
    for player in [recording.player(), recording.player().ignoring_payload()] {
        let difference = player.play(pattern(Manner::Short)).unwrap_err();
        assert!(
            difference.now().starts_with("takes  queue 0, chain 0: 28 written"),
            "{difference}"
        );
    }
}

#[test]
fn a_chain_that_is_lost_is_found() {
    let difference = difference(Manner::Forgetful);
    assert!(difference.recorded().starts_with("takes  queue 0, chain 2: 29"), "{difference}");
    assert_eq!(difference.now(), "no answer after 200ms");
}

#[test]
fn an_interrupt_that_does_not_come_is_found() {
    let difference = difference(Manner::Silent);
    assert_eq!(difference.recorded(), "takes  the interrupt");
    assert_eq!(difference.now(), "no interrupt after 200ms");
}

/// As if somebody had changed the lines of the steps in its file.
fn tampered(recording: &Recording, change: impl FnOnce(&mut Vec<String>)) -> Recording {
    let file = tempfile::NamedTempFile::new().unwrap();
    recording.write(file.path()).unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    let mut steps: Vec<_> = rest.lines().map(str::to_owned).collect();
    steps.pop();
    change(&mut steps);
    let end = format!("{{\"end\":{}}}", steps.len());
    let lines = [vec![header.to_owned()], steps, vec![end]].concat();
    fs::write(file.path(), lines.join("\n")).unwrap();
    Recording::read(file.path()).unwrap()
}

/// The first interrupt is taken no sooner than the second.
fn with_both_interrupts_at_once(recording: &Recording) -> Recording {
    tampered(recording, |steps| {
        let is_interrupt = |step: &String| step == "\"interrupt\"";
        let first = steps.iter().position(is_interrupt).unwrap();
        let interrupt = steps.remove(first);
        let second = steps.iter().position(is_interrupt).unwrap();
        steps.insert(second, interrupt);
    })
}

#[test]
fn a_recording_from_which_a_step_is_missing_comes_to_an_end() {
    let recording = simple();
    for missing in 0..recording.play(pattern(Manner::Plain)).unwrap().steps {
        let less = tampered(&recording, |steps| _ = steps.remove(missing));
        // Some steps are no loss.
        let _ = less.player().waiting(Duration::from_millis(5)).play(pattern(Manner::Plain));
    }
}

#[test]
fn a_ring_that_lies_nowhere_is_a_difference() {
    let recording = tampered(&simple(), |steps| {
        let desc = steps.iter_mut().find(|step| step.contains("\"at\":132")).unwrap();
        *desc = desc.replace("00000000", "ffffffff");
    });
    let difference = played_as(&recording, Manner::Plain).unwrap_err();
    assert_eq!(difference.recorded(), "writes QueueReady: 1");
    assert!(difference.now().contains("had in memory is not"), "{difference}");
}

#[test]
fn one_interrupt_for_two_batches_will_do() {
    let slot = recorded(&Guest::new());
    let mut raw = RawDriver::new(&slot, Features::default(), &[8]);
    let at = slot.guest().buffer(8).0;
    // Two kicks, an interrupt for each,
    for _ in 0..2 {
        raw.offer(0, &[Descriptor::writable(at, 8)]);
        slot.wait_interrupt(DEADLINE);
    }
    (0..2).for_each(|_| _ = raw.wait_used(0, DEADLINE));
    // as a driver takes them that kicks twice before it looks: they may be one.
    let recording = with_both_interrupts_at_once(&slot.recording());
    assert!(recording.to_string().contains("takes  the interrupt\ntakes  the interrupt\n"));
    for _ in 0..50 {
        recording.play(pattern(Manner::Plain)).unwrap();
    }
    assert_eq!(
        played_as(&recording, Manner::Silent).unwrap_err().now(),
        "no interrupt after 200ms"
    );
}

#[test]
fn what_the_host_did_then_is_done_again_at_its_note() {
    let slot = recorded(&Guest::new());
    let raw = RawDriver::new(&slot, Features::default(), &[8]);
    slot.note("the host changes a byte");
    slot.config().update(|bytes| bytes[3] = 99);
    slot.wait_interrupt(DEADLINE);
    drop(raw);
    let (recording, device) = (slot.recording(), pattern(Manner::Plain));
    let config = VirtioDevice::config(&*device).clone();
    let player = recording.player().on_note(|note| {
        assert_eq!(note, "the host changes a byte");
        config.update(|bytes| bytes[3] = 99);
    });
    player.play(device).unwrap();
    let difference = played_as(&recording, Manner::Plain).unwrap_err();
    assert_eq!(
        difference.now().trim_end(),
        "finds  the configuration changed: 01 02 03 04 05 06 07 08"
    );
}

#[test]
fn another_device_is_not_even_played_with() {
    struct Other(Config);
    impl VirtioDevice for Other {
        fn id(&self) -> DeviceId {
            DeviceId::BLOCK
        }
        fn features(&self) -> Features {
            Features::default()
        }
        fn queue_sizes(&self) -> &[u16] {
            &[]
        }
        fn config(&self) -> &Config {
            &self.0
        }
        fn start(&mut self, _: Features, _: Queues) -> Result<(), StartError> {
            unreachable!("nobody drives it")
        }
        fn stop(&mut self) -> Vec<QueueState> {
            vec![]
        }
    }
    let difference = simple().play(Box::new(Other(Default::default()))).unwrap_err();
    assert_eq!((difference.step(), difference.recorded()), (0, "device 4"));
    assert_eq!(difference.now(), "device 2");
}
