//! virtio-blk with the guest's own file system on it.

use std::io::Read;

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
