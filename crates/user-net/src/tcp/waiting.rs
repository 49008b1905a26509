//! Connections that wait for the host, with the guest's segments by hand, and time as an argument.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use cubie_virtio_core::Features;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, Ipv4Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::*;
use crate::addresses::GUEST;
use crate::events::Events;
use crate::nat::Nat;

const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 15]);
/// A connection without a byte for so long is reset.
const IDLE: Duration = Duration::from_secs(300);
const DEADLINE: Duration = Duration::from_secs(20);

/// One connection of the guest's to a server of the host's.
struct Connection {
    tcp: Tcp,
    ends: Ends,
    path: Path,
    /// Of the guest's next byte, and of the next one that it expects.
    sequence: TcpSeqNumber,
    acknowledged: Option<TcpSeqNumber>,
}

/// What the guest is sent.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Open,
    End,
    Reset,
}

impl Connection {
    /// The guest sends its SYN.
    fn to(server: &TcpListener) -> Self {
        let config = crate::Config::default();
        let mut ends = Ends {
            outbox: Outbox::default(),
            events: Events::new().unwrap(),
            outside: Box::new(crate::HostSockets),
            nat: Nat::new(&config),
            neighbours: Default::default(),
            now: Instant::now(),
        };
        let tcp = Tcp::new(&Limits { tcp_idle: IDLE, ..config.limits }, &mut ends);
        let remote = SocketAddr::new(GATEWAY.into(), server.local_addr().unwrap().port());
        let path = Path { guest: SocketAddr::new(GUEST.into(), 4000), remote };
        let (sequence, acknowledged) = (TcpSeqNumber(1000), None);
        let mut this = Self { tcp, ends, path, sequence, acknowledged };
        this.send(TcpControl::Syn, &[]);
        this
    }

    fn send(&mut self, control: TcpControl, payload: &[u8]) {
        let segment = TcpRepr {
            src_port: self.path.guest.port(),
            dst_port: self.path.remote.port(),
            control,
            seq_number: self.sequence,
            ack_number: self.acknowledged,
            window_len: u16::MAX,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let (from, to) = (GUEST.into(), GATEWAY.into());
        let header = IpRepr::new(from, to, IpProtocol::Tcp, segment.buffer_len(), 64);
        let mut packet = vec![0; header.buffer_len()];
        let all = ChecksumCapabilities::default();
        header.emit(&mut packet[..], &all);
        let bytes = &mut packet[header.header_len()..];
        segment.emit(&mut TcpPacket::new_unchecked(bytes), &from, &to, &all);
        let syn = (control == TcpControl::Syn).then_some(Syn { opens: true, most: LEAST });
        let segment = TcpPacket::new_unchecked(&packet[header.header_len()..]);
        let place = Place::of(&segment);
        self.tcp.input(self.path, MAC, &packet, (place, syn), &mut self.ends);
        self.sequence += segment.segment_len();
        self.turn();
    }

    /// What time it is.
    fn turn(&mut self) {
        self.tcp.expire(&mut self.ends);
        self.tcp.serve(&mut self.ends);
    }

    /// What the guest is sent next that is more than an acknowledgement, if it is there by now.
    fn sent(&mut self) -> Option<Answer> {
        loop {
            let frame = self.ends.outbox.pop(Features(0), |_, frame| frame.to_vec())?;
            let packet = Ipv4Packet::new_checked(&frame[14..]).unwrap();
            let segment = TcpPacket::new_checked(packet.payload()).unwrap();
            let next = segment.seq_number() + segment.segment_len();
            match (segment.rst(), segment.syn(), segment.fin()) {
                (true, ..) => return Some(Answer::Reset),
                (_, false, false) => {}
                (_, opens, _) => {
                    self.acknowledged = Some(next);
                    return Some(if opens { Answer::Open } else { Answer::End });
                }
            }
        }
    }

    /// Waits for the host until the guest is sent something.
    fn answer(&mut self) -> Answer {
        let end = Instant::now() + DEADLINE;
        loop {
            let mut tokens = vec![];
            self.ends.events.take(&mut tokens);
            tokens.into_iter().for_each(|token| _ = self.tcp.event(token));
            self.turn();
            if let Some(answer) = self.sent() {
                return answer;
            }
            assert!(Instant::now() < end, "no answer");
            let limit = Timespec::try_from(DEADLINE).unwrap();
            poll(&mut [PollFd::new(&self.ends.events, PollFlags::IN)], Some(&limit)).unwrap();
        }
    }

    /// How many times somebody has to look at the clock until the connection is no more, if nothing
    /// happens on the host.
    fn wake_ups(&mut self) -> usize {
        for count in 0..100 {
            if !self.tcp.flows.contains(&self.path) {
                return count;
            }
            self.ends.now = self.tcp.next().expect("it has an end");
            self.turn();
        }
        panic!("a hundred times in {:?}", self.ends.now - self.tcp.start)
    }
}

/// A host that neither answers nor refuses until the stream, which takes the only place, is accepted.
fn silent() -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, first)
}

