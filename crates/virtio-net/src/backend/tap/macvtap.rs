//! A tap on a card of the host's (macvtap): opened by a node of its own, and a [`Tap`](super::Tap) from then on
//! (Linux, drivers/net/tap.c).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, major, makedev, minor, mknodat};
use rustix::io::Errno;
use rustix::net::netdevice::{index_to_name_inlined, name_to_index};

use super::TapError;
use crate::Mac;

/// Of a node that others remove meanwhile.
const ATTEMPTS: u32 = 10;
/// Frames from one look to the next.
const EVERY: u32 = 64;

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

    /// Without udev, by a node that is there for a moment. It is called after its device: one that a killed program
    /// has left is as good, and goes now.
    fn open_unseen(&self) -> io::Result<File> {
        let Self { number, .. } = *self;
        let name = format!(".cubie-tap-{}-{}", major(number), minor(number));
        let unseen = Self { node: self.node.with_file_name(name), number };
        let mode = Mode::RUSR | Mode::WUSR;
        for _ in 0..ATTEMPTS {
            match mknodat(CWD, &unseen.node, FileType::CharacterDevice, mode, number) {
                Err(Errno::EXIST) if unseen.is_there() => {}
                made => made?,
            }
            let opened = open_node(&unseen.node);
            let removed = fs::remove_file(&unseen.node);
            match (opened, removed) {
                // Another program that opens the same one has removed it.
                (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {}
                (Ok(_), Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error);
                }
                (opened, _) => return opened,
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }
}

/// Looks now and then whether a macvtap is there still. What is sent into one that was deleted is gone without an
/// error, and nothing comes out of it and no event; only the ioctls tell, and these wait for the whole host's
/// network (Linux, drivers/net/tap.c).
#[derive(Debug)]
pub(super) struct Watch {
    socket: UnixDatagram,
    index: u32,
    /// Frames until the next look.
    left: u32,
}

impl Watch {
    /// Of the macvtap `name`; `None` if it is another kind.
    pub(super) fn of(name: &str) -> io::Result<Option<Self>> {
        if Device::of(name).is_none() {
            return Ok(None);
        }
        // Any socket leads to the interfaces.
        let socket = UnixDatagram::unbound()?;
        let index = name_to_index(&socket, name)?;
        Ok(Some(Self { socket, index, left: EVERY }))
    }

    /// A frame was sent. Whether the interface is not where it was, as far as that was looked at.
    pub(super) fn misses(&mut self) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        self.left = EVERY;
        index_to_name_inlined(&self.socket, self.index).is_err()
    }
}

fn open_node(node: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(node)
}
