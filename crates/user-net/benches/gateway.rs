//! What a MiB through the gateway costs: TCP between a guest and a socket on the host's loopback
//! interface, each way, with frames of the MTU's length and with those of 64 KiB.
//!
//! The guest is a few lines of TCP without losses, in the gateway's thread, so that nearly all that is
//! measured is the gateway and the system calls on its sockets; each of its frames is copied once, as a
//! card does. The thread's own processor time is what counts, since the other end runs beside it.
//!
//! `cargo bench -p cubie-user-net`

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use cubie_user_net::addresses::{GATEWAY, GUEST, MAC};
use cubie_user_net::{Config, Gateway};
use cubie_virtio_core::Features;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, IpRepr, Ipv4Packet,
    TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};
use virtio_bindings::virtio_net::{VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4};

const MIB: usize = 1 << 20;
/// Bytes of a measurement.
const TOTAL: usize = 512 * MIB;
/// Bytes of TCP in a frame of the MTU's length, and in the longest.
const SHORT: usize = 1460;
const LONG: usize = 65_495;
/// How much further the guest's windows are than they say.
const SCALE: u8 = 7;
const LIMIT: Duration = Duration::from_secs(10);

fn main() {
    println!("| | bytes a frame | ns a MiB | Gbit/s |\n|---|---:|---:|---:|");
    for (name, payload) in [("guest to host, plain", SHORT), ("guest to host, TSO", LONG)] {
        measure(name, |guest, stream| {
            let reader = std::thread::spawn(move || swallow(stream));
            let frames = guest.send(payload);
            (frames, reader)
        });
    }
    for (name, offloads) in [("host to guest, plain", Features(0)), ("host to guest, TSO", all())] {
        measure(name, |guest, stream| {
            guest.offloads = offloads;
            let writer = std::thread::spawn(move || pour(stream));
            (guest.receive(), writer)
        });
    }
}

/// What a guest can do itself.
fn all() -> Features {
    [VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4]
        .map(Features::bit)
        .into_iter()
        .fold(Features::default(), Features::with)
}

/// Opens a connection, and prints what `TOTAL` bytes through it cost.
fn measure(
    name: &str,
    run: impl FnOnce(&mut Guest, TcpStream) -> (usize, std::thread::JoinHandle<()>),
) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut guest = Guest::connect(listener.local_addr().unwrap().port());
    let stream = listener.accept().unwrap().0;
    let (start, used) = (Instant::now(), processor_time());
    let (frames, other) = run(&mut guest, stream);
    while !other.is_finished() {
        if guest.take().is_none() {
            guest.wait(Duration::from_millis(1));
        }
    }
    let (took, used) = (start.elapsed(), processor_time() - used);
    other.join().unwrap();
    let each = used.as_nanos() / (TOTAL / MIB) as u128;
    let speed = (TOTAL * 8) as f64 / took.as_nanos() as f64;
    println!("| {name} | {} | {each} | {speed:.1} |", TOTAL / frames);
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

fn swallow(mut stream: TcpStream) {
    let mut bytes = vec![0; 256 << 10];
    let mut left = TOTAL;
    while left > 0 {
        left -= stream.read(&mut bytes).unwrap();
    }
}

fn pour(mut stream: TcpStream) {
    let bytes = vec![7; 256 << 10];
    for _ in 0..TOTAL / bytes.len() {
        stream.write_all(&bytes).unwrap();
    }
}

/// One connection of a guest's, over a cable that loses nothing.
struct Guest {
    gateway: Gateway,
    offloads: Features,
    port: u16,
    /// Of the next byte that the guest sends, and of the next one that it expects.
    sequence: TcpSeqNumber,
    expected: TcpSeqNumber,
    /// How far the gateway's window goes, and by how much it is scaled.
    edge: TcpSeqNumber,
    scale: u8,
    /// What a card copies a frame to.
    memory: Vec<u8>,
}

impl Guest {
    fn connect(port: u16) -> Self {
        let mut guest = Self {
            gateway: Gateway::new(&Config::default(), Instant::now()).unwrap(),
            offloads: Features::default(),
            port,
            sequence: TcpSeqNumber(0),
            expected: TcpSeqNumber(0),
            edge: TcpSeqNumber(0),
            scale: 0,
            memory: vec![0; 1 << 17],
        };
        let syn = guest.frame(TcpControl::Syn, &[]);
        guest.gateway.input(&syn, Instant::now());
        guest.sequence += 1;
        while guest.expected == TcpSeqNumber(0) {
            assert!(guest.wait(LIMIT), "nothing comes");
            guest.take();
        }
        guest.acknowledge();
        guest
    }

