//! TCP: each connection of the guest's ends here, in a socket of smoltcp's, and goes on as one of the
//! host's.

mod flow;
mod port;
mod syn;
#[cfg(test)]
mod waiting;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use smoltcp::iface::{Config, Interface, PollResult, SocketSet};
use smoltcp::wire::{EthernetAddress, HardwareAddress};

use crate::Limits;
use crate::addresses::{GATEWAY, MTU};
use crate::ends::Ends;
use crate::events::Token;
use crate::frames::{Outbox, ethertype};
use crate::ports::Ports;
use crate::table::{Began, Path, Table};
use flow::Flow;
use port::Port;
use syn::LEAST;
pub(crate) use syn::{Place, Syn};

/// A flow that wants a turn now and cannot use it gets the next one after so long.
const LATER: Duration = Duration::from_millis(10);

/// All connections. A flow has a socket set of its own, so that what comes for it meets no other.
pub(crate) struct Tcp {
    interface: Interface,
    /// Whose segments belong to no connection: smoltcp resets what is not one of these.
    nobody: SocketSet<'static>,
    flows: Table<Flow>,
    /// Flows that have a turn to come.
    queue: VecDeque<Path>,
    buffer: usize,
    ports: Ports,
    start: Instant,
    /// No flow has a deadline before.
    next: Option<Instant>,
}

