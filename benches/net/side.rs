//! Who is measured, on what.

use std::fmt;

/// The tap of whichever guest runs.
pub(crate) const TAP: &str = "cubiebench";

/// What is between guest and host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Tap,
    Vhost,
    /// A tap with four pairs of queues and connections.
    Tap4,
    User,
}

pub(crate) const NETWORKS: [Network; 4] =
    [Network::Tap, Network::Vhost, Network::Tap4, Network::User];

impl Network {
    /// Pairs of queues, and connections.
    pub(crate) fn lanes(self) -> u8 {
        if self == Self::Tap4 { 4 } else { 1 }
    }

    pub(crate) fn has_tap(self) -> bool {
        self != Self::User
    }

    /// Worth being measured without segmentation by the card, too.
    pub(crate) fn is_cut(self) -> bool {
        matches!(self, Self::Tap | Self::Vhost)
    }

    /// QEMU's better bus will do where only that can be compared with.
    fn is_tried_on(self, bus: &str) -> bool {
        bus == "pci" || self.is_cut()
    }

    fn cubie(self) -> String {
        let more = match self {
            Self::User => return "mode=user".into(),
            Self::Tap => "",
            Self::Tap4 => ",mq=4",
            Self::Vhost => ",vhost=1",
        };
        format!("mode=tap,tapif={TAP}{more}")
    }

    fn qemu(self, bus: &str) -> String {
        let (more, mq) = match self {
            Self::User => return format!("-netdev user,id=n -device virtio-net-{bus},netdev=n"),
            Self::Tap => ("vhost=off", ""),
            Self::Tap4 => ("vhost=off,queues=4", ",mq=on"),
            Self::Vhost => ("vhost=on", ""),
        };
        // One for each queue, one for the control queue and one for the configuration.
        let vectors = if self == Self::Tap4 && bus == "pci" { ",vectors=10" } else { "" };
        format!(
            "-netdev tap,id=n,ifname={TAP},script=no,downscript=no,{more} \
             -device virtio-net-{bus},netdev=n{mq}{vectors}"
        )
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Tap => "tap",
            Self::Tap4 => "tap, 4 queues",
            Self::Vhost => "vhost",
        })
    }
}

/// The VMM, with its options.
#[derive(Clone, Debug)]
pub(crate) enum Vmm {
    Cubie(String),
    Qemu(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub(crate) who: &'static str,
    pub(crate) network: Network,
    pub(crate) vmm: Vmm,
}

pub(crate) const CUBIE: &str = "cubie";
/// The peers, and what QEMU's devices on such a bus end in.
pub(crate) const PEERS: [(&str, &str); 2] =
    [("QEMU virtio-mmio", "device"), ("QEMU virtio-pci", "pci")];

/// All of them: ours first, then its peers on the same network.
pub(crate) fn sides() -> Vec<Side> {
    let mut all = vec![];
    for network in NETWORKS {
        let ours = (CUBIE, Vmm::Cubie(network.cubie()));
        let theirs = PEERS.iter().filter(|(_, bus)| network.is_tried_on(bus));
        let theirs = theirs.map(|(who, bus)| (*who, Vmm::Qemu(network.qemu(bus))));
        let side = |(who, vmm)| Side { who, network, vmm };
        all.extend([ours].into_iter().chain(theirs).map(side));
    }
    all
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.network, self.who)
    }
}
