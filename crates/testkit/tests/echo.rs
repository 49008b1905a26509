//! The kit against a device of a few lines.

#[expect(dead_code, reason = "other tests have devices with manners")]
mod pattern;

use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, GuestHal, RAM_BASE, RawDriver, Used, within};
use cubie_virtio_core::Features;
use pattern::{Manner, PATTERN, pattern};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::{InterruptStatus, Transport};
use vm_memory::{Address, Bytes};

const DEADLINE: Duration = Duration::from_secs(10);
/// Offset of the device status (VIRTIO 1.4 §4.2.2).
const STATUS: u32 = 0x70;

#[test]
fn a_driver_gets_what_the_device_wrote_and_keeps_the_rest() {
    within(DEADLINE, || {
        let slot = Guest::new().plug(pattern(Manner::Plain));
        let mut driver = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        let mut bytes = [1; 1000];
        assert_eq!(driver.request_entropy(&mut bytes), Ok(999));
        assert_eq!((bytes[..999].to_vec(), bytes[999]), (vec![PATTERN; 999], 1));
    });
}

#[test]
fn memory_does_not_run_out_with_drivers_that_come_and_go() {
    within(DEADLINE, || {
        let slot = Guest::new().plug(pattern(Manner::Plain));
        let mut bytes = vec![0; 1 << 20];
        for _ in 0..100 {
            let mut driver = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
            assert_eq!(driver.request_entropy(&mut bytes), Ok((1 << 20) - 1));
        }
    });
}

#[test]
fn interrupts_arrive_with_their_reason() {
    within(DEADLINE, || {
        let slot = Guest::new().socket().trapped().plug(pattern(Manner::Plain));
        let mut driver = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        assert!(slot.interrupt().read().is_err(), "none so far");
        driver.request_entropy(&mut [0; 4]).unwrap();
        assert_eq!(slot.wait_interrupt(DEADLINE), 1);
        assert!(driver.ack_interrupt() == InterruptStatus::QUEUE_INTERRUPT);
        assert!(driver.ack_interrupt().is_empty());
    });
}

#[test]
#[should_panic(expected = "no interrupt after")]
fn an_interrupt_that_does_not_come_fails_the_test() {
    let slot = Guest::new().plug(pattern(Manner::Plain));
    slot.wait_interrupt(Duration::from_millis(1));
}

#[test]
fn configuration_is_read_and_written_in_the_width_of_its_fields() {
    let slot = Guest::new().plug(pattern(Manner::Plain));
    let mut transport = slot.transport();
    assert_eq!(transport.read_config_space(2), Ok(0x0403u16));
    assert_eq!(transport.read_config_space(1), Ok([2u8, 3, 4]));
    assert_eq!(transport.read_config_space(0), Ok([0x0403_0201u32, 0x0807_0605]));
    let before = transport.read_config_generation();
    transport.write_config_space(4, 0xaabbu16).unwrap();
    assert_ne!(transport.read_config_generation(), before);
    assert_eq!(transport.read_config_space(4), Ok([0xbbu8, 0xaa, 7]));
    assert!(transport.read_config_space::<u32>(0xfe).is_err());
}

#[test]
fn an_unplugged_device_can_be_plugged_into_another_slot() {
    within(DEADLINE, || {
        let guest = Guest::new();
        let first = guest.plug(pattern(Manner::Plain));
        let lost = VirtIORng::<GuestHal, _>::new(first.transport()).unwrap();
        let second = guest.plug(first.unplug());
        let mut driver = VirtIORng::<GuestHal, _>::new(second.transport()).unwrap();
        drop(lost);
        assert_eq!(driver.request_entropy(&mut [0; 9]), Ok(8));
    });
}

#[test]
fn the_latest_driver_is_not_disturbed_by_the_one_before() {
    within(DEADLINE, || {
        let slot = Guest::new().plug(pattern(Manner::Plain));
        let first = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        let mut second = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        assert_eq!(slot.register(STATUS), 0xf);
        drop(first);
        assert_eq!(slot.register(STATUS), 0xf);
        assert_eq!(second.request_entropy(&mut [0; 9]), Ok(8));
        drop(second);
        assert_eq!(slot.register(STATUS), 0);
    });
}

#[test]
fn a_raw_driver_offers_what_it_is_told_to() {
    let guest = Guest::new();
    let packed = Features::PACKED;
    for features in [Features::default(), packed, packed.with(Features::IN_ORDER)] {
        let slot = guest.plug(pattern(Manner::Plain));
        let mut raw = RawDriver::new(&slot, features, &[4]);
        let at = guest.buffer(8);
        for round in 0..20 {
            let buffers = [at, at.unchecked_add(4)].map(|at| Descriptor::writable(at.0, 4));
            let head = u32::from(raw.offer(0, &buffers));
            assert_eq!(raw.wait_used(0, DEADLINE), Used { head, written: 7 }, "round {round}");
        }
        assert_eq!(guest.memory().read_obj::<u8>(at).unwrap(), PATTERN);
        raw.offer(0, &[Descriptor::writable(RAM_BASE - 1, 8)]);
        slot.wait_interrupt(DEADLINE);
    }
}

#[test]
#[should_panic(expected = "one guest a thread")]
fn a_second_guest_on_a_thread_is_refused() {
    let _first = Guest::new();
    Guest::new();
}
