//! Which features a card offers (VIRTIO 1.4 §5.1.3).

use cubie_virtio_core::Features;
use virtio_bindings::virtio_net::*;

/// There is a control queue.
pub(crate) const CTRL_VQ: Features = set(&[VIRTIO_NET_F_CTRL_VQ]);
/// The driver may choose which frames it receives.
pub(crate) const CTRL_RX: Features = set(&[VIRTIO_NET_F_CTRL_RX]);
/// … by further modes.
pub(crate) const CTRL_RX_EXTRA: Features = set(&[VIRTIO_NET_F_CTRL_RX_EXTRA]);
/// … by VLAN.
pub(crate) const CTRL_VLAN: Features = set(&[VIRTIO_NET_F_CTRL_VLAN]);
/// The driver may set the card's address.
pub(crate) const CTRL_MAC_ADDR: Features = set(&[VIRTIO_NET_F_CTRL_MAC_ADDR]);
/// The driver can be asked to announce itself to the network.
pub(crate) const GUEST_ANNOUNCE: Features = set(&[VIRTIO_NET_F_GUEST_ANNOUNCE]);
/// The driver may turn off what the host leaves to it.
pub(crate) const CTRL_GUEST_OFFLOADS: Features = set(&[VIRTIO_NET_F_CTRL_GUEST_OFFLOADS]);
/// The driver may have interrupts wait for more to tell, …
pub(crate) const NOTF_COAL: Features = set(&[VIRTIO_NET_F_NOTF_COAL]);
/// … in each queue as long as it likes.
pub(crate) const VQ_NOTF_COAL: Features = set(&[VIRTIO_NET_F_VQ_NOTF_COAL]);
/// The host may leave a checksum to the driver.
pub(crate) const GUEST_CSUM: Features = set(&[VIRTIO_NET_F_GUEST_CSUM]);
/// There are several pairs of queues.
pub(crate) const MQ: Features = set(&[VIRTIO_NET_F_MQ]);
/// A received frame may be spread over several chains.
pub(crate) const MRG_RXBUF: Features = set(&[VIRTIO_NET_F_MRG_RXBUF]);
/// The driver is told how long a frame's payload may be.
pub(crate) const MTU: Features = set(&[VIRTIO_NET_F_MTU]);
/// The driver is told how fast the link is.
pub(crate) const SPEED_DUPLEX: Features = set(&[VIRTIO_NET_F_SPEED_DUPLEX]);

/// The features of every card of this crate: it has an address, tells whether its link is up, spreads what is
/// long, and takes commands.
pub(crate) const FEATURES: Features = set(&[VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS])
    .with(MRG_RXBUF)
    .with(CTRL_VQ)
    .with(CTRL_RX)
    .with(CTRL_RX_EXTRA)
    .with(CTRL_VLAN)
    .with(CTRL_MAC_ADDR)
    .with(GUEST_ANNOUNCE)
    .with(NOTF_COAL)
    .with(VQ_NOTF_COAL);

/// What the driver may leave to the host, see [`NetBackend::offloads`](crate::NetBackend::offloads).
pub(crate) const HOST_OFFLOADS: Features = set(&[
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_ECN,
    VIRTIO_NET_F_HOST_UFO,
    VIRTIO_NET_F_HOST_USO,
]);

/// How frames may be that are to be cut by the driver.
const GUEST_SEGMENTS: Features = set(&[
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_ECN,
    VIRTIO_NET_F_GUEST_UFO,
    VIRTIO_NET_F_GUEST_USO4,
    VIRTIO_NET_F_GUEST_USO6,
]);

/// What the host may leave to the driver, see
/// [`NetBackend::guest_offloads`](crate::NetBackend::guest_offloads).
pub(crate) const GUEST_OFFLOADS: Features = GUEST_CSUM.with(GUEST_SEGMENTS);

/// What each offload needs at least one of (§5.1.3.1). Those that others need come first.
const NEEDS: [(u32, Features); 11] = [
    (VIRTIO_NET_F_HOST_TSO4, set(&[VIRTIO_NET_F_CSUM])),
    (VIRTIO_NET_F_HOST_TSO6, set(&[VIRTIO_NET_F_CSUM])),
    (VIRTIO_NET_F_HOST_UFO, set(&[VIRTIO_NET_F_CSUM])),
    (VIRTIO_NET_F_HOST_USO, set(&[VIRTIO_NET_F_CSUM])),
    (VIRTIO_NET_F_HOST_ECN, set(&[VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6])),
    (VIRTIO_NET_F_GUEST_TSO4, GUEST_CSUM),
    (VIRTIO_NET_F_GUEST_TSO6, GUEST_CSUM),
    (VIRTIO_NET_F_GUEST_UFO, GUEST_CSUM),
    (VIRTIO_NET_F_GUEST_USO4, GUEST_CSUM),
    (VIRTIO_NET_F_GUEST_USO6, GUEST_CSUM),
    (VIRTIO_NET_F_GUEST_ECN, set(&[VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6])),
];

/// What of `offloads` goes without what is not among them: what a host end promises, or a driver wants.
pub(crate) fn consistent(offloads: Features) -> Features {
    NEEDS.iter().fold(offloads, |left, (offload, needed)| match left.and(*needed) {
        Features(0) => Features(left.0 & !Features::bit(*offload).0),
        _ => left,
    })
}

/// May a received frame be longer than the link's MTU asks for?
pub(crate) fn receives_segments(negotiated: Features) -> bool {
    negotiated.and(GUEST_SEGMENTS) != Features::default()
}

const fn set(numbers: &[u32]) -> Features {
    let (mut all, mut n) = (Features(0), 0);
    while n < numbers.len() {
        all = all.with(Features::bit(numbers[n]));
        n += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_offload_is_offered_without_what_it_needs() {
        const CSUM: Features = set(&[VIRTIO_NET_F_CSUM]);
        let all = HOST_OFFLOADS.with(GUEST_OFFLOADS);
        assert_eq!(consistent(all), all);
        assert_eq!(
            consistent(Features(all.0 & !CSUM.0)),
            GUEST_OFFLOADS,
            "segments need checksums"
        );
        assert_eq!(consistent(Features(all.0 & !GUEST_CSUM.0)), HOST_OFFLOADS);
        for (csum, ecn, tcp) in [
            (
                VIRTIO_NET_F_CSUM,
                VIRTIO_NET_F_HOST_ECN,
                [VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6],
            ),
            (
                VIRTIO_NET_F_GUEST_CSUM,
                VIRTIO_NET_F_GUEST_ECN,
                [VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6],
            ),
        ] {
            assert_eq!(consistent(set(&[csum, ecn])), set(&[csum]), "a mark needs TCP");
            assert_eq!(consistent(set(&[tcp[0], ecn])), Features::default());
            for tcp in tcp {
                assert_eq!(consistent(set(&[csum, ecn, tcp])), set(&[csum, ecn, tcp]));
            }
        }
    }
}
