//! Front-ends that are broken, gone or hostile: each is dropped with a reason, and the next one is served.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use cubie_virtio_core::Features;
use cubie_virtio_rng::{HostEntropy, Rng};
use rustix::event::{EventfdFlags, eventfd};
use vhost::vhost_user::message::FrontendReq as Req;

use crate::daemon::{Daemon, Served};
use crate::disk::{disk, finds};
use crate::guest::{Guest, shared};
use crate::wire::{NEED_REPLY, VERSION, Wire, message, state};

/// What the daemon says to a front-end that has negotiated all, and then sends `bytes` and `files`.
fn told_of(bytes: &[u8], files: &[BorrowedFd<'_>]) -> String {
    let (daemon, socket) = Daemon::of(disk());
    let wire = Wire(socket);
    let protocol = wire.ask(Req::GET_PROTOCOL_FEATURES);
    wire.tell(Req::SET_PROTOCOL_FEATURES, protocol);
    let features = wire.ask(Req::GET_FEATURES);
    wire.tell(Req::SET_FEATURES, features);
    assert!(wire.send(bytes, files));
    wire.0.shutdown(std::net::Shutdown::Write).unwrap();
    while wire.answer().is_some() {}
    daemon.reason()
}

fn told(request: Req, body: &[u8], files: &[BorrowedFd<'_>]) -> String {
    told_of(&message(request.into(), VERSION, body), files)
}

/// A region as ADD_MEM_REG has it, behind its padding: guest address, size, user address, offset.
fn region(words: [u64; 4]) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_ne_bytes).collect()
}

fn padded(words: [u64; 4]) -> Vec<u8> {
    [&[0; 8], &region(words)[..]].concat()
}

/// Size and offset of notes on what is in flight, queues, and their entries.
fn inflight(long: [u64; 2], short: [u16; 2]) -> Vec<u8> {
    let short = short.into_iter().chain([0, 0]).flat_map(u16::to_ne_bytes);
    long.into_iter().flat_map(u64::to_ne_bytes).chain(short).collect()
}

#[test]
fn headers_that_cannot_be_are_told() {
    for (bytes, reason) in [
        (message(1, 0, &[]), "the flags 0x0"),
        (message(1, 2, &[]), "the flags 0x2"),
        (message(1, 5, &[]), "the flags 0x5"),
        (message(1, VERSION | 16, &[]), "the flags 0x11"),
        (message(0, VERSION, &[]), "request 0 is not known"),
        (message(45, VERSION, &[]), "request 45 is not known"),
        (message(u32::MAX, VERSION, &[]), "is not known"),
        (message(Req::SET_LOG_BASE.into(), VERSION, &[0; 16]), "request 6 is not known"),
        (message(Req::SET_FEATURES.into(), VERSION, &[0; 8])[..15].to_vec(), "in the middle"),
        (message(Req::GET_FEATURES.into(), VERSION, &[])[..11].to_vec(), "in the middle"),
        ([1u32, VERSION, 4097].into_iter().flat_map(u32::to_ne_bytes).collect(), "4097 bytes"),
        ([1u32, VERSION, u32::MAX].into_iter().flat_map(u32::to_ne_bytes).collect(), "bytes"),
    ] {
        let told = told_of(&bytes, &[]);
        assert!(told.contains(reason), "{told} says {reason}");
        assert!(!told.contains('\n'));
    }
}

