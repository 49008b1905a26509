//! Checksums and segments that a tap's kernel and the guest leave to each other. At the host's end is a packet
//! socket that sees what is left of each frame.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};

use cubie_testkit::{Descriptor, Guest, RawDriver, Slot, within};
use cubie_virtio_core::{Features, VirtioDevice};
use cubie_virtio_net::{Mac, Net, NetHeader};
use virtio_bindings::virtio_net::*;
use vm_memory::{Bytes, GuestAddress};

use crate::host::{host_side_of, with_headers};
use crate::{DEADLINE, tap};

const IPV4: u16 = 0x0800;
const ETH: usize = 14;
const HEADERS: usize = ETH + 20 + 20;
const SEGMENT: usize = 1000;
const PORT: [u8; 2] = [0x12, 0x34];
const ROOM: usize = 65_562;

const RECEIVES: [u32; 2] = [VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4];
const SENDS: [u32; 2] = [VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4];

fn features(of: &[u32]) -> Features {
    of.iter().fold(Features::default(), |all, bit| all.with(Features::bit(*bit)))
}

/// The Internet's checksum, before its last step.
fn sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What TCP's checksum covers beside the segment.
fn pseudo(ip: &[u8], len: usize) -> u16 {
    sum(&[&ip[12..20], &[0, 6], &(len as u16).to_be_bytes()].concat())
}

