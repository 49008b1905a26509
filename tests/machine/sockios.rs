//! What ethtool(8) asks interfaces for, where there is none.
#![expect(unsafe_code, reason = "a network card is set up by an ioctl on struct ifreq")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::libc;

/// `linux/sockios.h`, `linux/ethtool.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946 as libc::Ioctl;
const SET_TSO: u32 = 0x1f;
const GET_CHANNELS: u32 = 0x3c;
const SET_CHANNELS: u32 = 0x3d;
/// Place of the number of pairs in `struct ethtool_channels`.
const COMBINED: usize = 8;

/// Whether the kernel leaves segmentation of what it sends by TCP to `interface`.
pub(crate) fn set_tso(interface: &str, on: bool) -> io::Result<()> {
    ethtool(interface, &mut [SET_TSO, on.into()])
}

/// How many pairs of queues `interface` uses.
pub(crate) fn set_pairs(interface: &str, pairs: u32) -> io::Result<()> {
    let mut channels = [0; 9];
    channels[0] = GET_CHANNELS;
    ethtool(interface, &mut channels)?;
    (channels[0], channels[COMBINED]) = (SET_CHANNELS, pairs);
    ethtool(interface, &mut channels)
}

/// Hands one of ethtool's structures, as words, to the driver of `interface`, and gets it back.
fn ethtool(interface: &str, words: &mut [u32]) -> io::Result<()> {
    // Any socket leads to the interfaces.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all fields are integers or pointers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the request leads to a structure of the size that its first word stands for.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