impl Tcp {
    pub(crate) fn new(limits: &Limits, ends: &mut Ends) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        // Of each `RandomState` another one; it is for sequence numbers that only the guest sees.
        config.random_seed = RandomState::new().hash_one(0);
        let mut port =
            port(&mut ends.outbox, None, (EthernetAddress::default(), LEAST), GATEWAY.into());
        let start = smoltcp::time::Instant::ZERO;
        let mut interface = Interface::new(config, &mut port, start);
        // We are whoever the guest talks to.
        interface.set_any_ip(true);
        Self {
            interface,
            nobody: SocketSet::new(vec![]),
            flows: Table::new(limits.tcp_flows, limits.tcp_inward, limits.tcp_idle),
            queue: VecDeque::new(),
            buffer: limits.tcp_buffer.max(MTU),
            ports: Ports::new(),
            start: ends.now,
            next: None,
        }
    }

    /// The guest sends a segment, in an IP `packet`.
    pub(crate) fn input(
        &mut self,
        path: Path,
        mac: EthernetAddress,
        packet: &[u8],
        (place, syn): (Place, Option<Syn>),
        ends: &mut Ends,
    ) {
        if syn.is_some_and(|syn| syn.opens) && !self.flows.contains(&path) {
            // Nobody answers where there is no flow: a reset.
            if let Err(error) = self.open(path, mac, ends) {
                tracing::debug!(%error, remote = %path.remote, "a connection is refused");
            }
        }
        let time = self.time(ends.now);
        let flow = self.flows.touch(&path, ends.now);
        let mut port = port(&mut ends.outbox, Some(packet), (mac, LEAST), path.guest.ip());
        match flow {
            Some(flow) => {
                if !flow.has_room_for(place) {
                    return;
                }
                syn.into_iter().for_each(|syn| flow.most = syn.most);
                let opened = flow.is_open();
                self.interface.poll_ingress_single(time, &mut port, &mut flow.sockets);
                if !opened && syn.is_some() {
                    flow.begins(place);
                }
            }
            None => _ = self.interface.poll_ingress_single(time, &mut port, &mut self.nobody),
        }
        self.enqueue(path);
    }

    /// A connection to `guest` for somebody at the other end of `host`; it seems to come from the
    /// gateway.
    pub(crate) fn forward(
        &mut self,
        guest: SocketAddr,
        mac: EthernetAddress,
        host: OwnedFd,
        ends: &mut Ends,
    ) -> io::Result<()> {
        let began = (Began::Host, Some(ends.events.watch(&host)?));
        self.make_room(Began::Host, ends);
        let path = self.ports.path_to(guest, |path| self.flows.contains(path));
        let context = self.interface.context();
        let flow = Flow::inward(path, mac, host, self.buffer, context);
        self.flows.insert(path, began, flow.ok_or(Errno::INVAL)?, ends.now);
        self.enqueue(path);
        Ok(())
    }

    /// Something has happened to a socket; `false` if it is of another kind.
    pub(crate) fn event(&mut self, token: Token) -> bool {
        let Some(path) = self.flows.path_of(token) else { return false };
        self.flows.get(&path).into_iter().for_each(Flow::event);
        self.enqueue(path);
        true
    }

    /// Gives a turn to each flow that wants one, as long as there is room for what they say.
    pub(crate) fn serve(&mut self, ends: &mut Ends) {
        while ends.outbox.has_room_for_streams() {
            let Some(path) = self.queue.pop_front() else { return };
            self.turn(path, ends);
        }
    }

    /// Whether [`Tcp::serve`] has something to do.
    pub(crate) fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Looks at the clock: at what waits for an answer, and at what was idle for too long.
    pub(crate) fn expire(&mut self, ends: &mut Ends) {
        for path in self.flows.expired(ends.now) {
            self.end(path, ends);
        }
        if self.next.is_none_or(|next| ends.now < next) {
            return;
        }
        self.next = None;
        for (path, flow) in self.flows.iter_mut() {
            match flow.deadline {
                Some(deadline) if deadline <= ends.now => {
                    flow.deadline = None;
                    if !std::mem::replace(&mut flow.queued, true) {
                        self.queue.push_back(path);
                    }
                }
                deadline => self.next = earlier(self.next, deadline),
            }
        }
    }

    /// When to call [`Tcp::expire`].
    pub(crate) fn next(&self) -> Option<Instant> {
        earlier(self.next, self.flows.next())
    }

    /// Begins to connect the host's side.
    fn open(&mut self, path: Path, mac: EthernetAddress, ends: &mut Ends) -> io::Result<()> {
        let address = ends.nat.host_address(path.remote, ends.now).ok_or(Errno::PERM)?;
        if path.guest.port() == 0 {
            return Err(Errno::INVAL.into());
        }
        let host = ends.outside.tcp(address)?;
        let began = (Began::Guest, Some(ends.events.watch(&host)?));
        self.make_room(Began::Guest, ends);
        let flow = Flow::outward(path, mac, host, self.buffer, ends.now);
        self.flows.insert(path, began, flow, ends.now);
        Ok(())
    }

    fn make_room(&mut self, began: Began, ends: &mut Ends) {
        if let Some(path) = self.flows.in_the_way(began) {
            tracing::debug!(remote = %path.remote, "the oldest idle connection gives way");
            self.end(path, ends);
        }
    }

    /// Ends a flow on both sides, whatever it is at.
    fn end(&mut self, path: Path, ends: &mut Ends) {
        let time = self.time(ends.now);
        if let Some(mut flow) = self.flows.remove(&path) {
            if flow.queued {
                self.queue.retain(|queued| *queued != path);
            }
            flow.abort();
            speak(&mut self.interface, time, path, &mut flow, &mut ends.outbox);
            flow.hang_up();
        }
    }

    fn turn(&mut self, path: Path, ends: &mut Ends) {
        let time = self.time(ends.now);
        let Self { interface, flows, queue, next, start, .. } = self;
        let Some(flow) = flows.get(&path) else { return };
        flow.queued = false;
        let moved = flow.pump(ends.now);
        if !flow.lingers() {
            speak(interface, time, path, flow, &mut ends.outbox);
        }
        if !ends.outbox.has_room_for_streams() {
            // There may be more to say.
            flow.queued = true;
            queue.push_back(path);
        } else if flow.is_over() {
            flows.remove(&path).into_iter().for_each(Flow::hang_up);
            return;
        } else if flow.waits_for_host() {
            flow.deadline = None;
        } else {
            let at = interface.poll_at(time, &flow.sockets);
            let at = at.map(|at| *start + Duration::from_micros(at.total_micros() as u64));
            flow.deadline = at.map(|at| at.max(ends.now + LATER));
            *next = earlier(*next, flow.deadline);
        }
        if moved {
            flows.touch(&path, ends.now);
        }
    }

    fn enqueue(&mut self, path: Path) {
        let flow = self.flows.get(&path);
        if flow.is_some_and(|flow| !std::mem::replace(&mut flow.queued, true)) {
            self.queue.push_back(path);
        }
    }

    fn time(&self, now: Instant) -> smoltcp::time::Instant {
        let since = now.saturating_duration_since(self.start);
        smoltcp::time::Instant::from_micros(since.as_micros() as i64)
    }
}

/// Sends what smoltcp has to say in a flow, as long as there is room.
fn speak(
    interface: &mut Interface,
    time: smoltcp::time::Instant,
    path: Path,
    flow: &mut Flow,
    outbox: &mut Outbox,
) {
    let mut port = port(outbox, None, (flow.mac, flow.most), path.guest.ip());
    while interface.poll_egress(time, &mut port, &mut flow.sockets) != PollResult::None {}
}

fn port<'a>(
    outbox: &'a mut Outbox,
    packet: Option<&'a [u8]>,
    (mac, most): (EthernetAddress, u16),
    guest: IpAddr,
) -> Port<'a> {
    Port { packet, outbox, mac, kind: ethertype(guest), most }
}

/// The earlier of two times, of which there may be none.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
