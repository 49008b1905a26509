//! A tap on a card of the host's (macvtap): opened by a node of its own, and a [`Tap`](super::Tap) from then on
//! (Linux, drivers/net/tap.c).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::TapError;
use crate::Mac;

/// The device of one macvtap.
struct Device {
    /// Where udev puts its node.
    node: PathBuf,
    number: u64,
}

/// Opens another queue of the macvtap `name`, which is the name of an interface; `None` if it is another kind.
pub(super) fn open(name: &str) -> Result<Option<File>, TapError> {
    let Some(device) = Device::of(name) else { return Ok(None) };
    let opened = if device.is_there() { open_node(&device.node) } else { device.open_unseen() };
    opened.map(Some).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => {
            TapError::Node { tap: name.into(), node: device.node.display().to_string() }
        }
        _ => TapError::Host { what: "open", source },
    })
}

/// The hardware address of the macvtap `name`; `None` if it is another kind.
pub(super) fn mac(name: &str) -> Option<Mac> {
    Device::of(name)?;
    fs::read_to_string(format!("/sys/class/net/{name}/address")).ok()?.trim().parse().ok()
}

impl Device {
    fn of(name: &str) -> Option<Self> {
        let mut devices = fs::read_dir(format!("/sys/class/net/{name}/macvtap")).ok()?;
        let device = devices.next()?.ok()?;
        let number = fs::read_to_string(device.path().join("dev")).ok()?;
        let (major, minor) = number.trim().split_once(':')?;
        let number = makedev(major.parse().ok()?, minor.parse().ok()?);
        Some(Self { node: Path::new("/dev").join(device.file_name()), number })
    }

    /// Whether the node is there, and not that of another network namespace's interface.
    fn is_there(&self) -> bool {
        self.node
            .metadata()
            .is_ok_and(|node| node.file_type().is_char_device() && node.rdev() == self.number)
    }

    /// Without udev, by a node that is there for a moment.
    fn open_unseen(&self) -> io::Result<File> {
        let node = self.node.with_file_name(format!(".cubie-tap-{}", std::process::id()));
        mknodat(CWD, &node, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, self.number)?;
        let opened = open_node(&node);
        fs::remove_file(&node)?;
        opened
    }
}

fn open_node(node: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(node)
}
