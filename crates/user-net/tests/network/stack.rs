//! The guest: a stack of its own at the end of a cable.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cubie_user_net::addresses::{GATEWAY, GATEWAY6, GUEST, PREFIX};
use cubie_user_net::{Config, Gateway};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smoltcp::iface::{self, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{EthernetAddress, IpCidr};

use crate::cable::{Cable, Link};

/// What anything may take at most.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 15];
/// The guest's IPv6 address, which it has given itself.
pub(crate) fn guest6() -> Ipv6Addr {
    let mut segments = PREFIX.segments();
    segments[7] = 15;
    segments.into()
}

/// Its address on the link.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 15);

/// A guest with IPv4 and IPv6 addresses, and a cable.
pub(crate) struct Stack<C: Cable = Gateway> {
    pub(crate) cable: C,
    pub(crate) interface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    start: Instant,
    /// Added to the clock.
    pub(crate) later: Duration,
    port: u16,
}

impl Stack {
    pub(crate) fn new(config: &Config) -> Self {
        Self::on(Gateway::new(config, Instant::now()).unwrap())
    }

    /// One that has but the address of its link, and asks for others.
    pub(crate) fn bare(config: &Config) -> Self {
        let gateway = Gateway::new(config, Instant::now()).unwrap();
        Self::with(gateway, true, &[IpCidr::new(LINK_LOCAL.into(), 64)])
    }
}

impl<C: Cable> Stack<C> {
    pub(crate) fn on(cable: C) -> Self {
        let own = [IpCidr::new(GUEST.into(), 24), IpCidr::new(guest6().into(), 64)];
        let mut stack = Self::with(cable, false, &own);
        let routes = stack.interface.routes_mut();
        routes.add_default_ipv4_route(GATEWAY).unwrap();
        routes.add_default_ipv6_route(GATEWAY6).unwrap();
        stack
    }

    fn with(cable: C, slaac: bool, addresses: &[IpCidr]) -> Self {
        let mut config = iface::Config::new(EthernetAddress(MAC).into());
        config.random_seed = u64::from(std::process::id());
        config.slaac = slaac;
        let start = Instant::now();
        let mut link = Link { cable, now: start };
        let mut interface = Interface::new(config, &mut link, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|own| own.extend_from_slice(addresses).unwrap());
        let (sockets, later) = (SocketSet::new(vec![]), Duration::ZERO);
        Self { cable: link.cable, interface, sockets, start, later, port: 20_000 }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::now() + self.later
    }

    /// Lets frames pass both ways until none is left; `true` if that may have changed something.
    pub(crate) fn poll(&mut self) -> bool {
        let now = self.now();
        let time = self.time();
        let Self { cable, interface, sockets, .. } = self;
        let mut link = Link { cable, now };
        interface.poll(time, &mut link, sockets) == PollResult::SocketStateChanged
    }

    fn time(&self) -> smoltcp::time::Instant {
        let since = self.now() - self.start;
        smoltcp::time::Instant::from_micros(since.as_micros() as i64)
    }

    /// Lets frames pass, and waits for more, until `done` has something.
    pub(crate) fn until<R>(&mut self, mut done: impl FnMut(&mut Self) -> Option<R>) -> R {
        let end = Instant::now() + DEADLINE;
        loop {
            self.poll();
            // What has come has its consequences in the next turn.
            self.poll();
            if let Some(result) = done(self) {
                return result;
            }
            assert!(Instant::now() < end, "it does not come");
            // What `done` has written goes out, and something may come meanwhile.
            if !self.poll() {
                self.wait(&[], DEADLINE);
            }
        }
    }

    /// Lets frames pass until `thread` is over.
    pub(crate) fn join(&mut self, thread: Thread) {
        let end = Instant::now() + DEADLINE;
        while !thread.handle.is_finished() {
            assert!(Instant::now() < end, "it does not end");
            if !self.poll() {
                self.wait(&[thread.over.as_fd()], DEADLINE);
            }
        }
        thread.handle.join().unwrap();
    }

    /// Lets frames pass until there is something to read from `file`.
    pub(crate) fn until_readable(&mut self, file: &impl AsFd) {
        let end = Instant::now() + DEADLINE;
        let nothing = Some(&Timespec { tv_sec: 0, tv_nsec: 0 });
        while poll(&mut [PollFd::new(file, PollFlags::IN)], nothing).unwrap() == 0 {
            assert!(Instant::now() < end, "nothing comes");
            if !self.poll() {
                self.wait(&[file.as_fd()], DEADLINE);
            }
        }
    }

    /// Lets frames pass, and works, until none has come for a while.
    pub(crate) fn settle(&mut self, mut work: impl FnMut(&mut Self)) {
        loop {
            self.poll();
            work(self);
            if !self.poll() && !self.wait(&[], Duration::from_millis(300)) {
                return;
            }
        }
    }

    /// Waits for the cable, or for others, or for the guest's own timers, but not for longer than
    /// `limit`, in which case it is `false`.
    fn wait(&mut self, others: &[BorrowedFd<'_>], limit: Duration) -> bool {
        let time = self.time();
        let own = self.interface.poll_delay(time, &self.sockets).map(Duration::from);
        let until = own.map_or(limit, |own| own.min(limit));
        let ready = self.cable.ready();
        let mut files: Vec<_> =
            others.iter().chain([&ready]).map(|file| PollFd::new(file, PollFlags::IN)).collect();
        let count = poll(&mut files, Some(&Timespec::try_from(until).unwrap())).unwrap();
        count != 0 || until < limit
    }

    /// What the guest has sent reaches the host's sockets.
    fn flush(&mut self) {
        self.poll();
        self.poll();
    }

    /// Begins a connection.
    pub(crate) fn connect(&mut self, to: SocketAddr) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 64 << 10]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        self.port += 1;
        socket.connect(self.interface.context(), to, self.port).unwrap();
        self.sockets.add(socket)
    }

    /// A socket for datagrams at `port` of the guest's.
    pub(crate) fn udp(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 64 << 10]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).unwrap();
        self.sockets.add(socket)
    }

    /// Sends a datagram.
    pub(crate) fn send_to(&mut self, handle: SocketHandle, data: &[u8], to: SocketAddr) {
        self.sockets.get_mut::<udp::Socket>(handle).send_slice(data, to).unwrap();
        self.poll();
    }

    /// The next datagram, and who has sent it.
    pub(crate) fn receive_from(&mut self, handle: SocketHandle) -> (Vec<u8>, SocketAddr) {
        self.until(|stack| {
            let socket = stack.sockets.get_mut::<udp::Socket>(handle);
            let (data, meta) = socket.recv().ok()?;
            Some((data.to_vec(), meta.endpoint.into()))
        })
    }

    /// Waits for a connection to `port` of the guest's.
    pub(crate) fn listen(&mut self, port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 64 << 10]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen(port).unwrap();
        self.sockets.add(socket)
    }

    pub(crate) fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Waits until the connection is open or refused.
    pub(crate) fn is_open(&mut self, handle: SocketHandle) -> bool {
        self.until(|stack| match stack.tcp(handle).state() {
            tcp::State::Established | tcp::State::CloseWait => Some(true),
            tcp::State::Closed => Some(false),
            _ => None,
        })
    }

    /// Sends all of `data`.
    pub(crate) fn write(&mut self, handle: SocketHandle, data: &[u8]) {
        let mut sent = 0;
        self.until(|stack| {
            sent += stack.tcp(handle).send_slice(&data[sent..]).unwrap();
            (sent == data.len()).then_some(())
        });
        self.flush();
    }

    /// Receives to the end of the stream.
    pub(crate) fn read_to_end(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut data = vec![];
        self.until(|stack| {
            let socket = stack.tcp(handle);
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), data.extend_from_slice(bytes))).unwrap();
            }
            let more = matches!(
                socket.state(),
                tcp::State::Established | tcp::State::FinWait1 | tcp::State::FinWait2
            );
            (!more).then_some(())
        });
        data
    }
}

/// A thread whose end can be waited for beside other things.
pub(crate) struct Thread {
    handle: JoinHandle<()>,
    over: UnixStream,
}

pub(crate) fn spawn(body: impl FnOnce() + Send + 'static) -> Thread {
    let (over, theirs) = UnixStream::pair().unwrap();
    let handle = std::thread::spawn(move || {
        let _theirs = theirs; // closed at the end, whatever it is
        body();
    });
    Thread { handle, over }
}

/// The host itself, as the guest knows it.
pub(crate) fn host(server: SocketAddr) -> SocketAddr {
    let gateway: IpAddr = if server.is_ipv4() { GATEWAY.into() } else { GATEWAY6.into() };
    SocketAddr::new(gateway, server.port())
}
