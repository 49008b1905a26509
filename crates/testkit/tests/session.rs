//! What is written down of a driver and its device.

#[expect(dead_code, reason = "other tests have devices with manners")]
mod pattern;

use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, GuestHal, RawDriver, Slot, within};
use cubie_virtio_core::Features;
use expect_test::expect;
use pattern::{Manner, pattern};
use virtio_drivers::device::rng::VirtIORng;
use vm_memory::Bytes;

const DEADLINE: Duration = Duration::from_secs(20);

fn recorded(guest: &Guest) -> Slot {
    guest.socket().recorded().plug(pattern(Manner::Plain))
}

/// Three chains of two buffers, one after the other: enough to go round a ring of four descriptors.
fn three_chains(slot: &Slot, features: Features) -> String {
    let guest = slot.guest();
    let mut raw = RawDriver::new(slot, features, &[4]);
    slot.transcript();
    let [at, table] = [8, 64].map(|len| guest.buffer(len));
    guest.memory().write_slice(b"question", at).unwrap();
    let chain = [Descriptor::readable(at.0, 3), Descriptor::writable(at.0 + 4, 4)];
    for _ in 0..3 {
        match features.has(Features::INDIRECT) {
            true => raw.add_indirect(0, &chain, table.0),
            false => raw.add(0, &chain),
        };
        raw.kick(0);
        raw.wait_used(0, DEADLINE);
    }
    slot.wait_interrupt(DEADLINE);
    raw.kick(0);
    slot.transcript()
}

#[test]
fn every_kind_of_ring_reads_the_same() {
    let rings = [Features::default(), Features::PACKED, Features::PACKED.with(Features::IN_ORDER)];
    let (guest, mut first) = (Guest::new(), None);
    for ring in rings {
        for features in [ring, ring.with(Features::INDIRECT)] {
            let text = three_chains(&recorded(&guest), features);
            // In order, the ids go round.
            let text =
                ["chain 1", "chain 2"].iter().fold(text, |text, id| text.replace(id, "chain 0"));
            assert_eq!(text, *first.get_or_insert_with(|| text.clone()), "{features:?}");
        }
    }
    expect![[r#"
        lends  queue 0, chain 0: 3 to read (71 75 65), 4 to write
        kicks  queue 0
        takes  queue 0, chain 0: 3 written, 3 at 0 (5a 5a 5a)
        lends  queue 0, chain 0: 3 to read (71 75 65), 4 to write
        kicks  queue 0
        takes  queue 0, chain 0: 3 written, 3 at 0 (5a 5a 5a)
        lends  queue 0, chain 0: 3 to read (71 75 65), 4 to write
        kicks  queue 0
        takes  queue 0, chain 0: 3 written, 3 at 0 (5a 5a 5a)
        takes  the interrupt
        kicks  queue 0
    "#]]
    .assert_eq(&first.unwrap());
}

#[test]
fn a_driver_that_has_lost_its_slot_is_not_heard() {
    within(DEADLINE, || {
        let slot = recorded(&Guest::new());
        let first = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        let mut second = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        slot.transcript();
        drop(first);
        slot.register(0x70);
        assert_eq!(slot.transcript(), "");
        second.request_entropy(&mut [0; 3]).unwrap();
        drop(second);
        expect![[r#"
            lends  queue 0, chain 0: 3 to write
            kicks  queue 0
            takes  queue 0, chain 0: 2 written, 2 at 0 (5a 5a)
            reads  Version: 2
            writes QueueSel: 0
            writes QueueReady: 0
            writes Status: 0
        "#]]
        .assert_eq(&slot.transcript());
    });
}

#[test]
fn accesses_that_no_decent_driver_makes_are_shown_as_they_are() {
    let slot = recorded(&Guest::new());
    let mut registers = slot.transport();
    registers.write_bytes(0x71, &[1, 2]);
    registers.read_bytes(0x103, &mut [0; 2]);
    registers.write(0x14, 7);
    registers.read(0x10);
    registers.write(0xcc, 5);
    registers.write(0x70, 0xff00_0003);
    registers.write_bytes(1 << 40, &[0; 8]);
    expect![[r#"
        writes registers 0x71: 01 02
        reads  configuration 0x3: 04 05
        writes DeviceFeaturesSel: 7
        reads  DeviceFeatures: 0x0
        writes registers 0xcc: 05 00 00 00
        writes Status: ACKNOWLEDGE DRIVER 0xff000000
        writes configuration 0xffffffff00: 00 00 00 00 00 00 00 00
    "#]]
    .assert_eq(&slot.transcript());
}

#[test]
#[should_panic(expected = "call Socket::recorded first")]
fn a_slot_that_is_not_recorded_says_so() {
    Guest::new().plug(pattern(Manner::Plain)).transcript();
}
