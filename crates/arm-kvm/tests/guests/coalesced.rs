//! Stores that come out late, in order.

use std::sync::Mutex;
use std::thread;

use cubie_arm_kvm::{GuestMode, KvmVcpu};
use cubie_hv::{Kick, Vcpu, Vm};

use crate::harness::{BOTH, DEVICE, Guest, Programs, SECOND, Seen, step_late, wrote};

const COUNTER: u64 = DEVICE + 0x80;
const OTHER: u64 = DEVICE + 0x84;

/// One exit of `vcpu`: the stores that it brings along, and then it.
fn step(vcpu: &mut KvmVcpu) -> (Vec<Seen>, Seen) {
    let mut late = vec![];
    let exit = step_late(vcpu, &mut |address, data| late.push(Seen::Write(address, data.to_vec())));
    (late, exit)
}

#[test]
fn delayed_stores_come_out_in_order_before_the_next_exit() {
    for programs in BOTH {
        let mut guest = Guest::new(programs.mode, 1, &[programs.io, programs.system_off]);
        guest.vm.coalesce_writes(DEVICE + 16, 9).unwrap();
        assert_eq!(step(&mut guest.vcpus[0]), (vec![], wrote(DEVICE, 0x4b4f)));
        assert_eq!(step(&mut guest.vcpus[0]), (vec![], Seen::Read(DEVICE + 8, 2)));
        let mut late = vec![Seen::Write(DEVICE + 24, vec![0x5a])];
        if programs.mode == GuestMode::Aarch64 {
            let stored = 0x5a5a_u64.to_le_bytes().to_vec();
            late.insert(0, Seen::Write(DEVICE + 16, stored));
        }
        assert_eq!(step(&mut guest.vcpus[0]), (late, Seen::Off));
    }
}

#[test]
fn a_load_from_what_is_delayed_comes_out_after_the_stores() {
    for programs in BOTH {
        let mut guest = Guest::new(programs.mode, 1, &[programs.echo]);
        guest.vm.coalesce_writes(DEVICE + 0x60, 8).unwrap();
        let (load, store) = (Seen::Read(DEVICE + 0x60, 4), wrote(DEVICE + 0x64, 0x5a5a_5a5a));
        assert_eq!(step(&mut guest.vcpus[0]).1, load);
        assert_eq!(step(&mut guest.vcpus[0]), (vec![store], load));
    }
}

#[test]
fn a_full_ring_comes_out_and_nothing_is_lost() {
    for programs in BOTH {
        let mut guest = Guest::new(programs.mode, 1, &[programs.count[0]]);
        guest.vm.coalesce_writes(COUNTER, 4).unwrap();
        let mut next = 0..;
        for _ in 0..10 {
            let (late, exit) = step(&mut guest.vcpus[0]);
            assert!(!late.is_empty(), "a store alone needs no exit");
            for store in late.into_iter().chain([exit]) {
                assert_eq!(store, wrote(COUNTER, next.next().unwrap()));
            }
        }
    }
}

/// Two vCPUs: the first one runs `first`, turns the other one on, and runs `then`; the other one runs
/// `second`.
fn pair(programs: &Programs, first: &[u32], then: &[u32], second: &[u32]) -> Guest {
    let (turn_on, _wait) = programs.cpu_on.split_at(programs.cpu_on.len() - 2);
    let guest = Guest::new(programs.mode, 2, &[first, turn_on, then]);
    guest.place(SECOND, &[second]);
    guest.vm.coalesce_writes(COUNTER, 8).unwrap();
    guest
}

#[test]
fn another_vcpus_exit_brings_delayed_stores_along() {
    for programs in BOTH {
        let (store, wait) = (&programs.count[0][..3], &programs.spin[2..]);
        let mut guest = pair(&programs, store, wait, programs.second);
        let [first, second] = guest.vcpus.as_mut_slice() else { panic!("two vCPUs") };
        let kick = first.kick();
        thread::scope(|scope| {
            let first = scope.spawn(|| step(first));
            assert_eq!(step(second), (vec![wrote(COUNTER, 0)], wrote(DEVICE, 0x77)));
            kick.kick();
            assert_eq!(first.join().unwrap(), (vec![], Seen::Kicked));
        });
    }
}

#[test]
fn no_exit_overtakes_a_store_that_another_vcpu_carries_out() {
    const ROUNDS: usize = 100;
    for programs in BOTH {
        let [count, other] = programs.count;
        let mut guest = pair(&programs, &[], count, other);
        let log = Mutex::new(vec![]);
        let note = |address, data: &[u8]| log.lock().unwrap().push((address, data.to_vec()));
        thread::scope(|scope| {
            for vcpu in &mut guest.vcpus {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        match step_late(vcpu, &mut { note }) {
                            Seen::Write(address, data) => note(address, &data),
                            seen => panic!("{seen:?}"),
                        }
                    }
                });
            }
        });
        let log = log.into_inner().unwrap();
        for address in [COUNTER, OTHER] {
            let stores = log.iter().filter(|(at, _)| *at == address).zip(0_u32..);
            let wrong = stores.clone().find(|((_, data), count)| *data != count.to_le_bytes());
            assert_eq!(wrong, None, "a store is lost or late");
            assert!(stores.count() > ROUNDS, "stores need fewer exits than one each");
        }
    }
}

#[test]
fn stores_are_coalesced_where_there_are_bytes() {
    let guest = Guest::new(GuestMode::Aarch64, 1, &[]);
    for len in [0, 1 << 32] {
        let error = guest.vm.coalesce_writes(DEVICE, len).unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
}
