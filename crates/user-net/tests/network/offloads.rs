//! Guests that do themselves what is left to do to segments, and what they are left.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use cubie_user_net::{Config, Gateway};
use cubie_virtio_core::Features;
use cubie_virtio_net::NetHeader;
use smoltcp::wire::checksum;
use virtio_bindings::virtio_net::*;

use crate::cable::Cable;
use crate::stack::Stack;
use crate::tcp::both_ways_at_once;

/// A card that finishes what it is given as VIRTIO 1.4 §5.1.6.4 has it, but for cutting: the guest's
/// stack takes segments of any length.
struct Card {
    gateway: Gateway,
    offloads: Features,
    /// Bytes of the longest frame.
    longest: Cell<usize>,
}

impl Card {
    fn finish(&self, header: &NetHeader, frame: &mut [u8]) {
        self.longest.set(self.longest.get().max(frame.len()));
        let is_ipv4 = frame[12..14] == [8, 0];
        let (cuts, kind, size) = match is_ipv4 {
            true => (VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_HDR_GSO_TCPV4, 1460),
            false => (VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_HDR_GSO_TCPV6, 1440),
        };
        if frame.len() > 1514 {
            assert!(self.offloads.has_bit(cuts), "the guest has not asked for it");
            assert_eq!((u32::from(header.gso_type), header.gso_size), (kind, size));
            assert_eq!(usize::from(header.hdr_len) + usize::from(size), 1514);
        } else {
            assert_eq!((header.gso_type, header.gso_size, header.hdr_len), (0, 0, 0));
        }
        if header.flags == 0 {
            return;
        }
        assert!(self.offloads.has_bit(VIRTIO_NET_F_GUEST_CSUM), "the guest has not asked for it");
        assert_eq!(u32::from(header.flags), VIRTIO_NET_HDR_F_NEEDS_CSUM);
        let start = usize::from(header.csum_start);
        let sum = !checksum::data(&frame[start..]);
        let at = start + usize::from(header.csum_offset);
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

impl Cable for Card {
    fn send(&mut self, frame: &[u8], now: Instant) {
        self.gateway.input(frame, now);
    }
    fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        let taken =
            self.gateway.output_with(now, self.offloads, |header, frame| (*header, frame.to_vec()));
        let (header, mut frame) = taken?;
        self.finish(&header, &mut frame);
        Some(frame)
    }
    fn ready(&self) -> BorrowedFd<'_> {
        self.gateway.ready()
    }
}

/// Moves megabytes, and says how long the longest frame was.
fn longest_frame(address: IpAddr, offloads: &[u32]) -> usize {
    let gateway = Gateway::new(&Config::default(), Instant::now()).unwrap();
    let offloads = offloads.iter().map(|bit| Features::bit(*bit));
    let offloads = offloads.fold(Features::default(), Features::with);
    let mut stack = Stack::on(Card { gateway, offloads, longest: Cell::new(0) });
    both_ways_at_once(&mut stack, address);
    stack.cable.longest.get()
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[test]
fn a_guest_that_cuts_segments_itself_gets_long_ones_without_checksums() {
    let offloads = [VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6];
    for address in [V4, V6] {
        let longest = longest_frame(address, &offloads);
        assert!(longest > 16 << 10, "{longest} bytes at most");
    }
}

#[test]
fn a_guest_that_cuts_segments_of_one_family_gets_none_of_the_other() {
    let offloads = [VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO6];
    assert_eq!(longest_frame(V4, &offloads), 1514);
}

#[test]
fn a_guest_that_only_sums_gets_no_segment_that_is_too_long() {
    for address in [V4, V6] {
        assert_eq!(longest_frame(address, &[VIRTIO_NET_F_GUEST_CSUM]), 1514);
    }
}
