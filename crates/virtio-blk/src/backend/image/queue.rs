//! What the host knows of a block device.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use nix::sys::stat::{major, minor};

use crate::Topology;

/// What the host knows of a block device (Linux, `Documentation/ABI/stable/sysfs-block`).
pub(super) struct Queue(PathBuf);

impl Queue {
    /// `None` when it is none.
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        let number = metadata.rdev();
        let path = format!("/sys/dev/block/{}:{}", major(number), minor(number));
        metadata.file_type().is_block_device().then(|| Self(path.into()))
    }

    /// One that is read-only can be opened for writing all the same, and then fails each write.
    pub(super) fn is_write_protected(&self) -> bool {
        fs::read(self.0.join("ro")).is_ok_and(|flag| flag.first() == Some(&b'1'))
    }

    pub(super) fn can_discard(&self) -> bool {
        self.figure("discard_max_bytes").is_some_and(|most| most > 0)
    }

    pub(super) fn topology(&self) -> Topology {
        let figure = |name| self.figure(name).and_then(|figure| u32::try_from(figure).ok());
        let plain = Topology::default();
        Topology {
            physical: figure("physical_block_size").unwrap_or(plain.physical),
            best: figure("optimal_io_size").unwrap_or(plain.best),
        }
    }

    /// Of the device, or of the one that it is a partition of.
    fn figure(&self, name: &str) -> Option<u64> {
        ["queue", "../queue"].iter().find_map(|queue| {
            let text = fs::read_to_string(self.0.join(queue).join(name)).ok()?;
            text.trim().parse().ok()
        })
    }
}
