//! A tap on a card of the host's: here one end of a cable, in a network namespace of the test's own.

use std::io::{Read, Write};
use std::process::Command;

use cubie_testkit::{Descriptor, Guest, RawDriver, within};
use cubie_virtio_core::{Features, VirtioDevice};
use cubie_virtio_net::{Mac, Net, NetBackend, Tap};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_HOST_TSO4,
};
use vm_memory::{Bytes, GuestAddress};

use crate::host::host_side;
use crate::{DEADLINE, ETHERTYPE};

const PARENT: &str = "cable";
const TAP: &str = "tap-on-cable";

fn sh(command: &str) -> bool {
    Command::new("sh").args(["-c", command]).status().is_ok_and(|status| status.success())
}

/// Leads this thread, and those that it starts, to a host with a cable and a macvtap on one of its ends. `false`,
/// which is said, where there can be none.
fn is_in_a_host_with_a_macvtap() -> bool {
    let there = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).is_ok()
        && mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).is_ok()
        // The other one shows the interfaces of the machine.
        && mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).is_ok();
    let mac = Mac::made_from("test");
    let there = there
        && sh(&format!(
            "ip link add {PARENT} type veth peer name far && ip link set {PARENT} up && \
             ip link set far up && ip link add link {PARENT} name {TAP} address {mac} type macvtap \
             mode bridge"
        ));
    if !there {
        eprintln!("skipped: no namespaces, no iproute2 or no macvtap here");
    }
    there
}

/// A frame of our type to somebody.
fn frame_to(to: Mac, text: &[u8]) -> Vec<u8> {
    let from = [2, 0, 0, 0, 0, 1];
    [&to.bytes()[..], &from, &ETHERTYPE.to_be_bytes(), text, &[0; 46]].concat()
}

fn passes_frames(tap: Tap) {
    let mac = tap.mac().unwrap();
    assert_eq!((tap.name(), mac), (TAP, Mac::made_from("test")));
    let mut far = host_side("far");
    let net = Net::new(tap, mac);
    for offload in [VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4] {
        assert!(net.features().has_bit(offload), "{offload}");
    }
    let guest = Guest::new();
    let slot = guest.plug(Box::new(net));
    let mut driver = RawDriver::new(&slot, Features::default(), &[256, 256]);

    let sent = frame_to(Mac::made_from("far"), b"from the guest");
    let buffer = guest.buffer(12 + sent.len());
    guest.memory().write_slice(&sent, GuestAddress(buffer.0 + 12)).unwrap();
    driver.offer(1, &[Descriptor::readable(buffer.0, 12 + sent.len() as u32)]);
    let mut seen = vec![0; 2000];
    let count = far.read(&mut seen).unwrap();
    assert_eq!(seen[..count], sent);

    far.write_all(&frame_to(Mac::made_from("somebody else"), b"not for the guest")).unwrap();
    let sent = frame_to(mac, b"for the guest");
    far.write_all(&sent).unwrap();
    let buffer = guest.buffer(1526);
    loop {
        driver.offer(0, &[Descriptor::writable(buffer.0, 1526)]);
        let count = driver.wait_used(0, DEADLINE).written as usize;
        let mut seen = vec![0; count];
        guest.memory().read_slice(&mut seen, buffer).unwrap();
        // The kernel greets new interfaces with frames of its own.
        if seen[24..26] == ETHERTYPE.to_be_bytes() {
            return assert_eq!(seen[12..], sent);
        }
    }
}

#[test]
fn frames_pass_through_a_macvtap_and_those_for_others_do_not_come() {
    within(DEADLINE, || {
        if is_in_a_host_with_a_macvtap() {
            passes_frames(Tap::open(Some(TAP)).unwrap());
        }
    });
}

#[test]
fn a_macvtap_is_opened_where_no_node_leads_to_it() {
    within(DEADLINE, || {
        if !is_in_a_host_with_a_macvtap() {
            return;
        }
        mount("none", "/dev", "tmpfs", MountFlags::empty(), None).unwrap();
        // What a killed program has left is in nobody's way.
        let device = "cat /sys/class/net/tap-on-cable/macvtap/*/dev | tr : -";
        let number = "$(cat /sys/class/net/tap-on-cable/macvtap/*/dev | tr : ' ')";
        assert!(sh(&format!("mknod /dev/.cubie-tap-$({device}) c {number}")));
        passes_frames(Tap::open(Some(TAP)).unwrap());
        assert_eq!(std::fs::read_dir("/dev").unwrap().count(), 0, "no node is left");
    });
}

#[test]
fn a_macvtap_has_as_many_queues_as_are_opened() {
    within(DEADLINE, || {
        if !is_in_a_host_with_a_macvtap() {
            return;
        }
        let mut taps = Tap::open_queues(Some(TAP), 3).unwrap();
        assert_eq!((taps.len(), taps[0].mtu().unwrap()), (3, 1500));
        for tap in &mut taps {
            tap.set_active(true).unwrap();
            tap.set_active(false).unwrap();
        }
        taps[0].set_active(true).unwrap();
        passes_frames(taps.remove(0));
    });
}

#[test]
fn a_macvtap_that_is_deleted_takes_the_link_down_while_the_guest_sends() {
    within(DEADLINE, || {
        if !is_in_a_host_with_a_macvtap() {
            return;
        }
        let net = Net::new(Tap::open(Some(TAP)).unwrap(), Mac::made_from("test"));
        let link = net.link();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let mut driver = RawDriver::new(&slot, Features::default(), &[256, 256]);
        let frame = [&[0; 12][..], &frame_to(Mac::made_from("far"), b"from the guest")].concat();
        let buffer = guest.buffer(frame.len());
        guest.memory().write_slice(&frame, buffer).unwrap();
        let mut send = |frames: u32| {
            for _ in 0..frames {
                driver.offer(1, &[Descriptor::readable(buffer.0, frame.len() as u32)]);
                driver.wait_used(1, DEADLINE);
            }
            link.is_up()
        };
        assert!(send(200), "it is there");
        assert!(sh(&format!("ip link del {TAP}")));
        assert!(!send(64));
    });
}
