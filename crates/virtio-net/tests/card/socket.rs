//! A stream socket to another program: here a test that speaks the protocol by itself, or another card.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, Slot, VirtualClock, within};
use cubie_virtio_core::{Clock, Features};
use cubie_virtio_net::{Counters, Link, Mac, Net, Socket};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};

use crate::alone::is_alone;
use crate::driver::*;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// A card on a socket, and its driver.
struct End {
    driver: Driver,
    slot: Slot,
    link: Link,
    counters: Counters,
}

impl End {
    fn new(socket: Socket) -> Self {
        Self::of(&Guest::new(), socket)
    }

    /// One card of several.
    fn of(guest: &Guest, socket: Socket) -> Self {
        let net = Net::new(socket, Mac::made_from("test"));
        let (link, counters) = (net.link(), net.counters());
        let slot = guest.plug(Box::new(net));
        let driver = Driver::new(guest, &slot, Features(0), 1);
        Self { driver, slot, link, counters }
    }

    fn link_becomes(&self, up: bool) {
        while self.link.is_up() != up {
            thread::yield_now();
        }
    }

    /// Offers a frame to be sent.
    fn offer(&mut self, frame: &[u8]) {
        let buffer = self.driver.guest.buffer(HEADER + frame.len());
        let at = GuestAddress(buffer.0 + HEADER as u64);
        self.driver.guest.memory().write_slice(frame, at).unwrap();
        let len = (HEADER + frame.len()) as u32;
        self.driver.raw.offer(TRANSMIT, &[Descriptor::readable(buffer.0, len)]);
    }

    fn receives(&mut self, frame: &[u8]) {
        let room = self.driver.room(RECEIVE, HEADER + frame.len());
        assert!(self.driver.frame(RECEIVE, room) == frame, "{} bytes", frame.len());
    }
}

pub(crate) fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cable");
    (folder, path)
}

/// A frame of `len` bytes, none of which is like the next.
fn frame(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (seed * 7 + at * 13 + at / 256) as u8).collect()
}

fn sends(stream: &mut UnixStream, frame: &[u8]) {
    stream.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(frame).unwrap();
}

fn gets(stream: &mut UnixStream) -> Vec<u8> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut frame).unwrap();
    frame
}

fn has_ended(stream: &mut UnixStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(len) => len == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn two_cards_back_to_back_exchange_frames_of_every_kind() {
    within(DEADLINE, || {
        let (_folder, path) = place();
        let guest = Guest::new();
        let mut one = End::of(&guest, Socket::listen(&path).unwrap());
        assert!(!one.link.is_up(), "nobody is there yet");
        let mut other = End::of(&guest, Socket::connect(&path).unwrap());
        one.link_becomes(true);
        assert!(other.link.is_up());
        for (n, len) in [14, 15, 60, 1514, 9014, 65_549, 65_550].into_iter().enumerate() {
            one.driver.send(TRANSMIT, &frame(n, len));
            other.receives(&frame(n, len));
            other.driver.send(TRANSMIT, &frame(n + 1, len));
            one.receives(&frame(n + 1, len));
        }
        for counters in [&one.counters, &other.counters] {
            assert_eq!(
                (counters.transmit().drops.total(), counters.receive().drops.total()),
                (0, 0)
            );
        }
        drop(other.slot.unplug());
        one.link_becomes(false);
        drop(one.slot.unplug());
        assert!(!path.exists(), "the name goes with the socket");
    });
}

#[test]
fn a_peer_that_does_not_read_makes_frames_wait_in_their_ring_and_loses_none() {
    within(DEADLINE, || {
        let (_folder, path) = place();
        let listener = UnixListener::bind(&path).unwrap();
        let mut end = End::new(Socket::connect(&path).unwrap());
        let (mut stream, _) = listener.accept().unwrap();
        let lens: Vec<_> = (0..15).map(|n| 65_550 - n * 1000).collect();
        lens.iter().enumerate().for_each(|(n, len)| end.offer(&frame(n, *len)));
        // One that came has been answered, so that those before it have been looked at.
        sends(&mut stream, &frame(0, 20));
        end.receives(&frame(0, 20));
        let gone = std::iter::from_fn(|| end.driver.raw.used(TRANSMIT)).count();
        assert!(gone < 10, "{gone} frames found a place where nobody reads");
        // The receive queue is empty and the guest silent: what is left goes all the same.
        for (n, len) in lens.iter().enumerate() {
            assert!(gets(&mut stream) == frame(n, *len), "frame {n}");
        }
        for _ in gone..lens.len() {
            end.driver.raw.wait_used(TRANSMIT, DEADLINE);
        }
        assert_eq!(end.counters.transmit().drops.total(), 0);
    });
}

#[test]
fn a_peer_that_goes_takes_the_link_down_and_is_called_again_more_and_more_rarely() {
    within(DEADLINE, || {
        let (_folder, path) = place();
        let clock = VirtualClock::default();
        let mut end = End::new(Socket::connect_with_clock(&path, clock.clone()).unwrap());
        assert!(!end.link.is_up());
        end.driver.send(TRANSMIT, &frame(1, 60));
        assert_eq!(end.counters.transmit().drops.link_down, 1);
        for pause in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let pause = Duration::from_millis(pause);
            // It is set anew once the last attempt has failed.
            while clock.next_timer() != Some(clock.now() + pause) {
                thread::yield_now();
            }
            clock.advance(pause);
        }
        let listener = UnixListener::bind(&path).unwrap();
        for _ in 0..2 {
            clock.advance(Duration::from_secs(5));
            let (mut stream, _) = listener.accept().unwrap();
            end.link_becomes(true);
            sends(&mut stream, &frame(2, 60));
            end.receives(&frame(2, 60));
            end.driver.send(TRANSMIT, &frame(3, 60));
            assert_eq!(gets(&mut stream), frame(3, 60));
            drop(stream);
            end.link_becomes(false);
        }
        // A connection that was good for something is followed by another one soon.
        let next = clock.wait_for_timer(DEADLINE) - clock.now();
        assert_eq!(next, Duration::from_millis(100));
    });
}

