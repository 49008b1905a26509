//! A disk of `qemu-storage-daemon`, by the driver of `virtio-drivers`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use cubie_testkit::{Guest, GuestHal, RegisterTransport, Slot, within};
use cubie_vhost_user::{DaemonKind, FrontEnd};
use cubie_virtio_core::VirtioDevice;
use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};

use crate::served::{DEADLINE, connect};

type Disk = VirtIOBlk<GuestHal, RegisterTransport>;

const SECTORS: usize = 2048;
/// Of one request.
const PIECE: usize = 8 * SECTOR_SIZE;

/// QEMU's storage daemon with a disk, in a folder of its own.
struct Qemu {
    folder: tempfile::TempDir,
    queues: u16,
    process: Child,
}

impl Qemu {
    fn new(queues: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("disk.img"), vec![0; SECTORS * SECTOR_SIZE]).unwrap();
        let process = Self::start(folder.path(), queues);
        Self { folder, queues, process }
    }

    fn start(folder: &Path, queues: u16) -> Child {
        let (image, socket) = (folder.join("disk.img"), folder.join("socket"));
        let file = format!("driver=file,node-name=disk,filename={}", image.display());
        let export = format!(
            "type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues={queues},\
             addr.type=unix,addr.path={}",
            socket.display()
        );
        let mut command = Command::new("qemu-storage-daemon");
        command.args(["--blockdev", &file, "--export", &export]);
        command.spawn().expect("qemu-storage-daemon, which is in Debian's qemu-system-common")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn connect(&self) -> FrontEnd {
        connect(&self.socket(), &DaemonKind::Block { queues: self.queues })
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = Self::start(self.folder.path(), self.queues);
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pattern(at: usize, round: u8) -> [u8; PIECE] {
    std::array::from_fn(|n| (n as u8).wrapping_mul(31) ^ (at / 8) as u8 ^ round)
}

fn places() -> impl Iterator<Item = usize> {
    (0..SECTORS).step_by(PIECE / SECTOR_SIZE)
}

fn writes(disk: &mut Disk, round: u8) {
    for at in places() {
        disk.write_blocks(at, &pattern(at, round)).unwrap();
    }
    disk.flush().unwrap();
}

fn finds(disk: &mut Disk, round: u8) {
    let mut bytes = [0; PIECE];
    for at in places() {
        disk.read_blocks(at, &mut bytes).unwrap();
        assert!(bytes == pattern(at, round), "sector {at}");
    }
}

fn driver(slot: &Slot) -> Disk {
    let disk = Disk::new(slot.transport()).unwrap();
    assert_eq!((disk.capacity(), disk.readonly()), (SECTORS as u64, false));
    disk
}

/// With registers in a page, where the daemon raises the interrupt, and with trapped ones.
fn slots(guest: &Guest, device: impl Fn() -> FrontEnd) -> impl Iterator<Item = Slot> {
    [guest.socket(), guest.socket().trapped()].into_iter().map(move |s| s.plug(Box::new(device())))
}

#[test]
fn drivers_find_on_a_disk_of_qemus_what_those_before_have_written() {
    within(DEADLINE, || {
        let (qemu, guest) = (Qemu::new(1), Guest::new());
        for (round, slot) in [0u8, 2].into_iter().zip(slots(&guest, || qemu.connect())) {
            writes(&mut driver(&slot), round);
            let mut disk = driver(&slot);
            finds(&mut disk, round);
            writes(&mut disk, round + 1);
            finds(&mut disk, round + 1);
            drop(disk);
            let image = fs::read(qemu.folder.path().join("disk.img")).unwrap();
            for (at, bytes) in places().zip(image.chunks(PIECE)) {
                assert!(bytes == pattern(at, round + 1), "sector {at} of the file");
            }
        }
    });
}

#[test]
fn a_daemon_interrupts_the_guest() {
    within(DEADLINE, || {
        let (qemu, guest) = (Qemu::new(1), Guest::new());
        for slot in slots(&guest, || qemu.connect()) {
            let mut disk = driver(&slot);
            // The start is one as well: a driver looks whether there is something for it.
            slot.wait_interrupt(DEADLINE);
            disk.ack_interrupt();
            disk.read_blocks(0, &mut [0; PIECE]).unwrap();
            slot.wait_interrupt(DEADLINE);
            assert!(!disk.ack_interrupt().is_empty());
        }
    });
}

#[test]
fn a_driver_goes_on_with_the_next_daemon_and_does_not_notice() {
    within(DEADLINE, || {
        let (mut qemu, guest) = (Qemu::new(1), Guest::new());
        let slot = guest.plug(Box::new(qemu.connect()));
        let mut disk = driver(&slot);
        for round in 0..3 {
            writes(&mut disk, round);
            qemu.kill();
            qemu.start_again();
            // The first request waits until somebody answers.
            finds(&mut disk, round);
        }
    });
}

#[test]
fn a_driver_begins_anew_while_there_is_no_daemon() {
    within(DEADLINE, || {
        let (mut qemu, guest) = (Qemu::new(1), Guest::new());
        let slot = guest.plug(Box::new(qemu.connect()));
        writes(&mut driver(&slot), 7);
        qemu.kill();
        drop(driver(&slot));
        let mut disk = driver(&slot);
        qemu.start_again();
        finds(&mut disk, 7);
    });
}

#[test]
fn a_disk_has_as_many_queues_as_wanted_and_as_there_are() {
    let qemu = Qemu::new(4);
    let device = qemu.connect();
    let mut queues = [0; 2];
    device.config().read(34, &mut queues);
    assert_eq!((device.queue_sizes().len(), queues), (4, [4, 0]));
    drop(device);
    let error = FrontEnd::connect(qemu.socket(), DaemonKind::Block { queues: 5 }).unwrap_err();
    assert!(error.to_string().ends_with("has 4 queues: give queues=4 at most"), "{error}");
}
