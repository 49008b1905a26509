//! A network without privileges, whose guest sends anything, and whose world outside does anything.

mod guest;
mod host;

use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use cubie_user_net::{Config, Gateway, Limits};
use cubie_virtq::Features;
use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber};

use crate::devices::name;
use guest::{Connection, Tally};
use host::Host;

/// Steps of a run that are carried out.
const MOST_STEPS: usize = 60;
/// Flows of each kind.
const MOST_FLOWS: usize = 3;
/// Connections that the guest knows of.
const CONNECTIONS: u8 = 6;
/// Frames that wait at most, each of which has the longest packet in the least pieces.
const MOST_FRAMES: usize = 128 + (512 << 10) / 48;
const IDLE: Duration = Duration::from_secs(600);
/// Checksums, and segments over IPv4 and IPv6 (VIRTIO 1.4 §5.1.3).
const OFFLOADS: [u32; 3] = [1, 7, 8];

#[derive(Arbitrary, Debug)]
struct Session {
    restrict: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// Any bytes.
    Frame(Vec<u8>),
    /// … in a frame for the gateway.
    Packet(u16, Vec<u8>),
    /// … in a packet for the gateway.
    Payload(u8, u8, u8, Vec<u8>),
    Segment(Segment),
    Datagram(u8, Vec<u8>),
    /// The guest has buffers, and does so much itself.
    Take(u8),
    /// The host's end of a connection says so much, reads all, or ends.
    Say(u8, u16),
    Hear(u8),
    Shut(u8),
    /// A datagram from outside.
    Answer(u8, Vec<u8>),
    /// Whether the world outside refuses connections from now on.
    Refuse(bool),
    /// Milliseconds pass.
    Later(u16),
}

/// What is right of a segment, and what is not.
#[derive(Arbitrary, Debug)]
struct Segment {
    connection: u8,
    control: u8,
    off: Option<i16>,
    ack: Option<i16>,
    len: u16,
    window: u16,
    scale: Option<u8>,
    most: Option<u16>,
}

impl Segment {
    fn repr(&self) -> TcpRepr<'static> {
        let opens = self.control.is_multiple_of(8);
        TcpRepr {
            src_port: 0,
            dst_port: 0,
            control: match self.control % 8 {
                0 => TcpControl::Syn,
                1 => TcpControl::Fin,
                2 => TcpControl::Rst,
                3 => TcpControl::Psh,
                _ => TcpControl::None,
            },
            seq_number: TcpSeqNumber(0),
            ack_number: None,
            window_len: self.window,
            window_scale: self.scale.filter(|_| opens),
            max_seg_size: self.most.filter(|_| opens),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        }
    }
}

/// Plays the session that `bytes` stand for, and names what has come of it; `None` when they stand for none.
///
/// Frames of a possible length come to the guest, as many as can wait; what each side of a connection
/// receives is what the other has said, in order; there are no more connections than there may be, and
/// none when all were idle for too long.
///
/// # Panics
/// If that does not hold.
pub fn play(bytes: &[u8]) -> Option<String> {
    let session = Session::arbitrary_take_rest(Unstructured::new(bytes)).ok()?;
    let mut bench = Bench::new(session.restrict);
    for step in session.steps.into_iter().take(MOST_STEPS) {
        bench.now += Duration::from_micros(1);
        bench.step(step);
    }
    bench.end();
    let heard: usize = bench.host.0.lock().ok()?.streams.iter().map(|one| one.has_heard()).sum();
    let Tally { opened, bytes, ended, reset, datagrams, messages, long } = bench.tally;
    Some(name(&[
        ("message", messages),
        ("reset", reset),
        ("opened", opened),
        ("datagram", datagrams),
        ("heard", heard),
        ("told", bytes),
        ("ended", ended),
        ("long", long),
    ]))
}

struct Bench {
    gateway: Gateway,
    host: Host,
    now: Instant,
    connections: [Connection; CONNECTIONS as usize],
    tally: Tally,
}