#[test]
fn a_length_that_no_frame_has_ends_the_connection_and_the_next_one_is_as_good_as_new() {
    within(DEADLINE, || {
        let (_folder, path) = place();
        let mut end = End::new(Socket::listen(&path).unwrap());
        for len in [0u32, 13, 65_551, u32::MAX] {
            let mut stream = UnixStream::connect(&path).unwrap();
            end.link_becomes(true);
            sends(&mut stream, &frame(1, 60));
            // Half a length, and half a frame behind it.
            stream.write_all(&len.to_be_bytes()[..2]).unwrap();
            end.receives(&frame(1, 60));
            let room = end.driver.room(RECEIVE, 100);
            stream.write_all(&len.to_be_bytes()[2..]).unwrap();
            assert!(has_ended(&mut stream), "after {len}");
            end.link_becomes(false);
            // The room is for the first frame of the next peer.
            let mut stream = UnixStream::connect(&path).unwrap();
            sends(&mut stream, &frame(2, 60));
            assert_eq!(end.driver.frame(RECEIVE, room), frame(2, 60));
            drop(stream);
            end.link_becomes(false);
        }
    });
}

#[test]
fn who_comes_while_another_one_is_there_has_to_wait() {
    within(DEADLINE, || {
        let (_folder, path) = place();
        let mut end = End::new(Socket::listen(&path).unwrap());
        let mut first = UnixStream::connect(&path).unwrap();
        end.link_becomes(true);
        let mut second = UnixStream::connect(&path).unwrap();
        sends(&mut second, &frame(2, 60));
        sends(&mut first, &frame(1, 60));
        end.receives(&frame(1, 60));
        end.driver.send(TRANSMIT, &frame(3, 60));
        assert_eq!(gets(&mut first), frame(3, 60));
        drop(first);
        end.receives(&frame(2, 60));
        end.driver.send(TRANSMIT, &frame(4, 60));
        assert_eq!(gets(&mut second), frame(4, 60));
    });
}

#[test]
fn a_peer_that_comes_when_the_host_has_no_descriptor_for_it_is_accepted_later() {
    if !is_alone(
        "socket::a_peer_that_comes_when_the_host_has_no_descriptor_for_it_is_accepted_later",
    ) {
        return;
    }
    within(DEADLINE, || {
        let (_folder, path) = place();
        let clock = VirtualClock::default();
        let listening = Socket::listen_with_clock(&path, clock.clone()).unwrap();
        let mut end = End::new(listening);
        let peer = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let (usual, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // All below are in use as long as the process lives.
        setrlimit(Resource::RLIMIT_NOFILE, 3, most).unwrap();
        connect(&peer, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let mut peer = UnixStream::from(peer);
        let pause = clock.wait_for_timer(DEADLINE);
        assert!(!end.link.is_up());
        setrlimit(Resource::RLIMIT_NOFILE, usual, most).unwrap();
        clock.advance(pause);
        end.link_becomes(true);
        sends(&mut peer, &frame(1, 60));
        end.receives(&frame(1, 60));
    });
}

#[test]
fn what_is_not_mended_by_itself_is_tried_again_as_well() {
    within(DEADLINE, || {
        let (_folder, path) = place();
        // Frames of a card are a stream, and here are packets.
        let other = UnixDatagram::bind(&path).unwrap();
        let clock = VirtualClock::default();
        let mut end = End::new(Socket::connect_with_clock(&path, clock.clone()).unwrap());
        for _ in 0..2 {
            clock.advance(clock.wait_for_timer(DEADLINE) - clock.now());
        }
        let pause = clock.wait_for_timer(DEADLINE) - clock.now();
        drop(other);
        fs::remove_file(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        clock.advance(pause);
        let (mut peer, _) = listener.accept().unwrap();
        sends(&mut peer, &frame(1, 60));
        end.receives(&frame(1, 60));
    });
}