#[test]
fn bodies_that_cannot_be_are_told() {
    for (request, body, reason) in [
        (Req::GET_FEATURES, vec![0; 8], "GET_FEATURES: too long"),
        (Req::SET_FEATURES, vec![0; 7], "SET_FEATURES: too short"),
        (Req::SET_FEATURES, vec![0; 9], "SET_FEATURES: too long"),
        (Req::SET_FEATURES, vec![0xff; 8], "features that were not offered"),
        (Req::SET_PROTOCOL_FEATURES, vec![0xff; 8], "protocol features that were not offered"),
        (Req::SET_VRING_NUM, state(1, 16), "no queue 1"),
        (Req::SET_VRING_NUM, state(u32::MAX, 16), "no queue 4294967295"),
        (Req::SET_VRING_NUM, state(0, 0), "queue 0 cannot have 0 entries"),
        (Req::SET_VRING_NUM, state(0, 32769), "queue 0 cannot have 32769 entries"),
        (Req::SET_VRING_ENABLE, state(0, 2), "neither 0 nor 1"),
        (Req::GET_VRING_BASE, state(9, 0), "no queue 9"),
        (Req::SET_VRING_ADDR, vec![0xff; 40], "SET_VRING_ADDR: a value that cannot be"),
        (Req::SET_MEM_TABLE, vec![0; 8], "SET_MEM_TABLE: a value that cannot be"),
        (Req::SET_MEM_TABLE, state(2, 0), "not as many regions"),
        (Req::SET_MEM_TABLE, state(1 << 20, 0), "a value that cannot be"),
        (Req::GET_CONFIG, [state(0, 8), vec![0; 4]].concat(), "not as many bytes"),
        (Req::GET_CONFIG, [state(4090, 8), vec![0; 12]].concat(), "a value that cannot be"),
        (Req::GET_CONFIG, vec![0; 11], "too short"),
        (Req::SET_VRING_KICK, 0x200u64.to_ne_bytes().to_vec(), "a value that cannot be"),
        (Req::SET_VRING_KICK, 0x100u64.to_ne_bytes().to_vec(), "the kick of queue 0"),
        (Req::REM_MEM_REG, padded([0, 4096, 0, 0]), "there is no such region"),
        (Req::GET_INFLIGHT_FD, vec![0; 24], "GET_INFLIGHT_FD: a value that cannot be"),
    ] {
        let told = told(request, &body, &[]);
        assert!(told.contains(reason), "{told} says {reason}");
    }
}

#[test]
fn wrong_files_are_told() {
    let file = File::open("/proc/self/exe").unwrap();
    let (pipe, _end) = rustix::pipe::pipe().unwrap();
    let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let ram = shared(0, 4096);
    let memory = ram.file_offset().unwrap().file();
    let (file, pipe, event, memory) = (file.as_fd(), pipe.as_fd(), event.as_fd(), memory.as_fd());
    let queue = &0u64.to_ne_bytes()[..];
    let table = |count: u32, places: &[[u64; 4]]| {
        let places = places.iter().flat_map(|place| region(*place));
        state(count, 0).into_iter().chain(places).collect::<Vec<u8>>()
    };
    let page = [0x1000, 0x1000, 0x1000, 0];
    for (request, body, files, reason) in [
        (Req::GET_FEATURES, vec![], vec![event], "GET_FEATURES with 1 file"),
        (Req::SET_VRING_KICK, queue.to_vec(), vec![], "SET_VRING_KICK with 0 file"),
        (Req::SET_VRING_KICK, queue.to_vec(), vec![event; 2], "SET_VRING_KICK with 2 file"),
        (Req::SET_VRING_KICK, queue.to_vec(), vec![file], "the kick of queue 0 is not an eventfd"),
        (Req::SET_VRING_CALL, queue.to_vec(), vec![pipe], "the call of queue 0 is not an eventfd"),
        (Req::SET_VRING_ERR, queue.to_vec(), vec![pipe], "the error of queue 0 is not an eventfd"),
        (Req::SET_BACKEND_REQ_FD, vec![], vec![event], "not a socket"),
        (Req::SET_MEM_TABLE, table(1, &[page]), vec![], "SET_MEM_TABLE with 0 file"),
        (Req::SET_MEM_TABLE, table(1, &[page]), vec![memory; 2], "SET_MEM_TABLE with 2 file"),
        (Req::SET_MEM_TABLE, table(1, &[page]), vec![event], "memory of 0x1000 bytes at 0x1000"),
        (Req::SET_MEM_TABLE, table(2, &[page; 2]), vec![memory; 2], "intersect"),
        (
            Req::ADD_MEM_REG,
            padded([0, 1 << 60, 0, 0]),
            vec![memory],
            "memory of 0x1000000000000000",
        ),
        (Req::ADD_MEM_REG, padded([0, 8192, 0, 0]), vec![memory], "memory of 0x2000 bytes at 0x0"),
        (Req::ADD_MEM_REG, padded([0, 4096, 0, 1]), vec![memory], "memory of 0x1000 bytes at 0x0"),
        (Req::SET_INFLIGHT_FD, inflight([4096, 0], [1, 16]), vec![], "SET_INFLIGHT_FD with 0 file"),
        (Req::SET_INFLIGHT_FD, inflight([4096, 0], [1, 0x8000]), vec![memory], "too little for"),
        (Req::SET_INFLIGHT_FD, inflight([8192, 0], [1, 16]), vec![memory], "file is shorter"),
        (Req::SET_INFLIGHT_FD, inflight([4096, 0], [1, 16]), vec![event], "memory of 0x1000"),
        (Req::SET_INFLIGHT_FD, inflight([4096, u64::MAX], [1, 16]), vec![memory], "too little"),
        (Req::ADD_MEM_REG, padded([0, 0, 0, 0]), vec![memory], "a value that cannot be"),
        (Req::ADD_MEM_REG, padded([u64::MAX, 4096, 0, 0]), vec![memory], "a value that cannot be"),
        (Req::ADD_MEM_REG, padded(page), vec![memory; 33], "more file descriptors"),
    ] {
        let told = told(request, &body, &files);
        assert!(told.contains(reason), "{told} says {reason}");
    }
}

