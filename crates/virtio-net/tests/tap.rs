//! Frames through a tap of the host's kernel, for root. Says so and does nothing elsewhere.
#![expect(unsafe_code, reason = "std has no packet sockets")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver, Slot, within};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Mac, Net, Tap, TapError};
use virtio_bindings::virtio_net::{VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ};
use vm_memory::{Bytes, GuestAddress};

const DEADLINE: Duration = Duration::from_secs(20);
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Of this test's own, among what the kernel itself sends to a new interface: IEEE's number for
/// local experiments.
const ETHERTYPE: u16 = 0x88b5;

/// A tap, or none where there can be none.
fn tap(name: Option<&str>) -> Option<Tap> {
    match Tap::open(name) {
        Err(error @ (TapError::Missing | TapError::Device | TapError::NotPermitted(_))) => {
            eprintln!("skipped: {error}");
            None
        }
        tap => Some(tap.unwrap()),
    }
}

fn exists(name: &str) -> bool {
    let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap();
    interfaces.lines().any(|line| line.trim_start().starts_with(&format!("{name}:")))
}

/// The host's side of an interface: frames of our type.
fn host_side(name: &str) -> File {
    host_side_of(name, ETHERTYPE)
}

/// The host's side of an interface: frames of this type.
fn host_side_of(name: &str, ethertype: u16) -> File {
    let protocol = ethertype.to_be();
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol.into()) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a descriptor that nobody else has.
    let socket = unsafe { File::from_raw_fd(fd) };
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: the name ends with zero, and zero is a value for all fields of the address.
    let (index, mut address) =
        unsafe { (libc::if_nametoindex(name.as_ptr()), std::mem::zeroed::<libc::sockaddr_ll>()) };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as i32;
    let len = size_of_val(&address) as u32;
    // SAFETY: the address is as long as said.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    socket
}

fn frame(text: &[u8]) -> Vec<u8> {
    let (to, from) = ([0xff; 6], Mac::made_from("test").bytes());
    [&to[..], &from, &ETHERTYPE.to_be_bytes(), text, &[0; 46]].concat()
}

