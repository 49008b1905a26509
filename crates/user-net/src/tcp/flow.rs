//! One TCP connection: smoltcp towards the guest, a socket towards the host's side, and bytes between.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, getpeername, recv, send, shutdown, sockopt};
use smoltcp::iface::{Context, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{EthernetAddress, TcpSeqNumber};

use super::syn::{LEAST, Place};
use crate::table::Path;

/// A guest that does not acknowledge anything for so long is gone.
const PATIENCE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);

/// A connection.
pub(super) struct Flow {
    /// One socket.
    pub(super) sockets: SocketSet<'static>,
    handle: SocketHandle,
    host: OwnedFd,
    pub(super) mac: EthernetAddress,
    /// Bytes of payload that the guest takes at once.
    pub(super) most: u16,
    /// The host's side has not answered yet, since then.
    connecting: Option<Instant>,
    /// How long the guest may say nothing before it is open.
    patience: smoltcp::time::Duration,
    /// The host's socket may have something to read, may take something.
    readable: bool,
    writable: bool,
    /// Each side's last byte has gone over to the other.
    host_ended: bool,
    guest_ended: bool,
    /// The guest's last byte has come.
    fin: bool,
    /// Its next byte that the host's socket has not taken, once it has begun.
    wanted: Option<TcpSeqNumber>,
    /// It is one of those that have a turn to come.
    pub(super) queued: bool,
    /// When it needs a turn whatever happens.
    pub(super) deadline: Option<Instant>,
}

impl Flow {
    /// A guest's connection, which is answered when `host` is connected.
    pub(super) fn outward(
        path: Path,
        mac: EthernetAddress,
        host: OwnedFd,
        buffer: usize,
        now: Instant,
    ) -> Self {
        let mut flow = Self::new(mac, host, buffer);
        let socket = flow.socket();
        socket.pause_synack(true);
        // Neither is the port zero nor the socket in use.
        let _ = socket.listen(path.remote);
        Self { connecting: Some(now), ..flow }
    }

    /// A connection to the guest; `None` if there cannot be one.
    pub(super) fn inward(
        path: Path,
        mac: EthernetAddress,
        host: OwnedFd,
        buffer: usize,
        context: &mut Context,
    ) -> Option<Self> {
        let mut flow = Self::new(mac, host, buffer);
        flow.socket().connect(context, path.guest, path.remote).ok()?;
        Some(flow)
    }

