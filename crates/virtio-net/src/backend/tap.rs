//! A tap: a network interface of the host whose cable is a file descriptor
//! (Linux, Documentation/networking/tuntap.rst).
#![expect(unsafe_code, reason = "interfaces are made and set up by ioctls on struct ifreq")]

mod error;
mod macvtap;
mod offloads;

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;

use cubie_virtio_core::Features;
use cubie_virtq::Segments;
use libc::{Ioctl, ifreq};

use super::{NetBackend, Received};
use crate::{Mac, NetHeader};
pub use error::TapError;
use error::failed;
use macvtap::Watch;

const DEVICE: &str = "/dev/net/tun";
/// What the kernel makes the first free name of.
const ANY_NAME: &str = "cubie%d";
/// Ethernet frames, with a virtio header in front and nothing else.
const FLAGS: i32 = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// A tap, up and non-blocking, or one queue of a tap that has several. It vanishes with the last of these
/// values, unless somebody had made it persistent.
///
/// The kernel does for the guest what it can do for a process: checksums and segmentation, in both directions.
/// It is told what the guest takes over: as long as that is nothing, it hands over no frame longer than the
/// interface's MTU and a VLAN header ask for. One that is longer than the guest's buffers all the same (an MTU
/// that the guest does not know of) is dropped as a whole.
///
/// An interface that is down takes none of the guest's frames, and goes on when it is up again. One that is deleted
/// is gone for good: another one of the same name is another one.
///
/// A macvtap, which shares a card of the host's, is used in the same way ([`Tap::mac`]), and lasts. When it is deleted,
/// that is noticed with one of the next 64 frames of the guest's.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
    /// The kernel puts frames into this queue.
    attached: bool,
    /// What the kernel can do to frames, in its own words (`TUN_F_…`).
    offloads: libc::c_uint,
    /// Of a macvtap.
    watch: Option<Watch>,
}

impl Tap {
    /// Attaches to the tap or macvtap `name`, or makes a tap: that takes root (`CAP_NET_ADMIN`). Without a name the
    /// kernel chooses one. An interface that is down is brought up if that is permitted.
    pub fn open(name: Option<&str>) -> Result<Self, TapError> {
        let tap = Self::attach(name.unwrap_or(ANY_NAME), FLAGS)?;
        tap.bring_up().map_err(|source| TapError::Host { what: "bring up", source })?;
        Ok(tap)
    }

    /// As [`Tap::open`], with so many queues, or one if that is none: one for each pair of queues of a card. The kernel spreads
    /// the host's frames over those that the driver uses, and puts what belongs to one that the guest sends
    /// into the same queue. A tap that is there already must have been made with `multi_queue`.
    pub fn open_queues(name: Option<&str>, queues: usize) -> Result<Vec<Self>, TapError> {
        let flags = FLAGS | libc::IFF_MULTI_QUEUE;
        let first = Self::attach(name.unwrap_or(ANY_NAME), flags)?;
        let mut taps = vec![first];
        while taps.len() < queues {
            let mut tap = Self::attach(&taps[0].name, flags)?;
            // Nobody has asked for more than one yet.
            tap.set_active(false).map_err(|source| TapError::Host { what: "set up", source })?;
            taps.push(tap);
        }
        taps[0].bring_up().map_err(|source| TapError::Host { what: "bring up", source })?;
        Ok(taps)
    }