#[test]
fn frames_pass_both_ways_with_plain_headers() {
    within(DEADLINE, || {
        let Some(tap) = tap(None) else { return };
        assert!(tap.name().starts_with("cubie"));
        let mut host = host_side(tap.name());
        let net = Net::new(tap, Mac::made_from("test"));
        let drops = net.drops();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let mut driver = RawDriver::new(&slot, Features::default(), &[256, 256]);

        let sent = frame(b"from the guest");
        let buffer = guest.buffer(12 + sent.len());
        guest.memory().write_slice(&sent, GuestAddress(buffer.0 + 12)).unwrap();
        // Its hdr_len means nothing, and is beyond the frame's end, which the kernel would not have.
        guest.memory().write_obj(!0u16, GuestAddress(buffer.0 + 2)).unwrap();
        let len = 12 + sent.len() as u32;
        driver.offer(TRANSMIT, &[Descriptor::readable(buffer.0, len)]);
        let mut seen = vec![0; 2000];
        let count = host.read(&mut seen).unwrap();
        assert_eq!(seen[..count], sent);

        let sent = frame(b"from the host");
        host.write_all(&sent).unwrap();
        let buffer = guest.buffer(1526);
        loop {
            driver.offer(RECEIVE, &[Descriptor::writable(buffer.0, 1526)]);
            let count = driver.wait_used(RECEIVE, DEADLINE).written as usize;
            let mut seen = vec![0; count];
            guest.memory().read_slice(&mut seen, buffer).unwrap();
            assert_eq!(seen[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
            // The kernel greets new interfaces with frames of its own.
            if seen[12 + 12..][..2] == ETHERTYPE.to_be_bytes() {
                assert_eq!(seen[12..], sent);
                break;
            }
        }
        assert_eq!((drops.transmit(), drops.receive()), (0, 0));
    });
}

#[test]
fn a_tap_is_up_in_use_and_gone_with_its_owner() {
    // A name that no test beside this one gets from the kernel.
    let name = format!("cubie-{}", std::process::id());
    let Some(tap) = tap(Some(&name)) else { return };
    assert!(tap.name() == name && exists(&name));
    let busy = Tap::open(Some(&name)).unwrap_err();
    assert!(matches!(&busy, TapError::Busy(who) if *who == name), "{busy}");
    let flags = std::fs::read_to_string(format!("/sys/class/net/{name}/flags"));
    if let Ok(flags) = flags {
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap();
        assert_eq!(flags & libc::IFF_UP as u32, libc::IFF_UP as u32);
    }
    drop(tap);
    assert!(!exists(&name));
}

#[test]
fn another_kind_of_interface_is_not_a_tap() {
    if tap(None).is_none() {
        return;
    }
    let error = Tap::open(Some("lo")).unwrap_err();
    assert!(matches!(&error, TapError::NotATap(name) if name == "lo"), "{error}");
}

/// Ethernet, IPv4 and UDP, from a port of its own, with the port's number as payload.
fn datagram(port: u16) -> Vec<u8> {
    let ip = [0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    let [a, b] = port.to_be_bytes();
    let udp = [a, b, 0, 9, 0, 10, 0, 0, a, b];
    let (to, from) = (Mac::made_from("test").bytes(), [2, 0, 0, 0, 0, 1]);
    [&to[..], &from, &[8, 0], &ip, &udp].concat()
}

const FLOWS: u16 = 64;
const CONTROL: usize = 4;

/// A driver of a card with two pairs, on a tap.
struct Two {
    guest: Guest,
    driver: RawDriver,
    /// The only buffer of each receive queue.
    buffers: [GuestAddress; 2],
}

impl Two {
    fn new(guest: &Guest, slot: &Slot) -> Self {
        let features = [VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ].map(Features::bit);
        let driver = RawDriver::new(slot, features[0].with(features[1]), &[16; CONTROL + 1]);
        let buffers = [guest.buffer(1526), guest.buffer(1526)];
        let mut two = Self { guest: guest.clone(), driver, buffers };
        (0..2).for_each(|pair| two.offer(pair));
        two
    }

    fn offer(&mut self, pair: usize) {
        self.driver.offer(2 * pair, &[Descriptor::writable(self.buffers[pair].0, 1526)]);
    }

    fn use_pairs(&mut self, pairs: u8) {
        let (ask, ack) = (self.guest.buffer(4), self.guest.buffer(1));
        self.guest.memory().write_slice(&[4, 0, pairs, 0], ask).unwrap();
        let chain = [Descriptor::readable(ask.0, 4), Descriptor::writable(ack.0, 1)];
        self.driver.offer(CONTROL, &chain);
        self.driver.wait_used(CONTROL, DEADLINE);
        assert_eq!(self.guest.memory().read_obj::<u8>(ack).unwrap(), 0);
    }

    /// Has the host send a datagram from each port. By which pairs they come.
    fn pairs_of_flows(&mut self, host: &mut File) -> Vec<usize> {
        (0..FLOWS).for_each(|port| host.write_all(&datagram(port)).unwrap());
        let mut pairs = vec![None; FLOWS.into()];
        while pairs.contains(&None) {
            for pair in 0..2 {
                let Some(used) = self.driver.used(2 * pair) else { continue };
                let mut frame = vec![0; used.written as usize - 12];
                let at = GuestAddress(self.buffers[pair].0 + 12);
                self.guest.memory().read_slice(&mut frame, at).unwrap();
                // The kernel greets new interfaces with frames of its own.
                if frame.starts_with(&Mac::made_from("test").bytes()) {
                    let port = u16::from_be_bytes(frame[34..36].try_into().unwrap());
                    assert_eq!(frame, datagram(port));
                    assert_eq!(pairs[usize::from(port)].replace(pair), None, "once");
                }
                self.offer(pair);
            }
            std::thread::yield_now();
        }
        pairs.into_iter().flatten().collect()
    }
}

#[test]
fn a_tap_with_two_queues_has_frames_for_both_if_the_driver_uses_both() {
    within(DEADLINE, || {
        let taps = match Tap::open_queues(None, 2) {
            Err(error @ (TapError::Missing | TapError::Device | TapError::NotPermitted(_))) => {
                return eprintln!("skipped: {error}");
            }
            taps => taps.unwrap(),
        };
        let name = taps[0].name().to_owned();
        assert!(taps.len() == 2 && taps[1].name() == name);
        let (mut host, mut ours) = (host_side_of(&name, 0x0800), host_side(&name));
        let net = Net::with_pairs(taps, Mac::made_from("test")).unwrap();
        let drops = net.drops();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        for _ in 0..2 {
            let mut two = Two::new(&guest, &slot);
            assert_eq!(two.pairs_of_flows(&mut host), [0; FLOWS as usize]);
            for _ in 0..3 {
                two.use_pairs(2);
                let pairs = two.pairs_of_flows(&mut host);
                assert!(pairs.contains(&0) && pairs.contains(&1), "{pairs:?}");
                two.use_pairs(1);
                assert_eq!(two.pairs_of_flows(&mut host), [0; FLOWS as usize]);
            }
            two.use_pairs(2);
            let sent = frame(b"from the second pair");
            let buffer = guest.buffer(12 + sent.len());
            guest.memory().write_slice(&sent, GuestAddress(buffer.0 + 12)).unwrap();
            let len = 12 + sent.len() as u32;
            two.driver.offer(3, &[Descriptor::readable(buffer.0, len)]);
            let mut seen = vec![0; 2000];
            let count = ours.read(&mut seen).unwrap();
            assert_eq!(seen[..count], sent);
        }
        assert_eq!((drops.transmit(), drops.receive()), (0, 0));
    });
}

#[test]
fn a_tap_for_one_queue_cannot_have_two_nor_the_other_way_round() {
    let name = format!("cubie-q{}", std::process::id() % 100_000);
    let Some(one) = tap(Some(&name)) else { return };
    let error = Tap::open_queues(Some(&name), 2).unwrap_err();
    assert!(matches!(&error, TapError::NotSeveral(who) if *who == name), "{error}");
    drop(one);
    let _several = Tap::open_queues(Some(&name), 2).unwrap();
    let error = Tap::open(Some(&name)).unwrap_err();
    assert!(matches!(&error, TapError::NotATap(who) if *who == name), "{error}");
}