#[test]
fn what_was_not_negotiated_is_not_done() {
    for request in [Req::GET_CONFIG, Req::GET_QUEUE_NUM, Req::GET_STATUS, Req::GET_MAX_MEM_SLOTS] {
        let (daemon, socket) = Daemon::of(disk());
        let wire = Wire(socket);
        assert!(wire.request(request, &[], &[]));
        assert_eq!(wire.answer(), None);
        let reason = daemon.reason();
        assert!(reason.contains(&format!("{request:?} without")), "{reason}");
    }
}

#[test]
fn who_wants_to_know_is_told_of_a_failure_before_the_end() {
    let (daemon, socket) = Daemon::of(disk());
    let wire = Wire(socket);
    let protocol = wire.ask(Req::GET_PROTOCOL_FEATURES);
    wire.tell(Req::SET_PROTOCOL_FEATURES, protocol);
    let flags = VERSION | NEED_REPLY;
    assert!(wire.send(&message(Req::SET_FEATURES.into(), flags, &[0; 8]), &[]));
    assert_eq!(wire.answer().as_deref(), Some(&[0; 8][..]));
    assert!(wire.send(&message(Req::SET_FEATURES.into(), flags, &[0xff; 8]), &[]));
    assert_eq!(wire.answer(), Some(1u64.to_ne_bytes().into()));
    assert_eq!(wire.answer(), None);
    assert!(daemon.reason().contains("not offered"));
}

