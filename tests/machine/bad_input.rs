//! What a person may get wrong: one clear line, a non-zero status, nothing left behind.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use crate::vm::{DEADLINE, arg, blank, example, host, wait};

/// The one line that the example says before it gives up.
fn complaint(args: &str) -> String {
    let before = host("ls /sys/class/net");
    let output = example(args).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{args} was accepted");
    assert!(output.status.code().is_some(), "{args} ended by a signal");
    assert!(output.stdout.is_empty(), "{args} wrote to its output");
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(host("ls /sys/class/net"), before, "{args} left an interface behind");
    text
}

/// Expects one line that holds all of `words`.
#[track_caller]
fn refused(args: &str, words: &[&str]) {
    let text = complaint(args);
    assert_eq!(text.trim_end().lines().count(), 1, "{args}: {text}");
    for word in words {
        assert!(text.contains(word), "{args}: no «{word}» in: {text}");
    }
}

/// Expects clap's refusal, which names the option.
#[track_caller]
fn misunderstood(args: &str, words: &[&str]) {
    let text = complaint(args);
    assert!(text.starts_with("error: "), "{text}");
    for word in words {
        assert!(text.contains(word), "{args}: no «{word}» in: {text}");
    }
}

#[test]
fn rings_that_legacy_devices_do_not_have() {
    refused("--virtio legacy --ring packed", &["--virtio legacy", "leave --ring packed out"]);
}

#[test]
fn folders_that_cannot_be_written_to() {
    for folder in ["/no/such/folder", "/proc/version"] {
        refused(&format!("--netpath={folder}"), &[&format!("--netpath={folder}"), "give a folder"]);
    }
}

#[test]
fn taps_that_lead_nowhere() {
    let network = |options: &str| format!("--dump-dtb /dev/null -n mode=tap,{options}");
    refused(&network("bridge=no-bridge"), &["--network mode=tap", "ip link add no-bridge type"]);
    refused(&network("bridge=lo"), &["--network mode=tap", "lo is", "not a bridge"]);
    refused(&network("nat=10.0.2.0/24"), &["--network mode=tap", "10.0.2.0/24 overlaps"]);
    refused(&network("nat=10.1.2.3/24"), &["--network mode=tap", "like 10.1.2.0/24"]);
    refused(&network("routed=10.0.2.15"), &["--network mode=tap", "10.0.2.15", "eth0"]);
    refused(&network("routed=127.0.0.1"), &["--network mode=tap", "127.0.0.1"]);
    refused(&network("macvtap=no-card"), &["--network mode=tap,macvtap", "interface no-card"]);
    refused(&network("macvtap=lo"), &["--network mode=tap,macvtap", "macvtap"]);
    misunderstood(&network("macvtap=eth0,nat"), &["--network", "leave out"]);
    misunderstood(&network("nat,bridge=br0"), &["--network", "exclude each other"]);
}

#[test]
fn kernels_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        arg(path)
    };
    refused("-k /no/such/kernel", &["--kernel", "/no/such/kernel", "No such file"]);
    refused(&format!("-k {}", arg(folder.path())), &["--kernel", "directory"]);
    refused(&format!("-k {}", file("empty", b"")), &["--kernel", "empty"]);
    refused(&format!("-k {}", file("text", b"not a kernel at all")), &["--kernel", "not a"]);
    let mut x86 = vec![0; 0x1000];
    x86[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    x86[0x202..0x206].copy_from_slice(b"HdrS");
    refused(&format!("-k {}", file("bzImage", &x86)), &["--kernel", "x86"]);
}

#[test]
fn kernels_of_the_other_architecture_and_half_ones() {
    let cache = cubie_armlab::images::Cache::open().unwrap();
    let guest = |arch| cache.guest(arch).unwrap().kernel;
    let arm64 = guest(cubie_armlab::images::GuestArch::Arm64);
    let armv7 = guest(cubie_armlab::images::GuestArch::Armv7);
    refused(&format!("-k {}", arg(&arm64)), &["--kernel", "--arch arm64"]);
    refused(&format!("--arch arm64 -k {}", arg(&armv7)), &["--kernel", "--arch armv7"]);
    let folder = tempfile::tempdir().unwrap();
    for (kernel, arch) in [(arm64, "arm64"), (armv7, "armv7")] {
        let half = folder.path().join(arch);
        let bytes = std::fs::read(kernel).unwrap();
        std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
        refused(&format!("--arch {arch} -k {}", arg(half)), &["--kernel", "cut short"]);
    }
}

#[test]
fn initrds_that_do_not_fit_or_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let large = arg(blank(&folder, "large", 600 << 20));
    refused(&format!("--arch arm64 -i {large}"), &["--initrd", "--mem"]);
    refused("-i /dev/null", &["--initrd", "/dev/null", "empty"]);
    refused("-i /no/such/initrd", &["--initrd", "/no/such/initrd", "No such file"]);
}

#[test]
fn disks_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    refused("-d /no/such/disk", &["--disk", "/no/such/disk"]);
    refused(&format!("-d {}", arg(folder.path())), &["--disk", "directory"]);
    misunderstood("-d a,b", &["--disk", "«b»", "ro"]);
    misunderstood("-d ,ro", &["--disk", "PATH"]);
    let empty = arg(blank(&folder, "empty", 0));
    refused(&format!("-d {empty}"), &["--disk", "empty"]);
    let twice = arg(blank(&folder, "twice", 1 << 20));
    refused(&format!("-d {twice} -d {twice}"), &["--disk", "twice", "in use", "«,ro»"]);
    refused(&format!("-d {twice},ro -d {twice}"), &["--disk", "twice", "in use"]);
}