    fn new(mac: EthernetAddress, host: OwnedFd, buffer: usize) -> Self {
        let bytes = || SocketBuffer::new(vec![0; buffer]);
        let mut socket = Socket::new(bytes(), bytes());
        // Frames are cheap here, and waiting is not.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            sockets,
            handle,
            host,
            mac,
            most: LEAST,
            connecting: None,
            patience: PATIENCE,
            readable: true,
            writable: true,
            host_ended: false,
            guest_ended: false,
            fin: false,
            wanted: None,
            queued: false,
            deadline: None,
        }
    }

    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Whether a SYN of the guest's was taken.
    pub(super) fn is_open(&mut self) -> bool {
        !matches!(self.socket().state(), State::Listen | State::SynSent)
    }

    /// The guest has sent a SYN, at the beginning of `place`.
    pub(super) fn begins(&mut self, place: Place) {
        if self.is_open() {
            self.wanted = Some(place.start + 1);
        }
    }

    /// Whether what comes from `place` fits into the buffer. To smoltcp, all fits that lies in the window which it
    /// takes that of its SYN for: scaled, as that of a SYN is not (RFC 7323 §2.2), so that it writes beyond.
    pub(super) fn has_room_for(&mut self, place: Place) -> bool {
        let most = self.socket().recv_capacity();
        self.wanted.is_none_or(|wanted| place.end <= wanted + most)
    }

    /// Something has happened to the host's socket.
    pub(super) fn event(&mut self) {
        (self.readable, self.writable) = (true, true);
    }

    /// Ends it at once: the guest is told by a reset.
    pub(super) fn abort(&mut self) {
        self.socket().abort();
    }

    /// Moves what can be moved. Returns whether a byte was.
    pub(super) fn pump(&mut self, now: Instant) -> bool {
        if let Some(since) = self.connecting
            && !self.connected(now.saturating_duration_since(since))
        {
            return false;
        }
        let state = self.socket().state();
        self.fin |=
            matches!(state, State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        let to_guest = self.fill_guest();
        let to_host = self.drain_guest();
        self.set_patience();
        to_guest || to_host
    }

    /// The guest has so long to acknowledge what it is sent, and as long as it likes to say nothing:
    /// smoltcp counts both.
    fn set_patience(&mut self) {
        let patience = self.patience;
        let socket = self.socket();
        let sends = (socket.send_queue() > 0).then_some(PATIENCE);
        let opens = matches!(socket.state(), State::SynSent | State::SynReceived);
        socket.set_timeout(if opens { Some(patience) } else { sends });
    }

    /// Whether the host's side has answered by now, after `waited`. If it refuses, the guest is told.
    fn connected(&mut self, waited: Duration) -> bool {
        match sockopt::socket_error(&self.host) {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => {
                tracing::debug!(%error, "a connection is refused");
                self.abort();
                return false;
            }
        }
        let connected = matches!(getpeername(&self.host), Ok(Some(_)));
        if connected {
            self.connecting = None;
            // The guest's time begins now, and smoltcp counts it from the guest's SYN.
            self.patience = PATIENCE + waited.into();
            self.socket().pause_synack(false);
        }
        connected
    }

    /// From the host's socket into the guest's window.
    fn fill_guest(&mut self) -> bool {
        let Self { sockets, handle, host, readable, host_ended, .. } = self;
        let socket = sockets.get_mut::<Socket<'_>>(*handle);
        let mut moved = false;
        while *readable && !*host_ended && socket.can_send() {
            let read = socket.send(|room| match recv(&*host, &mut *room, RecvFlags::empty()) {
                Ok((len, _)) => (len, Ok(len)),
                Err(error) => (0, Err(error)),
            });
            match read {
                Ok(Ok(0)) => {
                    *host_ended = true;
                    socket.close();
                }
                Ok(Ok(_)) => moved = true,
                Ok(Err(Errno::AGAIN)) => *readable = false,
                _ => {
                    socket.abort();
                    break;
                }
            }
        }
        moved
    }

    /// From the guest into the host's socket.
    fn drain_guest(&mut self) -> bool {
        let Self { sockets, handle, host, writable, fin, guest_ended, wanted, .. } = self;
        let socket = sockets.get_mut::<Socket<'_>>(*handle);
        let mut moved = false;
        // What came with a SYN is not to be relied on before the connection is open.
        let open = !matches!(socket.state(), State::SynSent | State::SynReceived);
        while open && *writable && socket.can_recv() {
            let written = socket.recv(|data| match send(&*host, data, SendFlags::NOSIGNAL) {
                Ok(len) => {
                    wanted.iter_mut().for_each(|wanted| *wanted += len);
                    (len, Ok(()))
                }
                Err(error) => (0, Err(error)),
            });
            match written {
                Ok(Ok(())) => moved = true,
                Ok(Err(Errno::AGAIN)) => *writable = false,
                _ => {
                    socket.abort();
                    return moved;
                }
            }
        }
        if *fin && !*guest_ended && !socket.can_recv() {
            *guest_ended = true;
            // Fails when the host's side has gone, which reading tells.
            let _ = shutdown(&*host, Shutdown::Write);
        }
        moved
    }

    /// The guest has had its last packet, but not all of its bytes have reached the host's side.
    pub(super) fn lingers(&mut self) -> bool {
        let socket = self.socket();
        socket.state() == State::TimeWait && socket.can_recv()
    }

    /// There is nothing to do before the host's side does something, whatever smoltcp would say.
    pub(super) fn waits_for_host(&mut self) -> bool {
        self.connecting.is_some() || self.lingers()
    }

    /// Nothing is left to be done.
    pub(super) fn is_over(&mut self) -> bool {
        let (fin, writable) = (self.fin, self.writable);
        let socket = self.socket();
        match socket.state() {
            // The guest has thought better of it, or never meant it.
            State::Listen => true,
            // Closed by a reset; or in good order, as the other.
            State::Closed => !(fin && socket.can_recv()) || writable,
            State::TimeWait => !socket.can_recv(),
            _ => false,
        }
    }

    /// Leaves the host's side as the guest has left: in good order, or by a reset.
    pub(super) fn hang_up(self) {
        if !(self.host_ended && self.guest_ended) {
            let _ = sockopt::set_socket_linger(&self.host, Some(Duration::ZERO));
        }
    }
}
