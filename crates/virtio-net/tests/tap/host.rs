//! The host's side of an interface.
#![expect(unsafe_code, reason = "std has no packet sockets")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

use crate::ETHERTYPE;

/// Frames of our type.
pub(crate) fn host_side(name: &str) -> File {
    host_side_of(name, ETHERTYPE)
}

/// Frames of this type.
pub(crate) fn host_side_of(name: &str, ethertype: u16) -> File {
    let protocol = ethertype.to_be();
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol.into()) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: a descriptor that nobody else has.
    let socket = unsafe { File::from_raw_fd(fd) };
    let name = CString::new(name).unwrap();
    // SAFETY: the name ends with zero, and zero is a value for all fields of the address.
    let (index, mut address) =
        unsafe { (libc::if_nametoindex(name.as_ptr()), std::mem::zeroed::<libc::sockaddr_ll>()) };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as i32;
    let len = size_of_val(&address) as u32;
    // SAFETY: the address is as long as said.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    assert_eq!(bound, 0, "{}", io::Error::last_os_error());
    socket
}

/// From now on each frame has a header in front that says what is still to be done to it: the ten bytes of
/// `struct virtio_net_hdr`.
pub(crate) fn with_headers(socket: &File) {
    let on: libc::c_int = 1;
    let (at, len) = ((&raw const on).cast(), size_of_val(&on) as u32);
    let (level, option) = (libc::SOL_PACKET, libc::PACKET_VNET_HDR);
    // SAFETY: the option is an int.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, at, len) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}