    fn attach(name: &str, flags: i32) -> Result<Self, TapError> {
        let mut request = request(name).ok_or_else(|| TapError::Name(name.into()))?;
        let file = match macvtap::open(name)? {
            // The kernel does not look at the name of what is there already.
            Some(file) => file,
            None => open_device()?,
        };
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes a struct ifreq, which this is.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
            .map_err(|error| TapError::refused(name, flags & libc::IFF_MULTI_QUEUE != 0, error))?;
        let name = name_in(&request);
        let failed = |source| TapError::Host { what: "set up", source };
        let watch = Watch::of(&name).map_err(failed)?;
        let mut tap = Self { file, name, attached: true, offloads: 0, watch };
        tap.set_up().map_err(failed)?;
        Ok(tap)
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that the guest has to have, so that its frames come here: that of a macvtap. A tap of its
    /// own has none.
    pub fn mac(&self) -> Option<Mac> {
        macvtap::mac(&self.name)
    }

    /// How many bytes of payload the interface takes in a frame now, for
    /// [`Net::with_mtu`](crate::Net::with_mtu).
    pub fn mtu(&self) -> io::Result<u16> {
        let mut request = request(&self.name).ok_or(io::ErrorKind::InvalidData)?;
        // Any socket leads to the interfaces.
        let socket = UnixDatagram::unbound()?;
        let number = libc::SIOCGIFMTU as Ioctl;
        // SAFETY: SIOCGIFMTU takes a struct ifreq, and writes nothing beyond.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw mut request) })?;
        // SAFETY: SIOCGIFMTU has filled this variant in.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        Ok(mtu.try_into().unwrap_or(u16::MAX))
    }

    /// The header of this crate, no offloads, and room for all frames: a persistent tap remembers those of
    /// its last user.
    fn set_up(&mut self) -> io::Result<()> {
        self.set_header_len(NetHeader::LEN)?;
        // The kernel cannot be asked what it knows, but it refuses what it does not.
        let known = [offloads::ALL, offloads::ALL & !offloads::USO];
        let known = known.into_iter().find(|flags| self.offload(*flags).is_ok());
        self.offloads = known.unwrap_or_default();
        self.offload(0)?;
        // Each tap begins without a bound on what the host has not yet taken, but a persistent one remembers
        // its last user's. Under one, a frame may find no room, and no edge may come when there is some:
        // the kernel wakes those only whom poll has found without room before (Linux, drivers/net/tun.c,
        // tun_chr_poll and tun_sock_write_space), and a write that fails is not a poll.
        let all = libc::c_int::MAX;
        // SAFETY: TUNSETSNDBUF reads an int.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETSNDBUF, &raw const all) })
    }

    /// What may be left to the guest.
    fn offload(&self, flags: libc::c_uint) -> io::Result<()> {
        let flags = libc::c_ulong::from(flags);
        // SAFETY: TUNSETOFFLOAD takes a number.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETOFFLOAD, flags) })
    }

    /// Asks something that only an interface can answer.
    fn ask(&self) -> io::Result<()> {
        let mut request = request(&self.name).ok_or(io::ErrorKind::InvalidData)?;
        // SAFETY: TUNGETIFF writes a struct ifreq, which this is.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })
    }

    fn set_header_len(&self, len: usize) -> io::Result<()> {
        let len = len as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads an int.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) })
    }

    fn bring_up(&self) -> io::Result<()> {
        // Any socket leads to the interfaces.
        let socket = UnixDatagram::unbound()?;
        let ioctl = |number: Ioctl, request: &mut ifreq| {
            // SAFETY: both ioctls used here take a struct ifreq, and write nothing beyond.
            check(unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw mut *request) })
        };
        let mut request = request(&self.name).ok_or(io::ErrorKind::InvalidData)?;
        ioctl(libc::SIOCGIFFLAGS as Ioctl, &mut request)?;
        let up = libc::IFF_UP as libc::c_short;
        // SAFETY: SIOCGIFFLAGS has filled this variant in.
        if unsafe { request.ifr_ifru.ifru_flags } & up != 0 {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { request.ifr_ifru.ifru_flags |= up };
        match ioctl(libc::SIOCSIFFLAGS as Ioctl, &mut request) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let name = &self.name;
                tracing::warn!("the tap is down: have root run `ip link set {name} up`");
                Ok(())
            }
            result => result,
        }
    }
}

impl NetBackend for Tap {
    fn send(&mut self, header: &NetHeader, frame: &mut Segments) -> io::Result<()> {
        let mut sent = frame.write_packet(&header.to_bytes(), self.file.as_fd());
        if self.watch.as_mut().is_some_and(Watch::misses) {
            sent = sent.and(self.ask());
        }
        sent.map_err(|error| failed(&self.file, error))
    }

