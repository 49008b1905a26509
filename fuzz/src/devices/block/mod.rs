//! A disk whose driver asks for anything.

mod host;
mod standard;

use arbitrary::{Arbitrary, Unstructured};
use cubie_virtio_blk::{Blk, Operation, Serial};
use cubie_virtio_core::Features;
use cubie_virtq::driver::Buffer;

use super::rig::{Chain, Rig, Used, until_done};
use super::{MOST_STEPS, Piece, Pieces, Rings, name};
use crate::guest::DATA;
use host::{Disk, Fate, Shared};
use standard::{DISCARD, FLUSH, GET_ID, HEADER, READ, Status, Verdict, WRITE, WRITE_ZEROES, judge};

const SECTOR: usize = 512;
/// Sectors of the disk, behind which there is something that makes no whole one.
const SECTORS: u64 = 16;
const BEHIND: usize = 100;
/// From a header to the range of its request, behind all headers.
const RANGES: u64 = 0x400;
const SERIAL: [u8; 20] = *b"fuzz\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// VIRTIO_BLK_F_FLUSH.
const F_FLUSH: Features = Features::bit(9);
/// VIRTIO_BLK_F_DISCARD and VIRTIO_BLK_F_WRITE_ZEROES.
const F_RANGES: Features = Features::bit(13).with(Features::bit(14));

#[derive(Arbitrary, Debug)]
struct Session {
    rings: Rings,
    flush: bool,
    read_only: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Ask(Ask),
    /// A chain without any sense.
    Offer(Pieces),
    Turn,
    /// What the host makes of the next requests; all others are done at once.
    Host(Vec<Fate>),
}

/// A request with a header.
#[derive(Arbitrary, Debug)]
struct Ask {
    kind: Kind,
    sector: Sector,
    /// Where the header is cut in two.
    cut: u8,
    /// Before what else is readable: for a discard, or zeros to be written.
    range: Option<Range>,
    readable: Vec<Payload>,
    writable: Vec<Payload>,
    status: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    Read,
    Write,
    Flush,
    GetId,
    Discard,
    WriteZeroes,
    Other(u32),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Sector {
    Near(u8),
    Any(u64),
}

impl Sector {
    fn number(self) -> u64 {
        match self {
            Self::Near(sector) => u64::from(sector) % (SECTORS + 4),
            Self::Any(sector) => sector,
        }
    }
}

/// What a discard is about, and zeros that are to be written.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Range {
    sector: Sector,
    sectors: Sector,
    flags: u32,
    /// No flags but those that the standard knows.
    known: bool,
}

