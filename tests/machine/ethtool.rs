//! What ethtool(8) does, for guests that have none: this very program, which a 64-bit guest gets on a disk, and runs
//! one of its tests.
#![expect(unsafe_code, reason = "network cards are set up by ioctls on struct ifreq")]

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::libc;

use crate::vm::arg;

/// How the guest's shell tells what to do.
const WISH: &str = "CUBIE_ETHTOOL";
/// `linux/sockios.h`, `linux/ethtool.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946 as libc::Ioctl;
const SET_TSO: u32 = 0x1f;
const GET_CHANNELS: u32 = 0x3c;
const SET_CHANNELS: u32 = 0x3d;
/// Place of the number of pairs in `struct ethtool_channels`.
const COMBINED: usize = 8;

/// A disk that holds this program.
pub(crate) fn disk(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    let disk = std::fs::File::options().write(true).open(&path).unwrap();
    let len = disk.metadata().unwrap().len();
    disk.set_len(len.next_multiple_of(512)).unwrap();
    arg(path)
}

/// The guest's command that sets `what` of eth0 to `value`, when `program` is where it has copied the disk.
pub(crate) fn command(program: &str, what: &str, value: usize) -> String {
    format!("{WISH}='{what} {value}' {program} --ignored --exact ethtool::in_a_guest")
}

#[test]
#[ignore = "a guest runs it, see `command`"]
fn in_a_guest() {
    let wish = std::env::var(WISH).expect("what to do");
    let (what, value) = wish.split_once(' ').expect("what, and to which value");
    let value = value.parse().expect("a number");
    match what {
        "tso" => ask(&mut [SET_TSO, value]),
        "channels" => {
            let mut channels = [0; 9];
            channels[0] = GET_CHANNELS;
            ask(&mut channels);
            (channels[0], channels[COMBINED]) = (SET_CHANNELS, value);
            ask(&mut channels);
        }
        _ => panic!("there are tso and channels, and no {what}"),
    }
}

/// Hands a structure of words to eth0's driver, and gets it back.
fn ask(words: &mut [u32]) {
    // Any socket leads to the interfaces.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // SAFETY: all fields are integers or pointers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"eth0") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the request leads to a structure of the size that its first word stands for.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
