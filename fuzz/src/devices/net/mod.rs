//! A network card, with one pair of queues, whose driver and cable do anything.

mod host;
mod standard;

use std::collections::VecDeque;

use arbitrary::{Arbitrary, Unstructured};
use cubie_virtio_core::{Features, VirtioDevice};
use cubie_virtio_net::{Counters, Mac, Net};
use cubie_virtq::driver::Buffer;

use super::rig::{Chain, Rig, Used, until_done};
use super::{MOST_STEPS, Piece, Pieces, Rings, name};
use crate::guest::DATA;
use host::{Fate, Host, Incoming, Shared};
use standard::{HEADER, OFFLOADS, frame_for_host, header_len, plain_header};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

#[derive(Arbitrary, Debug)]
struct Session {
    rings: Rings,
    /// Of [`OFFLOADS`]: what the host end can do, and what the driver wants of it.
    can: u8,
    wants: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Send(Send),
    /// A chain without any sense, to send or to receive.
    Offer(bool, Pieces),
    Turn,
    /// Frames come in at the host end.
    Come(Vec<Incoming>),
    /// What the host makes of the next frames; all others are sent.
    Host(Vec<Fate>),
}

/// A frame with a header.
#[derive(Arbitrary, Debug)]
struct Send {
    flags: u8,
    gso: u8,
    rest: [u8; HEADER - 2],
    /// Where the header is cut in two.
    cut: u8,
    frame: Vec<Piece>,
}

impl Send {
    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[0] = self.flags;
        // Mostly a kind that there is.
        header[1] = if self.gso < 0xf0 {
            [0, 1, 3, 4, 5, 0x80, 0x81][usize::from(self.gso % 7)]
        } else {
            self.gso
        };
        header[2..].copy_from_slice(&self.rest);
        header
    }

    /// The chain, with its header at `place`.
    fn buffers(&self, place: u64, len: usize) -> Vec<Buffer> {
        let cut = usize::from(self.cut) % len;
        let header = [
            Buffer::readable(place, cut as u32),
            Buffer::readable(place + cut as u64, (len - cut) as u32),
        ];
        header.into_iter().chain(self.frame.iter().map(|piece| piece.readable())).collect()
    }
}

/// Plays the session that `bytes` stand for, and names what has come of it; `None` when they stand for none.
///
/// Frames of a possible length whose header asks for what was negotiated get to the host once, in order and
/// to the byte, with a header that says nothing else; frames from the host get to the guest so, in buffers that
/// have room for them. All others are counted, and nothing else happens to them.
///
/// # Panics
/// If that does not hold.
pub fn play(bytes: &[u8]) -> Option<String> {
    let session = Session::arbitrary_take_rest(Unstructured::new(bytes)).ok()?;
    let mut bench = Bench::new(&session);
    for step in session.steps.into_iter().take(MOST_STEPS) {
        match step {
            Step::Send(send) => bench.send(&send),
            Step::Offer(transmit, pieces) => {
                _ = bench.rig.offer(usize::from(transmit), pieces.buffers());
            }
            Step::Turn => bench.turn(),
            Step::Come(frames) => bench.cable.lock().incoming.extend(frames),
            Step::Host(fates) => bench.cable.lock().fates.extend(fates),
        }
    }
    until_done(|| {
        bench.turn();
        let stays = bench.rig.left(RECEIVE) == 0 || bench.cable.lock().incoming.is_empty();
        bench.rig.left(TRANSMIT) == 0 && stays
    });
    let Bench { sent, asked, received, dropped, lost, .. } = bench;
    Some(name(&[
        ("sent", sent as usize),
        ("received", received as usize),
        ("dropped", dropped as usize),
        ("lost", lost as usize),
        ("asked", asked as usize),
    ]))
}

struct Bench {
    rig: Rig<Net<Host>>,
    cable: Shared,
    features: Features,
    counters: Counters,
    /// Frames that got through, and those of them with something left to do.
    sent: u64,
    asked: u64,
    received: u64,
    /// Frames that did not, from the guest and from the host.
    dropped: u64,
    lost: u64,
}