/// A whole conversation, message by message, and how much of it there is.
fn conversation(wire: &Wire, most: usize, cut: bool) -> usize {
    let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let ram = shared(0, 0x4000);
    let memory = ram.file_offset().unwrap().file();
    let features = (1u64 << 32 | 1 << 30).to_ne_bytes().to_vec();
    // REPLY_ACK, MQ, CONFIGURE_MEM_SLOTS, RESET_DEVICE.
    let protocol = (1u64 | 8 | 1 << 13 | 1 << 15).to_ne_bytes().to_vec();
    let addresses = [0u64, 0x1000, 0x3000, 0x2000, 0].into_iter().flat_map(u64::to_ne_bytes);
    let queue = 0u64.to_ne_bytes().to_vec();
    let (event, memory) = (event.as_fd(), memory.as_fd());
    let all: Vec<(Req, Vec<u8>, Option<BorrowedFd<'_>>)> = vec![
        (Req::SET_OWNER, vec![], None),
        (Req::SET_FEATURES, features, None),
        (Req::SET_PROTOCOL_FEATURES, protocol, None),
        (Req::ADD_MEM_REG, padded([0, 0x4000, 0, 0]), Some(memory)),
        (Req::SET_VRING_NUM, state(0, 16), None),
        (Req::SET_VRING_BASE, state(0, 0), None),
        (Req::SET_VRING_ADDR, addresses.collect(), None),
        (Req::SET_VRING_CALL, queue.clone(), Some(event)),
        (Req::SET_VRING_ERR, queue.clone(), Some(event)),
        (Req::SET_VRING_KICK, queue, Some(event)),
        (Req::SET_VRING_ENABLE, state(0, 1), None),
        (Req::SET_VRING_ENABLE, state(0, 0), None),
        (Req::GET_VRING_BASE, state(0, 0), None),
        (Req::RESET_DEVICE, vec![], None),
        (Req::REM_MEM_REG, padded([0, 0x4000, 0, 0]), None),
    ];
    let count = all.len();
    for (n, (request, body, file)) in all.into_iter().take(most + 1).enumerate() {
        let mut bytes = message(request.into(), VERSION, &body);
        if cut && n == most {
            bytes.truncate(bytes.len() - 1);
        }
        assert!(wire.send(&bytes, file.as_slice()));
    }
    count
}

#[test]
fn a_front_end_may_leave_at_every_message_and_in_the_middle_of_each() {
    let served = Served::new(Rng::new(HostEntropy));
    let count = conversation(&Wire(served.connect()), 0, false);
    assert!(count > 10);
    for most in 0..count {
        for cut in [false, true] {
            conversation(&Wire(served.connect()), most, cut);
        }
    }
    let wire = Wire(served.connect());
    assert_ne!(wire.ask(Req::GET_FEATURES), 0);
    served.end();
}

#[test]
fn a_second_front_end_is_served_when_the_first_has_left() {
    let served = Served::new(disk());
    let rings = Features::INDIRECT;
    let mut first = Guest::new(served.connect(), rings, &[16]);
    let waiting = served.connect();
    let mut early = Wire(waiting.try_clone().unwrap());
    early.0.write_all(&message(Req::GET_FEATURES.into(), VERSION, &[])).unwrap();
    first.start(0);
    finds(&mut first, 3, 3);
    // It is not listened to yet.
    early.0.set_nonblocking(true).unwrap();
    let nothing = early.0.read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    early.0.set_nonblocking(false).unwrap();
    drop(first);
    assert_eq!(early.answer().map(|answer| answer.len()), Some(8));
    drop(early);
    let mut second = Guest::new(waiting, rings, &[16]);
    second.start(0);
    finds(&mut second, 4, 4);
    // A hostile one in between.
    drop(second);
    let wire = Wire(served.connect());
    assert!(wire.send(&[0xff; 64], &[]));
    assert_eq!(wire.answer(), None);
    let mut third = Guest::new(served.connect(), rings, &[16]);
    third.start(0);
    finds(&mut third, 5, 5);
    served.end();
}

#[test]
fn answers_that_nobody_reads_keep_nobody_from_stopping_the_daemon() {
    let served = Served::new(disk());
    let wire = Wire(served.connect());
    wire.0.set_nonblocking(true).unwrap();
    let ask = message(Req::GET_FEATURES.into(), VERSION, &[]);
    let mut socket: &UnixStream = &wire.0;
    // Until both directions are full: the daemon waits for room.
    while socket.write_all(&ask).is_ok() {}
    served.end();
}
