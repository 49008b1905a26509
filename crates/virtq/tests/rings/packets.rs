//! Packets between guest memory and a socket that keeps their borders, and bytes through a pipe.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use crate::bench::*;
use cubie_virtq::{Chain, Features, Serve};
use vm_memory::{Bytes, GuestAddress};

/// Serves one chain of a bench whose guest memory holds 10 bytes "0123456789" across the seam.
fn with_chain(flags: u16, serve: impl FnOnce(&mut Chain)) -> Bench {
    let mut bench = Bench::new(4, Features::VERSION_1);
    bench.memory.write_slice(b"0123456789", GuestAddress(SEAM - 4)).unwrap();
    bench.descriptor(DESC, 0, (SEAM - 4, 10, flags, 0));
    bench.offer(0);
    let mut serve = Some(serve);
    bench.queue.drain(|mut chain| {
        serve.take().expect("one chain")(&mut chain);
        Serve::Done(chain, 0)
    });
    assert!(serve.is_none(), "the chain was served");
    bench
}

fn sockets() -> (UnixDatagram, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (ours, theirs)
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no datagram sockets")]
fn a_packet_leaves_with_the_callers_header() {
    let (ours, theirs) = sockets();
    with_chain(0, |chain| {
        let mut guests = [0; 2];
        chain.readable().read(&mut guests);
        assert_eq!(&guests, b"01");
        chain.readable().write_packet(b"AB", ours.as_fd()).unwrap();
        assert!(chain.readable().is_empty());
    });
    let mut packet = [0; 20];
    let len = theirs.recv(&mut packet).unwrap();
    assert_eq!(&packet[..len], b"AB23456789");
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no datagram sockets")]
fn a_packet_that_cannot_leave_can_be_tried_again() {
    let (ours, theirs) = sockets();
    while ours.send(b"x").is_ok() {}
    with_chain(0, |chain| {
        let error = chain.readable().write_packet(b"AB", ours.as_fd()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        while theirs.recv(&mut [0; 8]).is_ok() {}
        chain.readable().write_packet(b"AB", ours.as_fd()).unwrap();
    });
    let mut packet = [0; 20];
    let len = theirs.recv(&mut packet).unwrap();
    assert_eq!(&packet[..len], b"AB0123456789");
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no datagram sockets")]
fn a_packet_arrives_behind_a_header_written_last() {
    let (ours, theirs) = sockets();
    let bench = with_chain(WRITE, |chain| {
        assert!(!chain.reserve_header(11), "there are only ten");
        assert!(chain.reserve_header(5));
        theirs.send(b"ABabc").unwrap();
        let mut header = [0; 2];
        let len = chain.writable().read_packet(&mut header, ours.as_fd()).unwrap();
        assert_eq!((len, &header), (Some(3), b"AB"));
        assert_eq!(chain.header().write(b"HEADER"), 5, "no more than was set aside");
        assert_eq!(chain.writable().len(), 2);
    });
    let mut memory = [0; 10];
    bench.memory.read_slice(&mut memory, GuestAddress(SEAM - 4)).unwrap();
    assert_eq!(&memory, b"HEADEabc89");
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no datagram sockets")]
fn a_packet_that_is_too_long_or_too_short_is_lost_as_a_whole() {
    let (ours, theirs) = sockets();
    with_chain(WRITE, |chain| {
        for packet in [&b"ABabcdefghijk"[..], b"A", b"ABabcdefghij"] {
            theirs.send(packet).unwrap();
        }
        let mut receive = || chain.writable().read_packet(&mut [0; 2], ours.as_fd());
        assert_eq!(receive().unwrap(), None, "eleven bytes do not fit in ten");
        assert_eq!(receive().unwrap(), None, "not even a header");
        assert_eq!(receive().unwrap(), Some(10), "a packet that fills the room");
        assert_eq!(receive().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn bytes_go_through_a_pipe_and_come_back() {
    let (reader, writer) = std::io::pipe().unwrap();
    with_chain(0, |chain| {
        chain.readable().write_packet(b"AB", writer.as_fd()).unwrap();
    });
    with_chain(0, |chain| {
        chain.readable().consume(7);
        assert_eq!(chain.readable().write_to(writer.as_fd()).unwrap(), 3);
        assert!(chain.readable().is_empty());
    });
    drop(writer);
    let bench = with_chain(WRITE, |chain| {
        let mut header = [0; 9];
        let len = chain.writable().read_packet(&mut header, reader.as_fd()).unwrap();
        assert_eq!((len, &header), (Some(6), b"AB0123456"));
        assert_eq!(chain.writable().read_from(reader.as_fd()).unwrap(), 0, "the pipe is empty");
    });
    let mut memory = [0; 10];
    bench.memory.read_slice(&mut memory, GuestAddress(SEAM - 4)).unwrap();
    assert_eq!(&memory, b"7897896789");
}

#[test]
fn a_front_that_is_lent_is_all_that_can_be_passed() {
    with_chain(0, |chain| {
        let mut data = chain.readable();
        let mut bytes = [0; 20];
        // Across the seam, and not all of what is lent.
        let read = data.with_front(6, |front| {
            assert_eq!((front.len(), front.iovecs().len()), (6, 2));
            front.read(&mut bytes[..5])
        });
        assert_eq!((read, data.len(), data.iovecs().len()), (5, 5, 2));
        assert_eq!(data.with_front(100, |front| front.read(&mut bytes[5..])), 5);
        assert_eq!((&bytes[..10], data.len()), (&b"0123456789"[..], 0));
        assert_eq!(data.with_front(0, |front| front.len()), 0);
    });
}