impl Range {
    fn bytes(self) -> [u8; HEADER] {
        let flags = if self.known { self.flags & 1 } else { self.flags };
        let sectors = self.sectors.number() as u32;
        let fields = u128::from(self.sector.number()) | u128::from(sectors) << 64;
        (fields | u128::from(flags) << 96).to_le_bytes()
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Payload {
    Sectors(u16, u8),
    Piece(Piece),
}

impl Payload {
    fn piece(self) -> Piece {
        match self {
            Self::Sectors(at, count) => Piece { at, len: u16::from(count % 4) * SECTOR as u16 },
            Self::Piece(piece) => piece,
        }
    }
}

impl Ask {
    fn header(&self) -> [u8; HEADER] {
        let kind = match self.kind {
            Kind::Read => READ,
            Kind::Write => WRITE,
            Kind::Flush => FLUSH,
            Kind::GetId => GET_ID,
            Kind::Discard => DISCARD,
            Kind::WriteZeroes => WRITE_ZEROES,
            Kind::Other(kind) => kind,
        };
        (u128::from(kind) | u128::from(self.sector.number()) << 64).to_le_bytes()
    }

    /// The chain, with its header at `place`, and its range, if it has one, at [`RANGES`] behind that.
    fn buffers(&self, place: u64) -> Vec<Buffer> {
        let cut = u32::from(self.cut) % HEADER as u32;
        let header = [
            Buffer::readable(place, cut),
            Buffer::readable(place + u64::from(cut), HEADER as u32 - cut),
        ];
        let range = self.range.map(|_| Buffer::readable(place + RANGES, HEADER as u32));
        let readable = self.readable.iter().map(|payload| payload.piece().readable());
        let writable = self.writable.iter().map(|payload| payload.piece().writable());
        let status = self.status.then_some(Piece { at: 0xfff, len: 1 }.writable());
        header.into_iter().chain(range).chain(readable).chain(writable).chain(status).collect()
    }
}

/// Plays the session that `bytes` stand for, and names what has come of it; `None` when they stand for none.
///
/// Every request gets the status and the length that the standard says, and its buffers what a model of the
/// disk holds. At the end the driver reads the whole disk.
///
/// # Panics
/// If that does not hold.
pub fn play(bytes: &[u8]) -> Option<String> {
    let session = Session::arbitrary_take_rest(Unstructured::new(bytes)).ok()?;
    let mut bench = Bench::new(&session);
    for step in session.steps.iter().take(MOST_STEPS) {
        match step {
            Step::Ask(ask) => bench.ask(ask),
            Step::Offer(pieces) => _ = bench.rig.offer(0, pieces.buffers()),
            Step::Turn => bench.turn(),
            Step::Host(fates) => bench.plan.lock().fates.extend(fates),
        }
    }
    until_done(|| {
        bench.turn();
        bench.rig.left(0) == 0
    });
    let Counts { read, written, zeroed, flushed, named, refused, failed, mute } = bench.counts;
    bench.read_all();
    Some(name(&[
        ("read", read),
        ("written", written),
        ("zeroed", zeroed),
        ("flushed", flushed),
        ("named", named),
        ("refused", refused),
        ("failed", failed),
        ("mute", mute),
    ]))
}

struct Bench {
    rig: Rig<Blk<Disk>>,
    plan: Shared,
    read_only: bool,
    through: bool,
    /// What the disk should hold.
    disk: Vec<u8>,
    counts: Counts,
}

/// Requests of each kind.
#[derive(Clone, Copy, Default)]
struct Counts {
    read: usize,
    written: usize,
    zeroed: usize,
    flushed: usize,
    named: usize,
    refused: usize,
    failed: usize,
    mute: usize,
}

impl Bench {
    fn new(session: &Session) -> Self {
        let len = SECTORS as usize * SECTOR + BEHIND;
        let disk: Vec<_> = (0..len).map(|n| (n / SECTOR * 3 + n) as u8).collect();
        let (plan, read_only) = (Shared::default(), session.read_only);
        let host = Disk::new(disk.clone(), read_only, plan.clone());
        let features = session.rings.features();
        let features = if session.flush { features.with(F_FLUSH) } else { features };
        let features = if read_only { features } else { features.with(F_RANGES) };
        let device = Blk::new(host, "fuzz".parse::<Serial>().expect("a serial number"));
        let rig = Rig::new(device, 1, features);
        Self { rig, plan, read_only, through: !session.flush, disk, counts: Counts::default() }
    }

    fn ask(&mut self, ask: &Ask) {
        // Those that are still in the ring have a header of their own.
        let place = DATA + (HEADER * self.rig.left(0)) as u64;
        self.rig.guest.write(place, &ask.header());
        if let Some(range) = ask.range {
            self.rig.guest.write(place + RANGES, &range.bytes());
        }
        self.rig.offer(0, ask.buffers(place));
    }

    fn turn(&mut self) {
        self.rig.turn();
        let mut later = vec![];
        for Used { chain, written } in self.rig.used(0) {
            self.answered(chain, written as usize, &mut later);
        }
        while let Some((chain, operation, written)) = later.pop() {
            self.done(&chain, operation, written);
        }
        assert!(self.plan.lock().submitted.is_empty(), "more requests than the driver has made");
        self.rig.check();
    }

    /// What a chain that has come back should have done. Those that the host has kept go to `later`.
    fn answered(
        &mut self,
        chain: Chain,
        written: usize,
        later: &mut Vec<(Chain, Operation, usize)>,
    ) {
        let readable = chain.readable(&self.rig.guest);
        match judge(&readable, chain.room(), self.read_only, self.through) {
            Verdict::Mute => {
                assert_eq!(written, 0);
                self.counts.mute += 1;
            }
            Verdict::Refused(status) => {
                self.status(&chain, status, 0, written);
                self.counts.refused += 1;
            }
            Verdict::Id => {
                let some = SERIAL.len().min(chain.room() - 1);
                chain.expect(0, &SERIAL[..some], &mut self.rig.guest);
                self.status(&chain, Status::Ok, some, written);
                self.counts.named += 1;
            }
            Verdict::Host(operation) => {
                let submitted = self.plan.lock().submitted.pop_front();
                let (there, fate) = submitted.expect("a good request gets to the host");
                assert_eq!(there, operation);
                match fate {
                    Fate::Now => self.done(&chain, operation, written),
                    Fate::Later => later.push((chain, operation, written)),
                    Fate::Refused => {
                        self.status(&chain, Status::IoError, 0, written);
                        self.counts.failed += 1;
                    }
                }
            }
        }
    }

    /// The host has done what was asked for.
    fn done(&mut self, chain: &Chain, operation: Operation, written: usize) {
        let mut filled = 0;
        match operation {
            Operation::Read { offset } => {
                filled = chain.room() - 1;
                let there = &self.disk[offset as usize..offset as usize + filled];
                chain.expect(0, there, &mut self.rig.guest);
                self.counts.read += 1;
            }
            Operation::Write { offset, .. } => {
                let data = &chain.readable(&self.rig.guest)[HEADER..];
                self.disk[offset as usize..offset as usize + data.len()].copy_from_slice(data);
                self.counts.written += 1;
            }
            // A disk in memory has zeros after both.
            Operation::Discard { offset, len } | Operation::WriteZeroes { offset, len, .. } => {
                self.disk[offset as usize..(offset + len) as usize].fill(0);
                self.counts.zeroed += 1;
            }
            Operation::Flush => self.counts.flushed += 1,
        }
        self.status(chain, Status::Ok, filled, written);
    }

    /// The status is the last byte, and counts as written when there is no hole before it (§2.7.8.2).
    fn status(&mut self, chain: &Chain, status: Status, filled: usize, written: usize) {
        let last = chain.room() - 1;
        chain.expect(last, &[status as u8], &mut self.rig.guest);
        assert_eq!(written, if filled == last { filled + 1 } else { filled });
    }

    fn read_all(&mut self) {
        self.plan.lock().fates.clear();
        const AT_ONCE: usize = 4;
        for sector in (0..SECTORS as u8).step_by(AT_ONCE) {
            let room = Piece { at: 0, len: (AT_ONCE * SECTOR) as u16 };
            self.ask(&Ask {
                kind: Kind::Read,
                sector: Sector::Near(sector),
                cut: 0,
                range: None,
                readable: vec![],
                writable: vec![Payload::Piece(room)],
                status: true,
            });
            self.turn();
        }
        assert_eq!(self.rig.left(0), 0);
    }
}
