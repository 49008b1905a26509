//! A folder of virtiofsd's, by requests as FUSE has them (Linux, include/uapi/linux/fuse.h).

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cubie_testkit::{Descriptor, Guest, RawDriver, within};
use cubie_vhost_user::{DaemonKind, FrontEnd};
use cubie_virtio_core::{Features, VirtioDevice};
use vm_memory::{Bytes, GuestAddress};

use crate::served::{DEADLINE, connect};

/// Where distributions put it.
const PROGRAMS: [&str; 3] =
    ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"];

const LOOKUP: u32 = 1;
const OPEN: u32 = 14;
const READ: u32 = 15;
const INIT: u32 = 26;
/// The queue for requests behind the one for what does not wait.
const REQUESTS: usize = 1;
const ROOT: u64 = 1;

struct Virtiofsd {
    folder: tempfile::TempDir,
    process: Child,
}

impl Virtiofsd {
    /// `None` where it is not installed, or not root's to run.
    fn new() -> Option<Self> {
        let program = PROGRAMS.into_iter().find(|program| Path::new(program).exists());
        let Some(program) = program.filter(|_| rustix::process::geteuid().is_root()) else {
            eprintln!("skipped: virtiofsd is not installed, or this is not root");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("shared")).unwrap();
        fs::write(folder.path().join("shared/greeting"), "hello, guest").unwrap();
        let source = format!("source={}", folder.path().join("shared").display());
        let mut command = Command::new(program);
        command.arg(format!("--socket-path={}", folder.path().join("socket").display()));
        // It says all that it does.
        command.args(["-o", &source, "-o", "sandbox=chroot"]).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        Some(Self { folder, process })
    }

    fn connect(&self) -> FrontEnd {
        let kind = DaemonKind::Fs { tag: "home".into(), queues: 1 };
        connect(&self.folder.path().join("socket"), &kind)
    }
}

impl Drop for Virtiofsd {
    fn drop(&mut self) {
        // It ends by itself when its VMM has left.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}

/// Asks for something, and returns what is behind the answer's header.
fn ask(guest: &Guest, driver: &mut RawDriver, what: u32, node: u64, body: &[u8]) -> Vec<u8> {
    const REPLY: usize = 256;
    let mut header = vec![];
    [40 + body.len() as u32, what].iter().for_each(|n| header.extend(n.to_ne_bytes()));
    [7, node].iter().for_each(|n| header.extend(n.to_ne_bytes()));
    header.resize(40, 0);
    let places = [40, body.len(), 16, REPLY].map(|len| guest.buffer(len).0);
    let memory = guest.memory();
    memory.write_slice(&header, GuestAddress(places[0])).unwrap();
    memory.write_slice(body, GuestAddress(places[1])).unwrap();
    let chain = [
        Descriptor::readable(places[0], 40),
        Descriptor::readable(places[1], body.len() as u32),
        Descriptor::writable(places[2], 16),
        Descriptor::writable(places[3], REPLY as u32),
    ];
    driver.offer(REQUESTS, &chain);
    let written = driver.wait_used(REQUESTS, DEADLINE).written as usize;
    let [len, error]: [u32; 2] = memory.read_obj(GuestAddress(places[2])).unwrap();
    assert_eq!((len as usize, error), (written, 0), "request {what}");
    let mut reply = vec![0; written - 16];
    memory.read_slice(&mut reply, GuestAddress(places[3])).unwrap();
    reply
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn number(reply: &[u8]) -> [u32; 2] {
    [0, 4].map(|at| u32::from_ne_bytes(reply[at..at + 4].try_into().unwrap()))
}

#[test]
fn a_file_in_a_folder_of_virtiofsds_is_read() {
    within(DEADLINE, || {
        let Some(daemon) = Virtiofsd::new() else { return };
        let guest = Guest::new();
        let device = daemon.connect();
        let mut tag = [0; 40];
        device.config().read(0, &mut tag);
        assert_eq!((&tag[..5], tag[36]), (&b"home\0"[..], 1));
        let slot = guest.plug(Box::new(device));
        let mut driver = RawDriver::new(&slot, Features::default(), &[16, 16]);
        let mut ask = |what, node, body: &[u8]| ask(&guest, &mut driver, what, node, body);
        let version = ask(INIT, 0, &bytes(&[7, 31, 0x1000, 0]));
        assert_eq!(number(&version)[0], 7);
        let node = number(&ask(LOOKUP, ROOT, b"greeting\0"));
        let node = u64::from(node[1]) << 32 | u64::from(node[0]);
        let [low, high] = number(&ask(OPEN, node, &bytes(&[0, 0])));
        let read = bytes(&[low, high, 0, 0, 100, 0, 0, 0, 0, 0]);
        assert_eq!(ask(READ, node, &read), b"hello, guest");
    });
}
