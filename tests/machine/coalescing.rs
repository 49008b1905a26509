//! Interrupts of a network card that wait for more to tell, as ethtool(8) asks for: `ethtool -C eth0 rx-usecs …`.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use crate::vm::{ARM64, ARMV7, DEADLINE, Vm, arg, host};

/// Datagrams that are sent to the guest, one after the other.
const FRAMES: u64 = 200;
/// Between two of them: time enough for an interrupt each.
const PACE: Duration = Duration::from_millis(2);

/// What the driver is told: receive, transmit; each in microseconds and frames.
type Numbers = [u32; 4];

const MODERATE: Numbers = [40_000, 10, 40_000, 10];
/// Only the time ends the waiting of a few frames.
const PATIENT: Numbers = [50_000, 100, 50_000, 100];
/// No interrupt waits. (Linux 6.1 takes a number of frames of 0 for something else when it transmits.)
const AT_ONCE: Numbers = [0, 0, 0, 1];

/// `more` is said of the card.
fn moderates_its_interrupts(arch: &str, tap: &str, more: &str) {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("programs");
    std::fs::write(&disk, [MODERATE, PATIENT, AT_ONCE].map(program).concat()).unwrap();
    let options = format!("-n mode=tap,tapif={tap}{more} --disk {},ro", arg(disk));
    let mut vm = Vm::boot(arch, &options);
    host(&format!("ip addr add 10.77.0.1/24 dev {tap} && ip link set {tap} up"));
    vm.run("ip addr add 10.77.0.2/24 dev eth0 && ip link set eth0 up");
    host("ping -q -c 1 10.77.0.2");
    let each = interrupts_of_frames(&mut vm);
    set(&mut vm, 0);
    let moderate = interrupts_of_frames(&mut vm);
    assert!(2 * moderate < each, "{moderate} interrupts instead of {each} for {FRAMES} frames");
    set(&mut vm, 1);
    host("ping -q -c 3 10.77.0.2");
    vm.run("ping -q -c 3 10.77.0.1");
    set(&mut vm, 2);
    let again = interrupts_of_frames(&mut vm);
    assert!(2 * moderate < again, "{moderate} interrupts, and {again} of frames that do not wait");
    println!("{arch}: {each}, moderate {moderate}, again {again} interrupts for {FRAMES} frames");
    vm.power_off();
}

/// Sends datagrams, which all arrive, and counts the card's interrupts.
fn interrupts_of_frames(vm: &mut Vm) -> u64 {
    let (interrupts, arrived) = (interrupts(vm), arrived(vm));
    let socket = UdpSocket::bind("10.77.0.1:0").unwrap();
    for _ in 0..FRAMES {
        socket.send_to(b"nobody listens", "10.77.0.2:9").unwrap();
        thread::sleep(PACE);
    }
    let end = Instant::now() + DEADLINE;
    while self::arrived(vm) < arrived + FRAMES {
        assert!(Instant::now() < end, "frames are missing");
    }
    self::interrupts(vm) - interrupts
}

/// Datagrams that nobody listened for.
fn arrived(vm: &mut Vm) -> u64 {
    vm.run("awk '/^Udp:/ { n = $3 } END { print n }' /proc/net/snmp").parse().unwrap()
}

/// Interrupts of the card so far, on both CPUs.
fn interrupts(vm: &mut Vm) -> u64 {
    let card = vm.run("basename $(readlink /sys/class/net/eth0/device)");
    let sum = format!("awk '$NF == \"{card}\" {{ print $2 + $3 }}' /proc/interrupts");
    vm.run(&sum).parse().unwrap()
}

/// Runs the `nth` program of the disk.
fn set(vm: &mut Vm, nth: usize) {
    let copy = format!("dd if=/dev/vda of=/tmp/set bs=512 skip={nth} count=1 2>/dev/null");
    vm.run(&format!("{copy} && chmod +x /tmp/set && /tmp/set"));
}

/// A program for 32-bit ARM, in one block: `ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCETHTOOL, request)`, which ends
/// with what that returns. The guests have no ethtool, and those of 32 bits cannot run ours.
fn program(numbers: Numbers) -> [u8; 512] {
    const BASE: u32 = 0x1_0000;
    const HEADERS: u32 = 52 + 32;
    const CODE: [u32; 12] = [
        0xe300_7119,              // movw r7, 281   socket
        0xe3a0_0002,              // mov  r0, 2     AF_INET
        0xe3a0_1002,              // mov  r1, 2     SOCK_DGRAM
        0xe3a0_2000,              // mov  r2, 0
        0xef00_0000,              // svc  0
        0xe308_1946,              // movw r1, 0x8946 SIOCETHTOOL
        0xe300_2000 | REQUEST,    // movw r2, the request
        0xe340_2000 | BASE >> 16, // movt r2, the base
        0xe3a0_7036,              // mov  r7, 54    ioctl
        0xef00_0000,              // svc  0
        0xe3a0_7001,              // mov  r7, 1     exit
        0xef00_0000,              // svc  0
    ];
    /// `struct ifreq`: a name, and where the other structure is.
    const REQUEST: u32 = HEADERS + 48;
    /// `struct ethtool_coalesce`.
    const COALESCE: u32 = REQUEST + 32;
    const SET_COALESCE: u32 = 0xf;
    let [rx_usecs, rx_frames, tx_usecs, tx_frames] = numbers;
    let mut words = vec![0x464c_457f, 0x0001_0101, 0, 0]; // ELF, 32 bits, little endian
    words.extend([0x28_0002, 1, BASE + HEADERS, 52, 0, 0x0500_0400]); // executable, ARM, its ABI 5
    words.extend([0x20_0034, 0x28_0001, 0]); // one program header
    words.extend([1, 0, BASE, BASE, 512, 512, 7, 0x1000]); // all of it is loaded
    words.extend(CODE);
    words.extend([u32::from_le_bytes(*b"eth0"), 0, 0, 0, BASE + COALESCE, 0, 0, 0]);
    words.extend([SET_COALESCE, rx_usecs, rx_frames, 0, 0, tx_usecs, tx_frames]);
    words.resize(128, 0);
    let mut block = [0; 512];
    for (bytes, word) in block.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    block
}

#[test]
fn an_armv7_guest_has_fewer_interrupts_when_it_asks_for_that() {
    moderates_its_interrupts(ARMV7, "cubie11q", "");
}

#[test]
fn an_arm64_guest_has_fewer_interrupts_when_it_asks_for_that_also_of_a_card_that_polls() {
    moderates_its_interrupts(ARM64, "cubie12q", ",poll=100");
}
