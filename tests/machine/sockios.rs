//! What ethtool(8) asks interfaces for, where there is none.
#![expect(unsafe_code, reason = "a network card is set up by an ioctl on struct ifreq")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::libc;

/// `linux/sockios.h`, `linux/ethtool.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946 as libc::Ioctl;
const GET_STRINGS: u32 = 0x1b;
const SET_FEATURES: u32 = 0x3b;
const GET_CHANNELS: u32 = 0x3c;
const SET_CHANNELS: u32 = 0x3d;
/// Place of the number of pairs in `struct ethtool_channels`.
const COMBINED: usize = 8;
/// The strings that are the names of features.
const FEATURES: u32 = 4;
/// How many words of one bit each there are for them, and words of a string.
const FEATURE_WORDS: usize = 2;
const STRING: usize = 8;

/// Turns a feature of `interface` on or off that `ethtool -k` calls so. What Linux will not have so is an error.
pub(crate) fn set_feature(interface: &str, name: &str, on: bool) -> io::Result<()> {
    let at = features(interface)?.iter().position(|feature| feature == name);
    let at = at.ok_or_else(|| io::Error::other(format!("Linux has no {name}")))?;
    let mut request = [0; 2 + 2 * FEATURE_WORDS];
    (request[0], request[1]) = (SET_FEATURES, FEATURE_WORDS as u32);
    // Of each word which bits are to be changed, and to what.
    let (word, bit) = (2 + at / 32 * 2, 1 << (at % 32));
    (request[word], request[word + 1]) = (bit, if on { bit } else { 0 });
    ethtool(interface, &mut request)
}

/// Names of all features, by their bits.
fn features(interface: &str) -> io::Result<Vec<String>> {
    let mut strings = [0; 3 + FEATURE_WORDS * 32 * STRING];
    (strings[0], strings[1]) = (GET_STRINGS, FEATURES);
    ethtool(interface, &mut strings)?;
    let name = |words: &[u32]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    };
    Ok(strings[3..].chunks(STRING).map(name).collect())
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
    match done {
        0 => Ok(()),
        1.. => Err(io::Error::other("it is not as was asked")),
        _ => Err(io::Error::last_os_error()),
    }
}