    /// Sends all bytes, `payload` in a frame; how many frames that were.
    fn send(&mut self, payload: usize) -> usize {
        let mut frame = self.frame(TcpControl::None, &vec![7; payload]);
        let (mut sent, mut frames) = (0, 0);
        while sent < TOTAL {
            let room = self.edge - self.sequence;
            let len = payload.min(TOTAL - sent);
            if room >= len {
                if len < payload {
                    frame = self.frame(TcpControl::None, &vec![7; len]);
                }
                TcpPacket::new_unchecked(&mut frame[34..]).set_seq_number(self.sequence);
                self.gateway.input(&frame, Instant::now());
                self.sequence += len;
                sent += len;
                frames += 1;
            } else if self.take().is_none() {
                assert!(self.wait(LIMIT), "nothing comes");
            }
        }
        frames
    }

    /// Receives all bytes; in how many frames.
    fn receive(&mut self) -> usize {
        let (mut came, mut frames, mut told) = (0, 0, 0);
        while came < TOTAL {
            match self.take() {
                Some(len) => {
                    came += len;
                    frames += usize::from(len > 0);
                }
                None => assert!(self.wait(LIMIT), "nothing comes"),
            }
            if came - told >= 2 * SHORT {
                told = came;
                self.acknowledge();
            }
        }
        frames
    }

    /// Takes one frame, if there is one: so many bytes for the guest.
    fn take(&mut self) -> Option<usize> {
        let memory = &mut self.memory;
        let len = self.gateway.output_with(Instant::now(), self.offloads, |_, frame| {
            memory[..frame.len()].copy_from_slice(frame);
            frame.len()
        })?;
        let packet = Ipv4Packet::new_checked(&black_box(&self.memory)[14..len]).ok()?;
        let segment = TcpPacket::new_checked(packet.payload()).ok()?;
        assert!(!segment.rst(), "nobody resets it");
        let window = usize::from(segment.window_len());
        if segment.syn() {
            self.scale = 2;
            self.expected = segment.seq_number() + 1;
            self.edge = segment.ack_number() + window;
            return Some(0);
        }
        self.edge = segment.ack_number() + (window << self.scale);
        assert_eq!(segment.seq_number(), self.expected, "nothing is lost");
        let len = segment.payload().len();
        self.expected += len;
        Some(len)
    }

    fn wait(&mut self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).unwrap();
        poll(&mut [PollFd::new(&self.gateway, PollFlags::IN)], Some(&limit)).unwrap() == 1
    }

    fn acknowledge(&mut self) {
        let frame = self.frame(TcpControl::None, &[]);
        self.gateway.input(&frame, Instant::now());
    }

    /// A frame that is next.
    fn frame(&self, control: TcpControl, payload: &[u8]) -> Vec<u8> {
        let opens = control == TcpControl::Syn;
        let segment = TcpRepr {
            src_port: 4000,
            dst_port: self.port,
            control,
            seq_number: self.sequence,
            ack_number: (!opens).then_some(self.expected),
            window_len: u16::MAX,
            window_scale: opens.then_some(SCALE),
            max_seg_size: opens.then_some(SHORT as u16),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let (from, to) = (IpAddress::from(GUEST), IpAddress::from(GATEWAY));
        let header = IpRepr::new(from, to, IpProtocol::Tcp, segment.buffer_len(), 64);
        let mut bytes = vec![0; 14 + header.buffer_len()];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
        frame.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 15]));
        frame.set_dst_addr(EthernetAddress(MAC));
        frame.set_ethertype(EthernetProtocol::Ipv4);
        // The rest is left to the card.
        let mut checksums = ChecksumCapabilities::default();
        header.emit(frame.payload_mut(), &checksums);
        checksums.tcp = smoltcp::phy::Checksum::None;
        let bytes_of_tcp = &mut bytes[14 + header.header_len()..];
        segment.emit(&mut TcpPacket::new_unchecked(bytes_of_tcp), &from, &to, &checksums);
        bytes
    }
}