#[test]
fn a_host_that_does_not_answer_is_not_asked_again_and_again() {
    let (server, _first) = silent();
    let mut connection = Connection::to(&server);
    assert_eq!(connection.sent(), None);
    assert_eq!(connection.wake_ups(), 1, "when it was idle for too long");
    assert_eq!(connection.ends.now, connection.tcp.start + IDLE);
}

#[test]
fn a_host_may_take_longer_to_answer_than_the_guest_afterwards() {
    let (server, _first) = silent();
    let mut connection = Connection::to(&server);
    let start = connection.ends.now;
    connection.ends.now = start + Duration::from_secs(100);
    server.accept().unwrap();
    // The kernel asks once more.
    assert_eq!(connection.answer(), Answer::Open);
    connection.ends.now = start + Duration::from_secs(159);
    connection.turn();
    assert_ne!(connection.sent(), Some(Answer::Reset));
    connection.ends.now = start + Duration::from_secs(160);
    connection.turn();
    assert_eq!(connection.sent(), Some(Answer::Reset), "the guest has had its minute");
}

#[test]
fn a_host_that_does_not_read_the_last_bytes_is_not_looked_after_again_and_again() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut connection = Connection::to(&server);
    assert_eq!(connection.answer(), Answer::Open);
    connection.send(TcpControl::None, &[]);
    let (stream, _) = server.accept().unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(connection.answer(), Answer::End);
    // Until the host's socket takes no more.
    let path = connection.path;
    while connection.tcp.flows.get(&path).unwrap().socket().recv_queue() == 0 {
        connection.send(TcpControl::None, &[7; 32 << 10]);
        while connection.ends.outbox.pop(Features(0), |_, _| ()).is_some() {}
    }
    connection.send(TcpControl::Fin, &[]);
    assert!(connection.tcp.flows.get(&path).unwrap().lingers());
    // When an earlier deadline of the connection's is over, and when it was idle for too long.
    assert_eq!(connection.wake_ups(), 2);
    assert_eq!(connection.ends.now, connection.tcp.start + IDLE);
}

#[test]
fn what_is_beyond_a_connections_buffer_is_not_taken_even_before_the_first_window() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut connection = Connection::to(&server);
    assert_eq!(connection.answer(), Answer::Open);
    let (first, most) = (connection.sequence, crate::Config::default().limits.tcp_buffer);
    for offset in [most - 50, most, 2 * most - 100] {
        connection.sequence = first + offset;
        connection.send(TcpControl::None, &[7; 100]);
    }
    connection.sequence = first;
    connection.send(TcpControl::None, &[8; 100]);
    let mut bytes = [0; 101];
    let (mut stream, _) = server.accept().unwrap();
    let read = io::Read::read(&mut stream, &mut bytes).unwrap();
    assert_eq!(bytes[..read], [8; 100]);
}
