//! Captures, read by an implementation that is not the one that writes them.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cubie_testkit::{Guest, Slot, within};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Capture, Captured, Counters, Loopback, Mac, Net, Null};
use nix::sys::resource::{Resource, setrlimit};
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Block, PcapBlockOwned, PcapError, PcapNGReader};
use rustix::fs::{CWD, MemfdFlags, Mode, SealFlags, fcntl_add_seals, memfd_create, mkfifoat};

use crate::alone::is_alone;
use crate::driver::*;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const IN: u32 = 1;
const OUT: u32 = 2;

/// A frame in a capture: when it came, which way, how long it was, and what is there of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    nanoseconds: u128,
    direction: u32,
    len: u32,
    bytes: Vec<u8>,
}

/// The frames of a capture, and whether its end is that of a block.
fn read(file: &[u8]) -> (Vec<Frame>, bool) {
    let (mut frames, mut resolution) = (vec![], 0);
    let mut reader = PcapNGReader::new(1 << 17, file).unwrap();
    loop {
        match reader.next() {
            Ok((len, PcapBlockOwned::NG(block))) => {
                match block {
                    Block::InterfaceDescription(interface) => {
                        assert_eq!(interface.linktype, pcap_parser::Linktype::ETHERNET);
                        resolution = interface.ts_resolution().unwrap();
                    }
                    Block::EnhancedPacket(packet) => {
                        let flags = packet.options.iter().find(|option| option.code.0 == 2);
                        let units = u128::from(packet.ts_high) << 32 | u128::from(packet.ts_low);
                        frames.push(Frame {
                            nanoseconds: units * 1_000_000_000 / u128::from(resolution),
                            direction: u32::from_ne_bytes(
                                flags.unwrap().value[..4].try_into().unwrap(),
                            ),
                            len: packet.origlen,
                            bytes: packet.packet_data().to_vec(),
                        });
                    }
                    _ => {}
                }
                reader.consume(len);
            }
            Ok(_) => panic!("no pcapng"),
            Err(PcapError::Eof) => return (frames, true),
            Err(PcapError::Incomplete(_)) => match reader.reader_exhausted() {
                true => return (frames, false),
                false => reader.refill().unwrap(),
            },
            Err(PcapError::UnexpectedEof) => return (frames, false),
            Err(error) => panic!("{error:?}"),
        }
    }
}

struct Bench {
    slot: Slot,
    driver: Driver,
    end: Loopback,
    counters: Counters,
}

impl Bench {
    fn new(capture: Capture) -> Self {
        let (cable, end) = Loopback::pair().unwrap();
        let net = Net::new(Captured::new(cable, capture), Mac::made_from("test"));
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let driver = Driver::new(&guest, &slot, Features(0), 1);
        Self { slot, driver, end, counters }
    }

    fn sends(&mut self, frame: &[u8]) {
        self.driver.send(TRANSMIT, frame);
        assert_eq!(self.end.wait_frame(DEADLINE).as_deref(), Some(frame));
    }

    fn receives(&mut self, frame: &[u8]) {
        let room = self.driver.room(RECEIVE, HEADER + frame.len());
        assert!(self.end.send_frame(frame));
        assert_eq!(self.driver.frame(RECEIVE, room), frame);
    }
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

#[test]
fn both_directions_are_there_in_order_while_the_card_runs() {
    within(DEADLINE, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames.pcapng");
        fs::write(&path, vec![7; 5000]).unwrap();
        let before = now();
        let mut bench = Bench::new(Capture::create(&path).unwrap());
        assert_eq!(read(&fs::read(&path).unwrap()), (vec![], true), "what was there is gone");
        bench.sends(&[1; 60]);
        bench.receives(&[2; 1513]);
        bench.sends(&[3; 14]);
        let (frames, whole) = read(&fs::read(&path).unwrap());
        let seen = frames.iter().map(|frame| (frame.direction, frame.len, frame.bytes.clone()));
        let expected = [(OUT, 60, vec![1; 60]), (IN, 1513, vec![2; 1513]), (OUT, 14, vec![3; 14])];
        assert!(seen.eq(expected) && whole, "{frames:?}");
        let times: Vec<_> = frames.iter().map(|frame| frame.nanoseconds).collect();
        assert!(times.is_sorted() && before <= times[0] && times[2] <= now(), "{times:?}");
        drop(bench.slot.unplug());
    });
}

#[test]
fn wherever_a_capture_is_cut_off_what_precedes_can_be_read() {
    within(DEADLINE, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames.pcapng");
        let mut bench = Bench::new(Capture::create(&path).unwrap());
        let start = fs::metadata(&path).unwrap().len() as usize;
        // All of these take as many bytes with what fills them up.
        (17..21).for_each(|len| bench.sends(&vec![1; len]));
        let file = fs::read(&path).unwrap();
        let (frames, _) = read(&file);
        for len in start..=file.len() {
            let (some, whole) = read(&file[..len]);
            assert_eq!(some, frames[..some.len()]);
            assert_eq!(whole, (len - start).is_multiple_of((file.len() - start) / 4), "{len}");
        }
    });
}

