//! The configuration space (VIRTIO 1.4 §5.1.4).

use cubie_virtio_core::Config;
use virtio_bindings::virtio_net::{VIRTIO_NET_S_ANNOUNCE, VIRTIO_NET_S_LINK_UP};

use crate::Mac;

/// Where the address lies.
pub(crate) const MAC: usize = 0;
const STATUS: usize = 6;
const PAIRS: usize = 8;
const MTU: usize = 10;
const SPEED: usize = 12;
const DUPLEX: usize = 16;
const LEN: usize = 17;

/// What of the status says that the link is up.
pub(crate) const LINK_UP: u16 = VIRTIO_NET_S_LINK_UP as u16;
/// What of the status asks the driver to announce itself.
pub(crate) const ANNOUNCE: u16 = VIRTIO_NET_S_ANNOUNCE as u16;

/// In how many directions a link carries frames at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Duplex {
    /// In one.
    Half = 0,
    /// In both.
    Full = 1,
}

/// A card with this address and so many pairs, whose link is up, and of which nothing else is known.
pub(crate) fn config(mac: Mac, pairs: u16) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    set_mac(&mut bytes, mac);
    put(&mut bytes, PAIRS, pairs.to_le_bytes());
    change_status(&mut bytes, LINK_UP, true);
    bytes
}

/// The card has this address.
pub(crate) fn set_mac(bytes: &mut [u8], mac: Mac) {
    put(bytes, MAC, mac.bytes());
}

/// Sets or clears bits of the status.
pub(crate) fn change_status(bytes: &mut [u8], bits: u16, on: bool) {
    let status = u16::from_le_bytes([bytes[STATUS], bytes[STATUS + 1]]);
    let status = if on { status | bits } else { status & !bits };
    put(bytes, STATUS, status.to_le_bytes());
}

/// Whether a driver reads that the link is up.
pub(crate) fn is_up(config: &Config) -> bool {
    let mut status = [0; 2];
    config.read(STATUS, &mut status);
    u16::from_le_bytes(status) & LINK_UP != 0
}

/// Bytes of payload that a frame has at most.
pub(crate) fn set_mtu(bytes: &mut [u8], mtu: u16) {
    put(bytes, MTU, mtu.to_le_bytes());
}

/// Mbit/s, and in which directions.
pub(crate) fn set_speed(bytes: &mut [u8], speed: u32, duplex: Duplex) {
    put(bytes, SPEED, speed.to_le_bytes());
    put(bytes, DUPLEX, [duplex as u8]);
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_standard_says() {
        let mac = "02:03:04:05:06:07".parse().unwrap();
        let mut bytes = config(mac, 0x0908);
        set_mtu(&mut bytes, 0x0b0a);
        set_speed(&mut bytes, 0x0f0e_0d0c, Duplex::Full);
        assert_eq!(bytes, [2, 3, 4, 5, 6, 7, 1, 0, 8, 9, 10, 11, 12, 13, 14, 15, 1]);
        change_status(&mut bytes, 2, true);
        change_status(&mut bytes, LINK_UP, false);
        assert_eq!(bytes[6..8], [2, 0]);
    }
}
