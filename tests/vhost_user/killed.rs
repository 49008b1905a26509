//! A daemon that is killed while a guest writes, and its successor.

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::pc::{Pc, is_here};

const DEADLINE: Duration = Duration::from_secs(120);
const BLOCK: usize = 64 << 10;
const BLOCKS: usize = 256;
/// Blocks after which the daemon is killed.
const KILLED_AT: [usize; 2] = [40, 150];

/// Many requests at once, by several writers, and none of them may see an error.
const CHECKS: &str = r#"
for n in 0 1 2 3; do
    (dd if=/written of=/dev/vda bs=64k seek=$((64 * n)) oflag=direct conv=notrunc 2>/dev/null || echo "error") &
done
wait
drop_caches
for n in 0 1 2 3; do
    dd if=/dev/vda bs=64k skip=$((64 * n)) count=64 2>/dev/null | cmp - /written && echo "part $n is there"
done
"#;

struct Daemon(Child);

impl Daemon {
    /// The example program, which listens when this returns.
    fn start(folder: &Path) -> Self {
        let socket = folder.join("blk");
        let child = Command::new(program())
            .arg("blk")
            .arg("--socket")
            .arg(&socket)
            .arg(folder.join("disk.img"))
            .spawn();
        let this = Self(child.unwrap());
        // A first front-end, which leaves at once.
        wait_until(|| UnixStream::connect(&socket).is_ok());
        this
    }

    /// By SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `cargo test` builds it beside this test, unless only this one is asked for.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().with_file_name("examples").join("vhost-user-device");
    assert!(program.exists(), "build it first: cargo build --example vhost-user-device");
    program
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "it does not happen");
        std::thread::yield_now();
    }
}

#[test]
fn a_daemon_that_is_killed_twice_loses_no_request() {
    if !is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("disk.img"), vec![0; BLOCK * BLOCKS]).unwrap();
    let written: Vec<u8> = (0..BLOCK * 64).map(|n| (n / BLOCK + n % 251) as u8 | 1).collect();
    let mut daemon = Daemon::start(folder);
    let devices = "-chardev socket,id=b,path=blk,reconnect=1 \
                   -device vhost-user-blk-pci,chardev=b,num-queues=1";
    let pc = Pc::start(folder, devices, CHECKS, &[("written", &written)]);
    let image = fs::File::open(folder.join("disk.img")).unwrap();
    let done = || {
        let is_there = |block: &usize| {
            let mut byte = [0];
            image.read_exact_at(&mut byte, (block * BLOCK) as u64).unwrap();
            byte != [0]
        };
        (0..BLOCKS).filter(is_there).count()
    };
    for most in KILLED_AT {
        wait_until(|| done() >= most);
        daemon.kill();
        assert!(done() < BLOCKS, "it was killed while the guest was writing");
        daemon = Daemon::start(folder);
    }
    let text = pc.output();
    assert!(!text.contains("error"), "{text}");
    for n in 0..4 {
        assert!(text.contains(&format!("part {n} is there")), "{text}");
    }
    drop(daemon);
    assert!(fs::read(folder.join("disk.img")).unwrap() == written.repeat(4));
}
