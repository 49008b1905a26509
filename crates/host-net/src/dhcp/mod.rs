//! A small server for DHCP (RFC 2131) on one interface, so that a guest's client just works.

mod answer;
mod leases;

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::setsockopt_impl;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use std::os::fd::AsRawFd;

pub(crate) use answer::{Answers, Terms};

const SERVER: u16 = 67;
const CLIENT: u16 = 68;
/// Nothing longer than a frame comes from a guest that obeys.
const LONGEST: usize = 1500;

/// Datagrams without a checksum, as IPv4 allows (RFC 768).
#[derive(Clone, Copy, Debug)]
struct NoChecksum;

setsockopt_impl!(NoChecksum, libc::SOL_SOCKET, libc::SO_NO_CHECK, bool, sockopt::SetBool);

/// A server, until it is dropped.
#[derive(Debug)]
pub(crate) struct DhcpServer {
    /// Its other end ends the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl DhcpServer {
    /// Serves clients on the interface `name`, which is up and has an address.
    pub(crate) fn start(name: &str, terms: Terms) -> io::Result<Self> {
        let socket = listen(name)?;
        let (stop, stopped) = UnixStream::pair()?;
        let thread = std::thread::Builder::new().name(format!("dhcp-{name}"));
        let thread = thread.spawn(move || {
            if let Err(error) = serve(&socket, &stopped, Answers::new(terms)) {
                tracing::warn!("no addresses are handed out to guests any more: {error}");
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for DhcpServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic has been told
        }
    }
}

/// A socket that hears one interface only, so that each has a server of its own.
fn listen(name: &str) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::BindToDevice, &OsString::from(name))?;
    setsockopt(&fd, sockopt::Broadcast, &true)?;
    // A card may leave the checksum to whoever reads, and some clients read frames that nobody has completed.
    setsockopt(&fd, NoChecksum, &true)?;
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, SERVER);
    bind(fd.as_raw_fd(), &SockaddrIn::from(address))?;
    Ok(fd.into())
}

fn serve(socket: &UdpSocket, stopped: &UnixStream, mut answers: Answers) -> io::Result<()> {
    let mut request = [0; LONGEST];
    loop {
        let mut wanted = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut wanted, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            result => result?,
        };
        if wanted[1].any().unwrap_or(true) {
            return Ok(());
        }
        let len = match socket.recv(&mut request) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            result => result?,
        };
        if let Some((to, answer)) = answers.answer(&request[..len], Instant::now()) {
            // An answer that is lost on the way is asked for again.
            let _ = socket.send_to(&answer, (to, CLIENT));
        }
    }
}