impl Bench {
    fn new(session: &Session) -> Self {
        let chosen = |bits: u8| {
            let all = (0..).zip(OFFLOADS).filter(|(n, _)| bits >> n & 1 != 0);
            all.fold(Features::default(), |set, (_, feature)| set.with(Features::bit(feature)))
        };
        let cable = Shared::default();
        let net = Net::new(Host::new(cable.clone(), chosen(session.can)), Mac::made_from("fuzz"));
        let offloads = net.features().and(chosen(session.wants));
        let features = session.rings.features().with(offloads);
        let counters = net.counters();
        let rig = Rig::new(net, 2, features);
        let (sent, asked, received, dropped, lost) = (0, 0, 0, 0, 0);
        Self { rig, cable, features, counters, sent, asked, received, dropped, lost }
    }

    fn send(&mut self, send: &Send) {
        // Those that are still in the ring have a header of their own.
        let place = DATA + (HEADER * self.rig.left(TRANSMIT)) as u64;
        self.rig.guest.write(place, &send.header());
        self.rig.offer(TRANSMIT, send.buffers(place, header_len(self.features)));
    }

    fn turn(&mut self) {
        self.rig.turn();
        self.transmitted();
        self.received();
        self.rig.check();
        let (transmit, receive) = (self.counters.transmit(), self.counters.receive());
        assert_eq!((transmit.frames, transmit.drops.total()), (self.sent, self.dropped));
        assert_eq!((receive.frames, receive.drops.total()), (self.received, self.lost));
    }

    fn transmitted(&mut self) {
        let mut tried = std::mem::take(&mut self.cable.lock().sent);
        for Used { chain, written } in self.rig.used(TRANSMIT) {
            assert_eq!(written, 0, "nothing is written to a frame that is sent");
            let bytes = chain.readable(&self.rig.guest);
            let Some((header, frame)) = frame_for_host(&bytes, self.features) else {
                self.dropped += 1;
                continue;
            };
            loop {
                let (with, bytes, fate) = tried.pop_front().expect("a good frame gets to the host");
                assert_eq!((with, bytes.as_slice()), (header, frame));
                match fate {
                    Fate::Full => continue,
                    Fate::Sent => self.sent += 1,
                    Fate::Refused => self.dropped += 1,
                }
                self.asked += u64::from(header.flags | header.gso_type != 0);
                break;
            }
        }
        // The frame that waits for room at the host.
        let next = self.rig.next(TRANSMIT).map(|chain| chain.readable(&self.rig.guest));
        for (header, bytes, fate) in tried {
            assert!(matches!(fate, Fate::Full), "a frame that was sent is still there");
            let next = next.as_ref().expect("a frame that nobody has offered");
            assert_eq!(Some((header, bytes.as_slice())), frame_for_host(next, self.features));
        }
    }

    fn received(&mut self) {
        let header_len = header_len(self.features);
        let came = std::mem::take(&mut self.cable.lock().received);
        let mut used = VecDeque::from(self.rig.used(RECEIVE));
        for incoming in came {
            self.returned_empty(&mut used);
            let waiting = self.rig.next(RECEIVE).cloned();
            let chain = used.front().map(|used| used.chain.clone()).or(waiting);
            let chain = chain.expect("frames stay at the host until there is a buffer");
            let fits = |frame: &[u8]| frame.len() <= chain.room() - header_len;
            match incoming {
                Incoming::Frame(frame) if fits(&frame) => {
                    let back = used.pop_front().expect("a chain with a frame in it comes back");
                    assert_eq!(back.written as usize, header_len + frame.len());
                    self.put(&chain, &frame);
                    chain.expect(0, &plain_header()[..header_len], &mut self.rig.guest);
                    self.received += 1;
                }
                Incoming::Odd(frame) if fits(&frame) => {
                    self.put(&chain, &frame);
                    self.lost += 1;
                }
                Incoming::Frame(_) | Incoming::Odd(_) => self.lost += 1,
                Incoming::Error => {}
            }
        }
        self.returned_empty(&mut used);
        assert!(used.is_empty(), "chains came back without a frame");
    }

    fn put(&mut self, chain: &Chain, frame: &[u8]) {
        chain.expect(header_len(self.features), frame, &mut self.rig.guest);
    }

    /// Buffers without room for a header, which are good for nothing.
    fn returned_empty(&mut self, used: &mut VecDeque<Used>) {
        while used.front().is_some_and(|used| used.chain.room() < header_len(self.features)) {
            assert_eq!(used.pop_front().map(|used| used.written), Some(0));
        }
    }
}
