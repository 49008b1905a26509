//! Reusable virtualization crates for KVM on ARM, under one roof.
//!
//! Each module here is a crate of its own, which stands alone; take the one you need, or this package
//! to have them all in versions that fit together. From the bottom up:
//!
//! | module | crate | what it is |
//! |---|---|---|
//! | [`irq`] | `cubie-vm-irq` | how a device gets the guest's attention; SPI, PPI, GSI and INTID as types |
//! | [`mmio`] | `cubie-mmio-bus` | address ranges to devices |
//! | [`host_net`] | `cubie-host-net` | the host's side of a tap: bridge, NAT, route |
//! | [`virtq`] | `cubie-virtq` | virtqueues, the device's end |
//! | [`hv`] | `cubie-hv` | what a machine needs from a hypervisor, and a scripted fake |
//! | [`virtio`] | `cubie-virtio-core` | device trait, virtio-mmio registers, worker thread |
//! | [`kvm`] | `cubie-arm-kvm` | the hypervisor layer on KVM for ARM (empty on other processors) |
//! | [`net`], [`blk`], [`console`], [`rng`] | `cubie-virtio-…` | the devices |
//! | [`vhost_user`] | `cubie-vhost-user` | any device as a daemon for other VMMs, and others' daemons as devices |
//! | [`user_net`] | `cubie-user-net` | a network for the guest without privileges |
//! | [`netpath`] | `cubie-netpath` | what a packet costs at each hop, and which switch would help |
//! | [`vmm`] | `cubie-vmm` | layout, loaders, device tree, machine |
//! | [`lkvm`] | here | options in the manner of LKVM |
//!
//! With the feature `serde`, the saved states of devices ([`virtio::TransportState`]) have that crate's traits.
//!
//! How they are put together is best seen in the example `cubietruck-vm`, a small VMM in the manner of
//! LKVM; how they hold together is in `ARCHITECTURE.md`.
//!
//! ```
//! use cubie::irq::Spi;
//! use cubie::vmm::layout;
//!
//! // The first virtio device of a guest laid out like the CubieTruck.
//! assert_eq!(layout::VIRTIO.address(0), Some(0x0a00_0000));
//! assert_eq!(layout::virtio_spi(0), Spi::new(128));
//! ```
#![forbid(unsafe_code)]

pub mod lkvm;

pub use cubie_arm_kvm as kvm;
pub use cubie_host_net as host_net;
pub use cubie_hv as hv;
pub use cubie_mmio_bus as mmio;
pub use cubie_netpath as netpath;
pub use cubie_user_net as user_net;
pub use cubie_vhost_user as vhost_user;
pub use cubie_virtio_blk as blk;
pub use cubie_virtio_console as console;
pub use cubie_virtio_core as virtio;
pub use cubie_virtio_net as net;
pub use cubie_virtio_rng as rng;
pub use cubie_virtq as virtq;
pub use cubie_vm_irq as irq;
pub use cubie_vmm as vmm;

/// The README's device compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So does the network's on its page.
#[cfg(doctest)]
#[doc = include_str!("../docs/networking.md")]
struct Networking;

/// So do the programs on the page for authors of devices.
#[cfg(doctest)]
#[doc = include_str!("../docs/your-device.md")]
struct YourDevice;
