//! Frames through a tap of the host's kernel, for root. Says so and does nothing elsewhere.

mod host;
mod macvtap;
mod offloads;
mod queues;

use std::io::{Read, Write};
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver, within};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Mac, Net, Tap, TapError};
use vm_memory::{Bytes, GuestAddress};

use host::host_side;

const DEADLINE: Duration = Duration::from_secs(20);
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Of this test's own, among what the kernel itself sends to a new interface: IEEE's number for
/// local experiments.
const ETHERTYPE: u16 = 0x88b5;

/// A tap, or none where there can be none.
fn tap(name: Option<&str>) -> Option<Tap> {
    match Tap::open(name) {
        Err(error @ (TapError::Missing | TapError::Device | TapError::NotPermitted(_))) => {
            eprintln!("skipped: {error}");
            None
        }
        tap => Some(tap.unwrap()),
    }
}

fn exists(name: &str) -> bool {
    let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap();
    interfaces.lines().any(|line| line.trim_start().starts_with(&format!("{name}:")))
}

/// A frame of our type.
fn frame(text: &[u8]) -> Vec<u8> {
    let (to, from) = ([0xff; 6], Mac::made_from("test").bytes());
    [&to[..], &from, &ETHERTYPE.to_be_bytes(), text, &[0; 46]].concat()
}

#[test]
fn frames_pass_both_ways_with_plain_headers() {
    within(DEADLINE, || {
        let Some(tap) = tap(None) else { return };
        assert!(tap.name().starts_with("cubie"));
        let mut host = host_side(tap.name());
        let net = Net::new(tap, Mac::made_from("test"));
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let mut driver = RawDriver::new(&slot, Features::default(), &[256, 256]);

        let sent = frame(b"from the guest");
        let buffer = guest.buffer(12 + sent.len());
        guest.memory().write_slice(&sent, GuestAddress(buffer.0 + 12)).unwrap();
        // Its hdr_len means nothing, and is beyond the frame's end, which the kernel would not have.
        guest.memory().write_obj(!0u16, GuestAddress(buffer.0 + 2)).unwrap();
        let len = 12 + sent.len() as u32;
        driver.offer(TRANSMIT, &[Descriptor::readable(buffer.0, len)]);
        let mut seen = vec![0; 2000];
        let count = host.read(&mut seen).unwrap();
        assert_eq!(seen[..count], sent);

        let sent = frame(b"from the host");
        host.write_all(&sent).unwrap();
        let buffer = guest.buffer(1526);
        loop {
            driver.offer(RECEIVE, &[Descriptor::writable(buffer.0, 1526)]);
            let count = driver.wait_used(RECEIVE, DEADLINE).written as usize;
            let mut seen = vec![0; count];
            guest.memory().read_slice(&mut seen, buffer).unwrap();
            assert_eq!(seen[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
            // The kernel greets new interfaces with frames of its own.
            if seen[12 + 12..][..2] == ETHERTYPE.to_be_bytes() {
                assert_eq!(seen[12..], sent);
                break;
            }
        }
        assert_eq!((counters.transmit().drops.total(), counters.receive().drops.total()), (0, 0));
    });
}

#[test]
fn a_tap_is_up_in_use_and_gone_with_its_owner() {
    // A name that no test beside this one gets from the kernel.
    let name = format!("cubie-{}", std::process::id());
    let Some(tap) = tap(Some(&name)) else { return };
    assert!(tap.name() == name && exists(&name));
    assert_eq!(tap.mtu().unwrap(), 1500);
    let busy = Tap::open(Some(&name)).unwrap_err();
    assert!(matches!(&busy, TapError::Busy(who) if *who == name), "{busy}");
    let flags = std::fs::read_to_string(format!("/sys/class/net/{name}/flags"));
    if let Ok(flags) = flags {
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap();
        assert_eq!(flags & libc::IFF_UP as u32, libc::IFF_UP as u32);
    }
    drop(tap);
    assert!(!exists(&name));
}

#[test]
fn another_kind_of_interface_is_not_a_tap() {
    if tap(None).is_none() {
        return;
    }
    let error = Tap::open(Some("lo")).unwrap_err();
    assert!(matches!(&error, TapError::NotATap(name) if name == "lo"), "{error}");
}