impl Bench {
    fn new(restrict: bool) -> Self {
        let limits = Limits {
            tcp_flows: MOST_FLOWS,
            tcp_idle: IDLE,
            udp_flows: MOST_FLOWS,
            ping_flows: MOST_FLOWS,
            ..Limits::default()
        };
        let resolvers = vec![([192, 0, 2, 1], 53).into()];
        let config = Config { restrict, resolvers, limits, ..Config::default() };
        let (host, now) = (Host::default(), Instant::now());
        let gateway = Gateway::reaching(Box::new(host.clone()), &config, now);
        let gateway = gateway.expect("nothing is forwarded");
        Self { gateway, host, now, connections: Default::default(), tally: Tally::default() }
    }

    fn step(&mut self, step: Step) {
        let host = self.host.clone();
        let mut world = host.0.lock().expect("nothing has panicked");
        let pick = |which: u8, len: usize| usize::from(which) % len.max(1);
        let count = world.streams.len();
        let stream = |which| pick(which, count);
        match step {
            Step::Say(which, len) => {
                let stream = world.streams.get_mut(stream(which));
                stream.into_iter().for_each(|stream| stream.say(len.into()));
            }
            Step::Hear(which) => {
                let stream = world.streams.get_mut(stream(which));
                stream.into_iter().for_each(|stream| _ = stream.hear());
            }
            Step::Shut(which) => {
                world.streams.get(stream(which)).into_iter().for_each(|stream| stream.shut());
            }
            Step::Answer(which, data) => {
                let socket = world.datagrams.get(pick(which, world.datagrams.len()));
                socket.into_iter().for_each(|socket| _ = socket.send(&data));
            }
            Step::Refuse(refuses) => world.refuses = refuses,
            Step::Later(time) => self.now += Duration::from_millis(time.into()),
            Step::Take(bits) => {
                drop(world);
                self.take(bits);
            }
            sent => {
                drop(world);
                let is_checked = matches!(sent, Step::Segment(_));
                let frame = self.frame(sent);
                if is_checked || !guest::is_checked(&frame) {
                    self.gateway.input(&frame, self.now);
                }
            }
        }
    }

    /// What the guest sends.
    fn frame(&mut self, step: Step) -> Vec<u8> {
        match step {
            Step::Packet(kind, payload) => guest::frame(kind, &payload),
            Step::Payload(number, protocol, hops, payload) => {
                guest::ip(number, protocol, hops, &payload)
            }
            Step::Datagram(number, data) => guest::datagram(number % CONNECTIONS, &data),
            Step::Segment(segment) => {
                let number = segment.connection % CONNECTIONS;
                let off = (segment.off.unwrap_or(0), segment.ack.unwrap_or(0));
                // With its headers, a packet.
                let len = usize::from(segment.len).min(65_000);
                let own = &mut self.connections[usize::from(number)];
                own.segment(number, off, len, segment.repr())
            }
            Step::Frame(bytes) => bytes,
            _ => vec![],
        }
    }

    /// The guest takes all there is.
    fn take(&mut self, bits: u8) {
        let wanted = OFFLOADS.iter().enumerate().filter(|(n, _)| bits >> n & 1 != 0);
        let offloads = wanted.fold(Features(0), |all, (_, bit)| Features(all.0 | 1 << bit));
        let Self { gateway, connections, tally, now, .. } = self;
        for count in 0.. {
            assert!(count < MOST_FRAMES, "frames without end");
            let taken = gateway.output_with(*now, offloads, |header, frame| {
                let most = if header.gso_type == 0 { 1514 } else { 65_549 };
                assert!((14..=most).contains(&frame.len()), "{} bytes", frame.len());
                assert!(header.flags == 0 || bits & 1 != 0, "a sum that is left");
                tally.long += usize::from(header.gso_type != 0);
                guest::came(frame, connections, tally);
            });
            if taken.is_none() {
                return;
            }
        }
    }

    /// All connections that are not over by themselves are, when they were idle for too long.
    fn end(&mut self) {
        self.take(0);
        assert!(self.open() <= MOST_FLOWS, "more connections than there may be");
        self.now += IDLE + Duration::from_secs(1);
        self.take(0);
        self.take(0);
        assert_eq!(self.open(), 0, "a connection is left");
    }

    fn open(&self) -> usize {
        let mut world = self.host.0.lock().expect("nothing has panicked");
        world.streams.iter_mut().filter_map(|stream| (!stream.hear()).then_some(())).count()
    }
}
