//! Kicks are never lost.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use cubie_arm_kvm::GuestMode;
use cubie_hv::{Exit, Kick, Vcpu};

use crate::a64;
use crate::harness::{BOTH, DEADLINE, DEVICE, Guest, SECOND, Seen, step, watchdog, wrote};

#[test]
fn a_kick_ends_a_spinning_guest() {
    for programs in BOTH {
        let mut guest = Guest::new(programs.mode, 1, &[programs.spin]);
        assert!(matches!(guest.step(), Seen::Write(DEVICE, _)));
        let kick = guest.vcpus[0].kick();
        thread::scope(|scope| {
            scope.spawn(move || kick.kick());
            assert_eq!(guest.step(), Seen::Kicked);
        });
    }
}

#[test]
fn a_kick_ends_the_wait_of_a_vcpu_that_is_off() {
    let mut guest = Guest::new(GuestMode::Aarch64, 2, &[]);
    let second = &mut guest.vcpus[1];
    let kick = second.kick();
    thread::scope(|scope| {
        let second = scope.spawn(|| step(second));
        kick.kick();
        assert_eq!(second.join().unwrap(), Seen::Kicked);
    });
}

#[test]
fn a_kick_before_the_run_ends_it_and_is_then_used_up() {
    let programs = &a64::PROGRAMS;
    let mut guest = Guest::new(programs.mode, 1, &[programs.spin]);
    guest.vcpus[0].kick().kick();
    assert_eq!(guest.step(), Seen::Kicked);
    assert!(matches!(guest.step(), Seen::Write(DEVICE, _)));
}

#[test]
fn a_kick_does_not_take_a_load_away() {
    let programs = &a64::PROGRAMS;
    let mut guest = Guest::new(programs.mode, 1, &[programs.io, programs.system_off]);
    assert_eq!(guest.step(), wrote(DEVICE, 0x4b4f));
    assert_eq!(guest.step(), Seen::Read(DEVICE + 8, 2));
    guest.vcpus[0].kick().kick();
    assert_eq!(guest.step(), Seen::Kicked);
    let stored = 0x5a5a_u64.to_le_bytes().to_vec();
    assert_eq!(guest.step(), Seen::Write(DEVICE + 16, stored));
}

#[test]
fn each_of_many_kicks_gets_the_guest_out() {
    const ROUNDS: usize = 2_000;
    let programs = &a64::PROGRAMS;
    let mut guest = Guest::new(programs.mode, 1, &[programs.spin]);
    assert!(matches!(guest.step(), Seen::Write(DEVICE, _)));
    let vcpu = &mut guest.vcpus[0];
    let (kick, _watchdog) = (vcpu.kick(), watchdog(vcpu.kick()));
    let (out, outs) = channel();
    let begin = Instant::now();
    thread::scope(|scope| {
        // Each kick waits for the effect of the one before: a lost one stops everything.
        scope.spawn(move || {
            for _ in 0..ROUNDS {
                kick.kick();
                outs.recv().unwrap();
            }
        });
        for _ in 0..ROUNDS {
            assert_eq!(vcpu.run(&mut |_, _| ()).unwrap(), Exit::Kicked);
            out.send(()).unwrap();
        }
    });
    assert!(begin.elapsed() < DEADLINE, "a kick was lost");
}

#[test]
fn a_kick_may_outlive_its_vcpu() {
    let mut guest = Guest::new(GuestMode::Aarch64, 1, &[a64::PROGRAMS.system_off]);
    let kick = guest.vcpus[0].kick();
    assert_eq!(guest.step(), Seen::Off);
    drop(guest);
    kick.kick();
}

#[test]
fn a_vcpu_may_move_to_another_thread() {
    let programs = &a64::PROGRAMS;
    let mut guest = Guest::new(programs.mode, 2, &[programs.cpu_on]);
    guest.place(SECOND, &[programs.spin]);
    let kick = guest.vcpus[0].kick();
    kick.kick();
    assert_eq!(guest.step(), Seen::Kicked);
    thread::scope(|scope| {
        let moved = scope.spawn(|| guest.step());
        kick.kick();
        assert_eq!(moved.join().unwrap(), Seen::Kicked);
    });
}
