//! Which features a card offers (VIRTIO 1.4 §5.1.3).

use cubie_virtio_core::Features;
use virtio_bindings::virtio_net::*;

/// The driver may leave a checksum to the host (§5.1.3).
pub(crate) const CSUM: Features = Features::bit(VIRTIO_NET_F_CSUM);
/// There is a control queue (§5.1.3).
pub(crate) const CTRL_VQ: Features = Features::bit(VIRTIO_NET_F_CTRL_VQ);
/// There are several pairs of queues (§5.1.3).
pub(crate) const MQ: Features = Features::bit(VIRTIO_NET_F_MQ);

/// What a host end may add to the device, see [`NetBackend::offloads`](crate::NetBackend::offloads).
pub(crate) const OFFLOADS: Features = CSUM
    .with(Features::bit(VIRTIO_NET_F_HOST_TSO4))
    .with(Features::bit(VIRTIO_NET_F_HOST_TSO6))
    .with(Features::bit(VIRTIO_NET_F_HOST_ECN))
    .with(Features::bit(VIRTIO_NET_F_HOST_UFO));

/// The features of every card of this crate: it has an address, and tells that its link is up.
pub(crate) const FEATURES: Features =
    Features::bit(VIRTIO_NET_F_MAC).with(Features::bit(VIRTIO_NET_F_STATUS));

/// What of `host`, a host end's promises, a driver is offered: none without those that it needs
/// (§5.1.3.1).
pub(crate) fn offloads(host: Features) -> Features {
    let host = host.and(OFFLOADS);
    let has = |feature| host.has_bit(feature);
    let tcp = has(VIRTIO_NET_F_HOST_TSO4) || has(VIRTIO_NET_F_HOST_TSO6);
    match (has(VIRTIO_NET_F_CSUM), tcp) {
        (false, _) => Features::default(),
        (true, false) => host.and(CSUM.with(Features::bit(VIRTIO_NET_F_HOST_UFO))),
        (true, true) => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TSO4: Features = Features::bit(VIRTIO_NET_F_HOST_TSO4);

    #[test]
    fn no_offload_is_offered_without_what_it_needs() {
        let [tso6, ecn, ufo] =
            [VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_UFO]
                .map(Features::bit);
        assert_eq!(offloads(OFFLOADS), OFFLOADS);
        assert_eq!(offloads(TSO4.with(ufo)), Features::default(), "segments need checksums");
        assert_eq!(offloads(CSUM.with(ecn).with(ufo)), CSUM.with(ufo), "a mark needs TCP");
        for tcp in [TSO4, tso6] {
            assert_eq!(offloads(CSUM.with(ecn).with(tcp)), CSUM.with(ecn).with(tcp));
        }
        assert_eq!(offloads(FEATURES.with(CSUM)), CSUM, "the rest is not the host end's affair");
    }
}
