//! Where a socket is: who may be there, and what is left there.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use cubie_testkit::within;
use cubie_virtio_net::{Socket, SocketError};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use crate::driver::DEADLINE;
use crate::socket::place;

#[test]
fn a_path_that_cannot_be_used_is_refused_and_what_is_there_stays() {
    let (folder, path) = place();
    let listen = |path: &Path| Socket::listen(path).err().unwrap();
    let connect = |path: &Path| Socket::connect(path).err().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "of somebody").unwrap();
    assert!(matches!(listen(&file), SocketError::NoSocket(_)));
    assert!(matches!(connect(&file), SocketError::NoSocket(_)));
    assert_eq!(fs::read(&file).unwrap(), b"of somebody");
    let nowhere = folder.path().join("no/such");
    assert!(listen(&nowhere).to_string().contains("no/such: No such file"));
    assert!(connect(&nowhere).to_string().contains("no/such: No such file"));
    let long = folder.path().join("x".repeat(108));
    assert!(matches!(listen(&long), SocketError::Path { .. }));
    assert!(matches!(connect(&long), SocketError::Path { .. }));

    let first = Socket::listen(&path).unwrap();
    assert!(listen(&path).to_string().starts_with("somebody else listens at "));
    assert!(path.exists());
    drop(first);
    // A program that was killed leaves its socket.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    Socket::listen(&path).unwrap();
}

#[test]
fn of_two_that_find_an_old_socket_one_listens() {
    within(DEADLINE, || {
        let (_folder, path) = place();
        for _ in 0..100 {
            drop(UnixListener::bind(&path).unwrap());
            let barrier = Barrier::new(2);
            let listens = || {
                barrier.wait();
                Socket::listen(&path)
            };
            let both = thread::scope(|scope| {
                [(); 2].map(|()| scope.spawn(listens)).map(|thread| thread.join().unwrap())
            });
            assert_eq!(both.iter().filter(|socket| socket.is_ok()).count(), 1);
            UnixStream::connect(&path).unwrap();
        }
    });
}

#[test]
fn a_socket_leaves_one_of_its_name_that_is_not_its_own() {
    let (_folder, path) = place();
    let first = Socket::listen(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = Socket::listen(&path).unwrap();
    drop(first);
    UnixStream::connect(&path).unwrap();
    drop(second);
    assert!(!path.exists());
}

#[test]
fn somebody_who_listens_and_does_not_accept_is_not_waited_for() {
    within(DEADLINE, || {
        let (_folder, path) = place();
        let flags = SockFlag::empty();
        let busy = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        bind(busy.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&busy, Backlog::new(0).unwrap()).unwrap();
        let _waits = UnixStream::connect(&path).unwrap();
        assert!(matches!(Socket::listen(&path), Err(SocketError::Busy(_))));
    });
}
