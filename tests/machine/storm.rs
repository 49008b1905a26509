//! Interrupts for used buffers and for configuration changes at once, on two CPUs: none is lost, and the
//! guest's kernel never wonders who sent one.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::termios::{Winsize, tcsetwinsize};

use crate::terminal::Seat;
use crate::vm::{ARM64, ARMV7, DEADLINE, Vm, arg, blank, host};

/// Reads of the disk in a round, an interrupt each.
const READS: u64 = 500;
/// Between two changes of the window's size.
const PACE: Duration = Duration::from_millis(2);
/// What is typed, so many times.
const PIECE: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCD";
const PIECES: usize = 25;

/// Rounds that are blown in one go: then all is looked at, and said.
const LAP: u64 = 50;

/// Rounds of reads: `CUBIE_STORM`, or one.
fn rounds() -> u64 {
    std::env::var("CUBIE_STORM").map_or(1, |rounds| rounds.parse().unwrap())
}

fn weathers_a_storm(arch: &str) {
    let folder = tempfile::tempdir().unwrap();
    let disk = arg(blank(&folder, "disk", 32 << 20));
    let options = format!("--arch {arch} --network none --disk {disk}");
    let mut seat = Seat::take_session(&options);
    seat.vm.shell_is_up();
    // The console's interrupts on another CPU than the disk's.
    seat.vm.run("for irq in /proc/irq/*/virtio0; do echo 2 >${irq%/*}/smp_affinity; done");
    let before = interrupts(&mut seat.vm);
    let (terminal, end) = (seat.terminal.try_clone().unwrap(), AtomicBool::new(false));
    let (mut left, mut changes) = (rounds(), 0);
    while left > 0 {
        let lap = left.min(LAP);
        left -= lap;
        end.store(false, Ordering::SeqCst);
        let (more, last) = thread::scope(|scope| {
            let resizer = scope.spawn(|| resize_until(&end, &terminal));
            blow(&mut seat.vm, lap);
            end.store(true, Ordering::SeqCst);
            resizer.join().unwrap()
        });
        changes += more;
        seat.vm.ask_until("stty size", &format!("{} {}", last.ws_row, last.ws_col));
        assert_eq!(seat.vm.run("dmesg | grep -ci 'nobody cared' || true"), "0");
        let interrupts = interrupts(&mut seat.vm) - before;
        println!("{arch}: {interrupts} interrupts, {changes} changes of the window's size");
        assert!(interrupts >= (rounds() - left) * READS, "{interrupts}");
    }
    seat.vm.power_off();
}

/// So many rounds of reads of the disk in the guest, while it is typed to.
fn blow(vm: &mut Vm, rounds: u64) {
    let reads = format!("dd if=/dev/vda of=/dev/null bs=4k count={READS} iflag=direct 2>/dev/null");
    let reads = format!("(for i in $(seq {rounds}); do {reads}; done) &");
    let typed = PIECES * PIECE.len();
    let typed = format!("echo \"type $((6*7))\"; head -c {typed} | md5sum");
    vm.send(&format!(
        "stty -icanon -echo; {reads} {typed}; wait; stty sane; echo \"end $((6*7))\"\n"
    ));
    vm.expect("type 42");
    for _ in 0..PIECES {
        vm.send(PIECE);
    }
    let sum = vm.expect_within(DEADLINE * rounds as u32, "end 42");
    let typed = format!("for i in $(seq {PIECES}); do printf {PIECE}; done | md5sum");
    assert!(sum.expect("an end of the storm").contains(host(&typed).trim()), "all has arrived");
}

/// Changes the window's size again and again; how often, and to what in the end.
fn resize_until(end: &AtomicBool, terminal: &OwnedFd) -> (u64, Winsize) {
    let mut changes = 0;
    loop {
        changes += 1;
        let (ws_row, ws_col) = ((changes % 100 + 1) as u16, (changes % 97 + 1) as u16);
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(terminal, size).unwrap();
        if end.load(Ordering::SeqCst) {
            return (changes, size);
        }
        // As often as the guest can follow.
        thread::sleep(PACE);
    }
}

/// Interrupts of virtio devices so far, on both CPUs.
fn interrupts(vm: &mut Vm) -> u64 {
    let sum = "awk '/virtio/ { sum += $2 + $3 } END { print sum }' /proc/interrupts";
    vm.run(sum).parse().unwrap()
}

#[test]
fn an_armv7_guest_loses_no_interrupt_in_a_storm() {
    weathers_a_storm(ARMV7);
}

#[test]
fn an_arm64_guest_loses_no_interrupt_in_a_storm() {
    weathers_a_storm(ARM64);
}
