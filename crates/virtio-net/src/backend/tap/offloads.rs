//! Offloads of taps (Linux, include/uapi/linux/if_tun.h, `TUN_F_…`).

use cubie_virtio_core::Features;
use libc::{TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUN_F_UFO, TUN_F_USO4, TUN_F_USO6};
use virtio_bindings::virtio_net::*;

/// What the kernel can leave to a driver, by the features that the driver has for it.
const GUEST: [(u32, libc::c_uint); 7] = [
    (VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM),
    (VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4),
    (VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6),
    (VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN),
    (VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO),
    (VIRTIO_NET_F_GUEST_USO4, TUN_F_USO4),
    (VIRTIO_NET_F_GUEST_USO6, TUN_F_USO6),
];

/// What the kernel does to frames behind a virtio header.
const HOST: [u32; 5] = [
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_ECN,
    VIRTIO_NET_F_HOST_UFO,
];

/// The segmentation of UDP, which Linux has had for both kinds of IP since 6.2, and for one of them never.
pub(super) const USO: libc::c_uint = TUN_F_USO4 | TUN_F_USO6;

/// All flags that a kernel may know.
pub(super) const ALL: libc::c_uint =
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_UFO | USO;

/// What a driver can take over from a kernel that knows `flags`.
pub(super) fn guest(flags: libc::c_uint) -> Features {
    let known = GUEST.iter().filter(|(_, flag)| flags & flag != 0);
    known.fold(Features(0), |all, (feature, _)| all.with(Features::bit(*feature)))
}

/// What a kernel that knows `flags` does for the driver.
pub(super) fn host(flags: libc::c_uint) -> Features {
    let uso = (flags & USO == USO).then_some(VIRTIO_NET_F_HOST_USO);
    HOST.into_iter().chain(uso).fold(Features(0), |all, feature| all.with(Features::bit(feature)))
}

/// The flags of what a driver takes over, as far as the kernel can leave that to it.
pub(super) fn flags(guest: Features) -> libc::c_uint {
    let chosen = GUEST.iter().filter(|(feature, _)| guest.has_bit(*feature));
    let flags = chosen.fold(0, |all, (_, flag)| all | flag);
    if flags & USO == USO { flags } else { flags & !USO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_features_are_the_same_thing() {
        assert_eq!(flags(guest(ALL)), ALL);
        assert_eq!(flags(guest(TUN_F_CSUM | TUN_F_TSO6)), TUN_F_CSUM | TUN_F_TSO6);
        assert_eq!(flags(Features(!0)), ALL);
        assert_eq!(guest(0), Features(0));
    }

    #[test]
    fn datagrams_are_cut_for_both_kinds_of_ip_or_for_none() {
        assert!(host(ALL).has_bit(VIRTIO_NET_F_HOST_USO));
        assert!(!host(ALL & !USO).has_bit(VIRTIO_NET_F_HOST_USO));
        assert_eq!(flags(guest(TUN_F_CSUM | TUN_F_USO4)), TUN_F_CSUM);
    }
}
