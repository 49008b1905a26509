//! What a person can do something about.

use std::io;
use std::path::PathBuf;

use cubie_hv::HvError;

/// Why this host does not make this machine, each in one line for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// There is no KVM here.
    #[error("{} is missing: this machine cannot run guests, or its kernel has KVM switched off", .0.display())]
    Missing(PathBuf),
    /// There is KVM, for others.
    #[error("{} may not be opened: join the group `kvm` or run as root", .0.display())]
    Denied(PathBuf),
    /// There is something, and it does not open.
    #[error("{} does not open: {source}", path.display())]
    Unusable {
        /// What was opened.
        path: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
    /// Something opened, and is not KVM.
    #[error("{} is not KVM, or speaks another version of its interface than 12", .0.display())]
    NotKvm(PathBuf),
    /// KVM is older than what every machine here needs.
    #[error("this host's KVM is too old: it lacks {0}")]
    TooOld(&'static str),
    /// A 32-bit guest on a CPU that is 64-bit only.
    #[error("this host's CPU cannot run 32-bit guests (no AArch32 at EL1): use a 64-bit guest")]
    NoAarch32,
    /// A GICv3 host without GICv2 compatibility.
    #[error("this host has no virtual GICv2: guests here need a GICv3, which is not yet supported")]
    NoGicV2,
    /// No vCPU at all.
    #[error("a machine needs at least one vCPU")]
    NoVcpus,
    /// More vCPUs than there can be.
    #[error("{asked} vCPUs are too many: a GICv2 serves up to {gic}, this host up to {host}")]
    TooManyVcpus {
        /// What was asked for.
        asked: u8,
        /// The interrupt controller's limit.
        gic: u8,
        /// KVM's limit on this host.
        host: usize,
    },
    /// KVM refused what it should be able to do.
    #[error(transparent)]
    Hv(#[from] HvError),
}
