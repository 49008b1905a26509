//! virtio-blk with the guest's own file system on it.

use std::io::Read;
use std::os::unix::fs::MetadataExt;

use crate::vm::{ARM64, ARMV7, Vm, arg, blank};

pub(crate) fn keeps_files_across_a_reboot(arch: &str, options: &str) {
    let folder = tempfile::tempdir().unwrap();
    let disk = blank(&folder, "disk.img", 64 << 20);
    let locked = blank(&folder, "locked.img", 1 << 20);
    let args = format!("{options} --network none -d {} -d {},ro", arg(&disk), arg(&locked));
    let mut vm = Vm::boot(arch, &args);
    vm.run("mke2fs -q /dev/vda && mount -t ext4 /dev/vda /mnt");
    vm.run("dd if=/dev/urandom of=/mnt/file bs=64k count=64 2>/dev/null");
    let sum = vm.run("md5sum </mnt/file");
    assert_eq!(vm.run("cat /sys/block/vdb/ro"), "1");
    vm.run("! dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>/dev/null");
    vm.run("umount /mnt");
    vm.send("reboot\n");
    vm.shell_is_up();
    assert_eq!(vm.run("mount -t ext4 /dev/vda /mnt && md5sum </mnt/file"), sum);
    vm.run("echo kept >/mnt/word && umount /mnt && cat /sys/block/vda/serial");
    vm.power_off();

    let mut image = vec![];
    std::fs::File::open(disk).unwrap().read_to_end(&mut image).unwrap();
    assert_eq!(image.len(), 64 << 20, "the image keeps its size");
    assert!(image.windows(5).any(|bytes| bytes == b"kept\n"), "the word is on the host's disk");
}

#[test]
fn an_armv7_guest_keeps_files_across_a_reboot() {
    keeps_files_across_a_reboot(ARMV7, "");
}

#[test]
fn an_arm64_guest_keeps_files_across_a_reboot() {
    keeps_files_across_a_reboot(ARM64, "");
}

/// A disk of which the guest's kernel makes all that it offers: queues, a cache that can be switched, and holes.
#[test]
fn an_arm64_guest_uses_several_queues_switches_the_cache_and_gives_back_what_it_trims() {
    const MIB: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let disk = blank(&folder, "sparse.img", 64 * MIB);
    // Bytes that the file takes, to the MiB.
    let taken = || std::fs::metadata(&disk).unwrap().blocks() * 512 / MIB;
    let options = format!("--network none -d {},serial=sparse,iops=100000:1000", arg(&disk));
    let mut vm = Vm::boot(ARM64, &options);
    assert_eq!(vm.run("cat /sys/block/vda/serial"), "sparse");
    assert_eq!(vm.run("ls /sys/block/vda/mq | wc -l"), "2", "a queue for each CPU");
    assert_eq!(
        vm.run("cd /sys/block/vda/queue; cat logical_block_size physical_block_size"),
        "512\n4096"
    );

    assert_eq!(vm.run("cat /sys/block/vda/queue/write_cache"), "write back");
    vm.run("echo 'write through' >/sys/block/vda/cache_type");
    assert_eq!(vm.run("cat /sys/block/vda/queue/write_cache"), "write through");
    vm.run("dd if=/dev/urandom of=/dev/vda bs=1M count=16 conv=fsync 2>/dev/null");
    vm.run("echo 'write back' >/sys/block/vda/cache_type");
    assert!((16..18).contains(&taken()), "{} MiB", taken());

    vm.run("blkdiscard -o 1048576 -l 15728640 /dev/vda");
    assert!(taken() <= 2, "{} MiB after a discard", taken());
    vm.run("mke2fs -q /dev/vda && mount -t ext4 /dev/vda /mnt");
    vm.run("dd if=/dev/urandom of=/mnt/file bs=1M count=32 2>/dev/null && sync");
    let full = taken();
    assert!(full >= 32, "{full} MiB");
    vm.run("rm /mnt/file && sync && fstrim /mnt && umount /mnt");
    assert!(taken() <= full - 30, "{} MiB after a trim, and before {full}", taken());
    assert_eq!(std::fs::metadata(&disk).unwrap().len(), 64 * MIB);
    vm.power_off();
}
