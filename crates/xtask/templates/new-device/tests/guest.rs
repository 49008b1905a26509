//! The device through the testkit's driver: no VM, no root.

use std::io;
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RAM_BASE, RawDriver, Slot};
use cubie_virtio_core::{Features, VirtioDevice};
use cubie_virtio_new_device::{InMemory, NewDevice, NewDeviceBackend};
use vm_memory::{Bytes, GuestAddress};

const DEADLINE: Duration = Duration::from_secs(20);

/// Offsets of registers (VIRTIO 1.4 §4.2.2), and the status that asks for a reset.
const STATUS: u32 = 0x70;
const CONFIG: u32 = 0x100;
const NEEDS_RESET: u32 = 0x40;

/// The answers' statuses.
const DONE: u32 = 0;
const HOST_ERROR: u32 = 1;
const REFUSED: u32 = 2;

/// The device's driver, in a guest without a VM.
struct Driver<'a> {
    slot: &'a Slot,
    rings: RawDriver,
    request: GuestAddress,
    answer: GuestAddress,
}

impl<'a> Driver<'a> {
    fn new(slot: &'a Slot, rings: Features) -> Self {
        let rings = RawDriver::new(slot, rings, &[64]);
        let [request, answer] = [4, 12].map(|len| slot.guest().buffer(len));
        Self { slot, rings, request, answer }
    }

    /// The status and the total that the device answers.
    fn add(&mut self, amount: u32) -> (u32, u64) {
        let memory = self.slot.guest().memory();
        memory.write_obj(amount, self.request).unwrap();
        let written = self.offer(&[
            Descriptor::readable(self.request.0, 4),
            Descriptor::writable(self.answer.0, 12),
        ]);
        assert_eq!(written, 12);
        let memory = self.slot.guest().memory();
        let mut answer = [0; 12];
        memory.read_slice(&mut answer, self.answer).unwrap();
        let [a, b, c, d, total @ ..] = answer;
        (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(total))
    }

    /// Offers a request of any shape. How many bytes the device says it has written.
    fn offer(&mut self, buffers: &[Descriptor]) -> u32 {
        self.rings.offer(0, buffers);
        self.rings.wait_used(0, DEADLINE).written
    }
}

fn device() -> Box<dyn VirtioDevice> {
    Box::new(NewDevice::new(InMemory::default(), 100))
}

#[test]
fn amounts_add_up_in_each_kind_of_ring() {
    let guest = Guest::new();
    let packed = Features::PACKED;
    for rings in [Features::default(), packed, packed.with(Features::IN_ORDER)] {
        let slot = guest.plug(device());
        let mut driver = Driver::new(&slot, rings);
        let totals = [1, 2, 97].map(|amount| driver.add(amount));
        assert_eq!(totals, [(DONE, 1), (DONE, 3), (DONE, 100)]);
        slot.wait_interrupt(DEADLINE);
    }
}

#[test]
fn the_total_survives_a_reset_and_a_move_to_another_slot() {
    let guest = Guest::new();
    let slot = guest.plug(device());
    assert_eq!(Driver::new(&slot, Features::default()).add(1), (DONE, 1));
    assert_eq!(Driver::new(&slot, Features::PACKED).add(1), (DONE, 2));
    let slot = guest.plug(slot.unplug());
    assert_eq!(Driver::new(&slot, Features::default()).add(1), (DONE, 3));
}

#[test]
fn the_configuration_has_the_limit_and_the_device_keeps_it() {
    let slot = Guest::new().plug(device());
    assert_eq!(slot.register(CONFIG), 100);
    let mut driver = Driver::new(&slot, Features::default());
    assert_eq!(driver.add(100), (DONE, 100));
    assert_eq!(driver.add(101), (REFUSED, 0));
    assert_eq!(driver.add(0), (DONE, 100));
}

#[test]
fn requests_that_make_no_sense_come_back_and_the_queue_goes_on() {
    let slot = Guest::new().plug(device());
    let mut driver = Driver::new(&slot, Features::default());
    let (request, answer) = (driver.request.0, driver.answer.0);
    let [whole, short] = [4, 3].map(|len| Descriptor::readable(request, len));
    let [room, little] = [12, 11].map(|len| Descriptor::writable(answer, len));
    assert_eq!(driver.add(1), (DONE, 1));
    assert_eq!(driver.offer(&[whole]), 0);
    assert_eq!(driver.offer(&[whole, little]), 11);
    assert_eq!(driver.offer(&[short, room]), 12);
    assert_eq!(driver.offer(&[room]), 12);
    assert_eq!(driver.add(1), (DONE, 2));
}

#[test]
fn a_broken_ring_stops_the_device_until_it_is_reset() {
    let slot = Guest::new().plug(device());
    let mut driver = Driver::new(&slot, Features::default());
    driver.rings.offer(0, &[Descriptor::readable(RAM_BASE - 8, 4)]);
    slot.wait_interrupt(DEADLINE);
    assert_eq!(slot.register(STATUS) & NEEDS_RESET, NEEDS_RESET);
    assert_eq!(Driver::new(&slot, Features::default()).add(1), (DONE, 1));
}

#[test]
fn a_host_that_fails_is_told_of_and_asked_again() {
    /// Fails every second time.
    struct Moody(InMemory, bool);
    impl NewDeviceBackend for Moody {
        fn add(&mut self, amount: u32) -> io::Result<u64> {
            self.1 = !self.1;
            if self.1 { Err(io::Error::other("not now")) } else { self.0.add(amount) }
        }
    }
    let moody = Moody(InMemory::default(), false);
    let slot = Guest::new().plug(Box::new(NewDevice::new(moody, 100)));
    let mut driver = Driver::new(&slot, Features::default());
    let answers = [(); 4].map(|()| driver.add(7));
    assert_eq!(answers, [(HOST_ERROR, 0), (DONE, 7), (HOST_ERROR, 0), (DONE, 14)]);
}