/// A TCP segment with so many bytes of payload, whose checksum is begun and not finished.
fn tcp(payload: usize, to: [u8; 6]) -> Vec<u8> {
    let mut ip = [0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    ip[2..4].copy_from_slice(&((40 + payload) as u16).to_be_bytes());
    let check = !sum(&ip);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    let begun = pseudo(&ip, 20 + payload).to_be_bytes();
    let [a, b] = PORT;
    let tcp = [a, b, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, begun[0], begun[1], 0, 0];
    let data: Vec<u8> = (0..payload).map(|n| n as u8).collect();
    [&to[..], &[2, 0, 0, 0, 0, 1], &IPV4.to_be_bytes(), &ip, &tcp, &data].concat()
}

fn is_ours(frame: &[u8]) -> bool {
    frame.len() > HEADERS && frame[12..14] == IPV4.to_be_bytes() && frame[34..36] == PORT
}

/// A frame that is left with nothing to do.
#[track_caller]
fn check_finished(frame: &[u8]) {
    let (ip, tcp) = frame[ETH..].split_at(20);
    assert_eq!(sum(ip), 0xffff, "the IP header's checksum");
    assert_eq!(
        sum(&[&pseudo(ip, tcp.len()).to_be_bytes(), tcp].concat()),
        0xffff,
        "TCP's checksum"
    );
}

/// The header in front of a frame that is to be cut.
fn header() -> NetHeader {
    NetHeader {
        flags: VIRTIO_NET_HDR_F_NEEDS_CSUM as u8,
        gso_type: VIRTIO_NET_HDR_GSO_TCPV4 as u8,
        hdr_len: HEADERS as u16,
        gso_size: SEGMENT as u16,
        csum_start: ETH as u16 + 20,
        csum_offset: 16,
        num_buffers: 0,
    }
}

struct Bench {
    guest: Guest,
    slot: Slot,
    host: File,
}

impl Bench {
    fn new() -> Option<Self> {
        let tap = tap(None)?;
        let host = host_side_of(tap.name(), IPV4);
        with_headers(&host);
        let guest = Guest::new();
        let slot = guest.plug(Box::new(Net::new(tap, Mac::made_from("test"))));
        Some(Self { guest, slot, host })
    }

    /// Has the host send a frame of three segments to a driver with these features; what comes, with headers.
    fn receive(&mut self, chosen: &[u32]) -> Vec<(NetHeader, Vec<u8>)> {
        let mut driver = RawDriver::new(&self.slot, features(chosen), &[16, 16]);
        let mut buffers = VecDeque::new();
        for _ in 0..8 {
            let buffer = self.guest.buffer(ROOM);
            driver.offer(0, &[Descriptor::writable(buffer.0, ROOM as u32)]);
            buffers.push_back(buffer);
        }
        let frame = tcp(3 * SEGMENT, Mac::made_from("test").bytes());
        self.host.write_all(&[&header().to_bytes()[..10], &frame].concat()).unwrap();
        let (mut frames, mut payload) = (vec![], 0);
        while payload < 3 * SEGMENT {
            let len = driver.wait_used(0, DEADLINE).written as usize;
            let mut bytes = vec![0; len];
            self.guest.memory().read_slice(&mut bytes, buffers.pop_front().unwrap()).unwrap();
            let frame = bytes.split_off(NetHeader::LEN);
            // The kernel greets new interfaces with frames of its own.
            if is_ours(&frame) {
                payload += frame.len() - HEADERS;
                frames.push((NetHeader::from_bytes(bytes.try_into().unwrap()), frame));
            }
        }
        frames
    }

    /// The next of our frames at the host, behind ten bytes of header.
    fn at_host(&mut self) -> (Vec<u8>, Vec<u8>) {
        loop {
            let mut bytes = vec![0; 10 + ROOM];
            let len = self.host.read(&mut bytes).unwrap();
            bytes.truncate(len);
            let frame = bytes.split_off(10);
            if is_ours(&frame) {
                return (bytes, frame);
            }
        }
    }
}

#[test]
fn a_tap_offers_what_its_kernel_does() {
    let Some(tap) = tap(None) else { return };
    let net = Net::new(tap, Mac::made_from("test"));
    let all = features(&[&RECEIVES[..], &SENDS, &[VIRTIO_NET_F_CTRL_GUEST_OFFLOADS]].concat());
    assert!(net.features().has(all), "{:?}", net.features());
}

#[test]
fn a_guest_gets_the_segments_that_it_does_not_take_over_cut() {
    within(DEADLINE, || {
        let Some(mut bench) = Bench::new() else { return };
        // The last driver's offloads are not the next one's.
        for _ in 0..2 {
            let whole = bench.receive(&RECEIVES);
            assert_eq!(whole.len(), 1, "one frame");
            let (seen, frame) = &whole[0];
            let hdr_len = seen.hdr_len; // a hint
            assert_eq!(*seen, NetHeader { hdr_len, num_buffers: 1, ..header() });
            assert_eq!(*frame, tcp(3 * SEGMENT, Mac::made_from("test").bytes()));

            let one_buffer = NetHeader { num_buffers: 1, ..NetHeader::default() };
            let cut = bench.receive(&[]);
            assert_eq!(cut.len(), 3);
            for (seen, frame) in cut {
                assert_eq!((seen, frame.len()), (one_buffer, HEADERS + SEGMENT));
                check_finished(&frame);
            }
        }
    });
}

#[test]
fn the_host_gets_segments_that_it_can_cut_and_no_others() {
    within(DEADLINE, || {
        let Some(mut bench) = Bench::new() else { return };
        for segments in [3, 65] {
            let mut driver = RawDriver::new(&bench.slot, features(&SENDS), &[16, 16]);
            let frame = tcp(segments * SEGMENT, [0xff; 6]);
            let bytes = [&header().to_bytes()[..], &frame].concat();
            let buffer = bench.guest.buffer(bytes.len());
            bench.guest.memory().write_slice(&bytes, buffer).unwrap();
            driver.offer(1, &[Descriptor::readable(buffer.0, bytes.len() as u32)]);
            driver.wait_used(1, DEADLINE);
            let (left, seen) = bench.at_host();
            assert!(seen == frame, "it is the receiver's to cut it");
            assert_eq!(left[..2], [1, 1]);
            assert_eq!(left[4..10], header().to_bytes()[4..10]);

            // A size that no segment has: refused, and the next one passes.
            let size = GuestAddress(buffer.0 + 4);
            bench.guest.memory().write_obj(0u16, size).unwrap();
            driver.offer(1, &[Descriptor::readable(buffer.0, bytes.len() as u32)]);
            driver.wait_used(1, DEADLINE);
            bench.guest.memory().write_obj(SEGMENT as u16, size).unwrap();
            driver.offer(1, &[Descriptor::readable(buffer.0, bytes.len() as u32)]);
            driver.wait_used(1, DEADLINE);
            assert!(bench.at_host().1 == frame);
        }
    });
}