#[test]
fn memory_that_is_too_little_or_too_much() {
    refused("-m 31", &["--mem", "32"]);
    refused("-m 4G", &["--mem", "3072"]);
    refused("--arch arm64 -m 2000000G", &["--mem"]);
    misunderstood("-m lots", &["--mem"]);
    misunderstood("-m 5T", &["--mem", "«T»"]);
}

#[test]
fn cpus_beyond_the_gics_eight() {
    misunderstood("-c 9", &["--cpus", "8"]);
    misunderstood("-c 0", &["--cpus", "1"]);
}

#[test]
fn networks_that_cannot_be() {
    misunderstood("-n mode=pigeon", &["--network", "«pigeon»"]);
    misunderstood("-n mode=tap,guest_mac=nonsense", &["--network", "guest_mac"]);
    misunderstood("-n mode=none,tapif=tap0", &["--network", "leave out all else"]);
    misunderstood("-n mode=tap,colour=red", &["--network", "«colour=red»"]);
    refused("-n mode=tap,tapif=a-name-that-is-far-too-long", &["tapif"]);
    misunderstood("-n mode=user,snaplen=96", &["--network", "pcap=FILE"]);
    misunderstood("-n mode=tap,vhost=1,pcap=a", &["--network", "vhost=1", "leave out"]);
    refused("-n mode=user,pcap=/", &["--network pcap=FILE", "directory"]);
    refused("-n mode=user,pcap=/dev/full", &["--network pcap=FILE", "No space"]);
    misunderstood("-n mode=socket,listen", &["--network", "socket=PATH"]);
    refused("-n mode=socket,socket=/dev/null", &["--network mode=socket", "is no socket"]);
    refused("-n mode=socket,socket=/no/such", &["--network mode=socket", "No such file"]);
    let mut holder = hold_tap("cubiebusy");
    refused("-n mode=tap,tapif=cubiebusy", &["cubiebusy", "in use"]);
    let _ = holder.kill();
    wait(&mut holder);
}

/// Another VM that has the tap.
fn hold_tap(name: &str) -> std::process::Child {
    let mut command = example(&format!("--arch arm64 -n mode=tap,tapif={name}"));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let interface = Path::new("/sys/class/net").join(name);
    let deadline = Instant::now() + DEADLINE;
    while !interface.exists() {
        assert!(Instant::now() < deadline, "the first VM does not make the tap");
        std::thread::yield_now();
    }
    child
}

#[test]
fn a_host_without_kvm() {
    let args = "--network none";
    refused_in("-m", "mount --bind /dev/null /dev/kvm", args, &["/dev/kvm"]);
    refused_in("-m", "mount -t tmpfs none /dev", args, &["/dev/kvm"]);
}

#[test]
fn a_kvm_that_is_not_permitted() {
    // Nobody may open it: its owner is unknown in the namespace, whose root has no right over it.
    let folder = tempfile::tempdir_in("/run").unwrap();
    let locked = arg(folder.path().join("kvm"));
    host(&format!("touch {locked} && chmod 000 {locked} && chown 1:1 {locked}"));
    let change = format!("mount --bind {locked} /dev/kvm");
    refused_in("-rmU", &change, "--network none", &["/dev/kvm may not be opened"]);
}

#[test]
fn a_tap_that_is_not_permitted() {
    refused_in("-rU", "true", "-n mode=tap", &["--network", "not permitted", "ip tuntap add"]);
}

#[test]
fn a_disk_that_is_not_writable() {
    let change = "mount -t tmpfs none /run && truncate -s 1M /run/disk && mount -o remount,ro /run";
    refused_in("-m", change, "-n none -d /run/disk", &["--disk", "Read-only", "«,ro»"]);
}

/// Expects a refusal in a namespace of its own (an option of unshare) where `change` was made first.
#[track_caller]
fn refused_in(namespace: &str, change: &str, args: &str, words: &[&str]) {
    let program = arg(example("").get_program());
    let script = format!("{change} && exec {program} --arch arm64 {args}");
    let mut command = std::process::Command::new("unshare");
    let output = command.args([namespace, "sh", "-c", &script]).stdin(Stdio::null()).output();
    let output = output.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.status.code().is_some(), "{change}: accepted");
    assert_eq!(text.trim_end().lines().count(), 1, "{change}: {text}");
    for word in words {
        assert!(text.contains(word), "{change}: no «{word}» in: {text}");
    }
}

#[test]
fn a_device_tree_is_written_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let dtb = folder.path().join("board.dtb");
    let status = example(&format!("--network none --dump-dtb {}", arg(&dtb))).status().unwrap();
    assert!(status.success());
    let bytes = std::fs::read(&dtb).unwrap();
    assert_eq!(bytes[..4], [0xd0, 0x0d, 0xfe, 0xed]);
    refused("--network none --dump-dtb /no/such/folder/x.dtb", &["--dump-dtb", "/no/such/folder"]);
    refused("--network none --dump-dtb /dev/full", &["--dump-dtb /dev/full", "No space"]);
}

#[test]
fn a_device_tree_that_cannot_be_written_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let dtb = folder.path().join("board.dtb");
    let small = arg(folder.path());
    // Room for one page, which is taken.
    host(&format!("mount -t tmpfs -o size=4k none {small} && echo before >{small}/board.dtb"));
    refused(&format!("--network none --dump-dtb {}", arg(&dtb)), &["--dump-dtb", "No space"]);
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!((std::fs::read(&dtb).unwrap(), files), (b"before\n".to_vec(), 1));
    host(&format!("umount {small}"));
}