#[test]
fn a_snap_length_cuts_what_is_kept_and_nothing_else() {
    within(DEADLINE, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames.pcapng");
        let mut bench = Bench::new(Capture::with_snap_len(&path, 20).unwrap());
        bench.sends(&[1; 60]);
        bench.receives(&[2; 19]);
        let (frames, _) = read(&fs::read(&path).unwrap());
        let lengths: Vec<_> = frames.iter().map(|frame| (frame.len, frame.bytes.len())).collect();
        assert_eq!(lengths, [(60, 20), (19, 19)]);
    });
}

#[test]
fn a_file_that_takes_no_more_ends_the_capture_and_not_the_network() {
    within(DEADLINE, || {
        // The header does not fit: that is known at once.
        let error = Capture::create("/dev/full").err().unwrap();
        assert!(error.to_string().starts_with("cannot write /dev/full: No space"), "{error}");

        let file = memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap();
        let mut file = fs::File::from(file);
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut bench = Bench::new(Capture::create(path).unwrap());
        bench.sends(&[1; 100]);
        let whole = file.metadata().unwrap().len();
        // Part of the next block has a place, and then the file is full.
        file.set_len(whole + 50).unwrap();
        fcntl_add_seals(&file, SealFlags::GROW).unwrap();
        bench.sends(&[2; 100]);
        bench.sends(&[3; 20]);
        bench.receives(&[4; 20]);
        let mut bytes = vec![];
        file.read_to_end(&mut bytes).unwrap();
        let (frames, whole) = read(&bytes);
        assert!(frames.len() == 1 && whole, "no half frame, and no more: {frames:?}");
        let counters = bench.counters;
        assert_eq!((counters.transmit().frames, counters.transmit().drops.total()), (3, 0));
    });
}

#[test]
fn a_limit_of_the_processs_ends_the_capture_and_not_the_process() {
    if !is_alone("capture::a_limit_of_the_processs_ends_the_capture_and_not_the_process") {
        return;
    }
    within(DEADLINE, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames.pcapng");
        let mut bench = Bench::new(Capture::create(&path).unwrap());
        setrlimit(Resource::RLIMIT_FSIZE, 1000, 1000).unwrap();
        (0..10).for_each(|n| bench.sends(&[n; 200]));
        let (frames, whole) = read(&fs::read(&path).unwrap());
        assert!((2..5).contains(&frames.len()) && whole, "{frames:?}");
        assert_eq!(bench.counters.transmit().frames, 10);
    });
}

#[test]
fn pairs_of_queues_share_a_capture_and_the_kernel_serves_none_of_them() {
    within(DEADLINE, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames.pcapng");
        let capture = Capture::create(&path).unwrap();
        let end = || Captured::new(Null::new().unwrap().with_frames(20, 60), capture.clone());
        let mut net = Net::with_pairs(vec![end(), end()], Mac::made_from("test")).unwrap();
        assert!(net.use_vhost().unwrap_err().to_string().contains("tap only"));
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let mq = Features::bit(virtio_bindings::virtio_net::VIRTIO_NET_F_MQ);
        let mut driver = Driver::new(&guest, &slot, mq, 2);
        assert_eq!(driver.command(4, 0, &[2, 0]), OK);
        for _ in 0..20 {
            let rooms = [RECEIVE, RECEIVE + 2].map(|queue| (queue, driver.room(queue, 72)));
            for (queue, room) in rooms {
                assert_eq!(driver.frame(queue, room).len(), 60);
                driver.send(queue + TRANSMIT, &[5; 40]);
            }
        }
        assert_eq!(counters.of_pair(1).map(|way| way.frames), [20, 20]);
        let (frames, whole) = read(&fs::read(&path).unwrap());
        let of = |way, len| frames.iter().filter(|f| (f.direction, f.len) == (way, len)).count();
        assert_eq!((of(IN, 60), of(OUT, 40), frames.len(), whole), (40, 40, 80, true));
    });
}

#[test]
fn what_is_no_file_or_somebody_elses_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| Capture::create(path).err().expect("refused").to_string();
    assert!(refused(folder.path()).contains("directory"));
    assert!(refused(&folder.path().join("no/such")).contains("No such file"));
    let pipe = folder.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    assert!(refused(&pipe).contains("is no file: give one"));
    let taken = folder.path().join("taken");
    let _first = Capture::create(&taken).unwrap();
    let there = fs::metadata(&taken).unwrap().len();
    assert!(refused(&taken).contains("being written by another capture"));
    assert_eq!(fs::metadata(&taken).unwrap().len(), there);
    // Any number may write there.
    let _null = ["/dev/null"; 2].map(|path| Capture::create(path).unwrap());
}
