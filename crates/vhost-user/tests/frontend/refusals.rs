//! Sockets where there is no device.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::Instant;

use cubie_testkit::{Guest, RawDriver, within};
use cubie_vhost_user::{DaemonKind, FrontEnd};
use cubie_virtio_core::Features;
use virtio_drivers::transport::{DeviceStatus, Transport};

use crate::served::DEADLINE;

fn refusal(path: &Path, kind: DaemonKind) -> String {
    FrontEnd::connect(path, kind).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_with_a_socket_is_said_with_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let told = refusal(&path, DaemonKind::Rng);
    assert!(told.contains("does not exist: start the daemon first"), "{told}");
    drop(UnixListener::bind(&path).unwrap());
    let told = refusal(&path, DaemonKind::Rng);
    assert!(told.contains("nobody listens at"), "{told}");
}

/// A daemon that answers GET_FEATURES with `features`, and then leaves.
fn says(features: u64, kind: DaemonKind) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let daemon = thread::spawn(move || {
        let (mut front, _) = listener.accept().unwrap();
        // SET_OWNER and GET_FEATURES.
        front.read_exact(&mut [0; 24]).unwrap();
        let header = [1u32, 0x5, 8].map(u32::to_ne_bytes).concat();
        front.write_all(&[&header, &features.to_ne_bytes()[..]].concat()).unwrap();
    });
    let told = refusal(&path, kind);
    daemon.join().unwrap();
    told
}

#[test]
fn a_daemon_that_does_not_suit_is_told_of() {
    let told = says(0, DaemonKind::Rng);
    assert!(told.ends_with("offers no VIRTIO_F_VERSION_1: take a newer one"), "{told}");
    let told = says(1 << 32, DaemonKind::Block { queues: 1 });
    assert!(told.ends_with("is it of another type?"), "{told}");
    // It has left before it said which.
    let told = says(1 << 32 | 1 << 30, DaemonKind::Rng);
    assert!(told.ends_with("it has closed the connection"), "{told}");
}

/// It takes ten seconds: so long is a daemon waited for.
#[test]
fn a_daemon_that_does_not_answer_is_waited_for_once() {
    within(DEADLINE, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        // It negotiates, and says nothing from then on.
        thread::spawn(move || {
            let (mut front, _) = listener.accept().unwrap();
            front.read_exact(&mut [0; 24]).unwrap();
            let header = [1u32, 0x5, 8].map(u32::to_ne_bytes).concat();
            front.write_all(&[&header, &(1u64 << 32).to_ne_bytes()[..]].concat()).unwrap();
            while front.read(&mut [0; 4096]).is_ok_and(|len| len > 0) {}
        });
        let device = FrontEnd::connect(&path, DaemonKind::Console).unwrap();
        let slot = Guest::new().plug(Box::new(device));
        let mut driver = RawDriver::new(&slot, Features::default(), &[8, 8]);
        let begin = Instant::now();
        // Both of its rings are to be taken back.
        driver.transport().set_status(DeviceStatus::empty());
        let waited = begin.elapsed().as_secs();
        assert!((10..15).contains(&waited), "{waited} s");
    });
}