    fn recv(&mut self, header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        let mut bytes = [0; NetHeader::LEN];
        match room.read_packet(&mut bytes, self.file.as_fd()) {
            Ok(Some(len)) => {
                *header = NetHeader::from_bytes(bytes);
                Ok(Received::Frame(len))
            }
            Ok(None) => Ok(Received::Lost),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(failed(&self.file, error)),
        }
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn offloads(&self) -> Features {
        offloads::host(self.offloads)
    }

    fn guest_offloads(&self) -> Features {
        offloads::guest(self.offloads)
    }

    fn set_guest_offloads(&mut self, offloads: Features) -> io::Result<()> {
        self.offload(offloads::flags(offloads)).map_err(|error| failed(&self.file, error))
    }

    /// A queue that is detached gets no frames, and none can be sent through it. It can be waited for only
    /// if that began while it was attached.
    fn set_active(&mut self, active: bool) -> io::Result<()> {
        if active == self.attached {
            return Ok(());
        }
        let flag = if active { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE };
        let mut request = request(&self.name).ok_or(io::ErrorKind::InvalidData)?;
        request.ifr_ifru.ifru_flags = flag as libc::c_short;
        // SAFETY: TUNSETQUEUE reads a struct ifreq.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETQUEUE, &raw const request) })
            .map_err(|error| failed(&self.file, error))?;
        self.attached = active;
        Ok(())
    }

    fn lend(&mut self, header_len: usize) -> io::Result<&File> {
        self.set_header_len(header_len).map_err(|error| failed(&self.file, error))?;
        Ok(&self.file)
    }
}

fn open_device() -> Result<File, TapError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    options.open(DEVICE).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TapError::Missing,
        Some(libc::EACCES | libc::EPERM) => TapError::Device,
        _ => TapError::Host { what: "open", source },
    })
}

/// A request for the interface `name`; `None` if none can be called so.
fn request(name: &str) -> Option<ifreq> {
    let plain = name.replacen("%d", "", 1);
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !plain.bytes().all(letter) || [".", ".."].contains(&name) {
        return None;
    }
    // SAFETY: all fields are integers or pointers, for which zero is a value.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Some(request)
}

/// The name that the kernel has filled in.
fn name_in(request: &ifreq) -> String {
    let bytes = request.ifr_name.map(|byte| byte.to_ne_bytes()[0]);
    let name = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_interface_can_have_is_refused_before_anything_is_made() {
        for name in ["", ".", "..", "a/b", "sixteen-letters-", "a b", "ä", "%d%d", "eth0:1"] {
            let error = Tap::open(Some(name)).unwrap_err();
            assert!(matches!(&error, TapError::Name(n) if n == name), "{name}: {error}");
        }
    }

    #[test]
    fn names_go_to_the_kernel_and_back() {
        for name in ["cubie0", "fifteen-letters", "tap%d"] {
            assert_eq!(name_in(&request(name).unwrap()), name);
        }
    }

    #[test]
    fn the_last_user_of_a_tap_leaves_no_bound_on_what_can_be_sent() {
        let Ok(mut tap) = Tap::open(None) else { return eprintln!("skipped: no tap here") };
        let bounded: libc::c_int = 4096;
        let mut bound: libc::c_int = 0;
        // SAFETY: TUNSETSNDBUF reads an int.
        check(unsafe { libc::ioctl(tap.file.as_raw_fd(), libc::TUNSETSNDBUF, &raw const bounded) })
            .unwrap();
        tap.set_up().unwrap();
        // SAFETY: TUNGETSNDBUF writes an int.
        check(unsafe { libc::ioctl(tap.file.as_raw_fd(), libc::TUNGETSNDBUF, &raw mut bound) })
            .unwrap();
        assert_eq!(bound, libc::c_int::MAX);
    }
}
