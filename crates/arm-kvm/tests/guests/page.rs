//! A page that the guest reads without an exit.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use cubie_arm_kvm::GuestMode;
use cubie_hv::Vm;
use vmm_sys_util::eventfd::EventFd;

use crate::harness::{BOTH, DEADLINE, DEVICE, Guest, RAM, Seen, wrote};

const IN: u64 = DEVICE + 0x60;
const OUT: u64 = DEVICE + 0x64;

#[test]
fn loads_see_what_was_stored_and_do_not_exit_and_stores_do() {
    for programs in BOTH {
        let mut guest = Guest::new(programs.mode, 1, &[programs.echo]);
        let page = guest.vm.map_readonly_page(DEVICE).unwrap();
        assert_eq!(guest.step(), wrote(OUT, 0), "a fresh page");
        for value in [1, 0x7472_6976, u32::MAX] {
            page.store(0x60, &[value, 9]);
            assert_eq!(guest.step(), wrote(OUT, value));
        }
    }
}

/// Waits until `eventfd` is raised.
fn wait(eventfd: &EventFd) {
    let (raised, answer) = channel();
    let eventfd = eventfd.try_clone().unwrap();
    thread::spawn(move || raised.send(eventfd.read()));
    answer.recv_timeout(DEADLINE).expect("in time").unwrap();
}

#[test]
fn an_offloaded_store_to_a_page_does_not_exit_and_a_spinning_guest_sees_the_page_change() {
    for programs in BOTH {
        let mut guest = Guest::new(programs.mode, 1, &[programs.echo]);
        let page = guest.vm.map_readonly_page(DEVICE).unwrap();
        let ones = EventFd::new(0).unwrap();
        guest.vm.offload_write(OUT, Some(1), &ones).unwrap();
        page.store(0x60, &[1]);
        thread::scope(|scope| {
            let stepped = scope.spawn(|| guest.step());
            // The second comes of a guest that goes round without an exit.
            wait(&ones);
            wait(&ones);
            page.store(0x60, &[2]);
            assert_eq!(stepped.join().unwrap(), wrote(OUT, 2));
        });
    }
}

#[test]
fn loads_exit_while_the_page_is_hidden() {
    let trapped = u32::from_le_bytes([0x5a; 4]);
    for programs in BOTH {
        let mut guest = Guest::new(programs.mode, 1, &[programs.echo]);
        let page = guest.vm.map_readonly_page(DEVICE).unwrap();
        for round in 1..=3 {
            page.hide().unwrap();
            page.hide().unwrap();
            page.store(0x60, &[round]);
            assert_eq!(guest.step(), Seen::Read(IN, 4));
            assert_eq!(guest.step(), wrote(OUT, trapped));
            page.show().unwrap();
            page.show().unwrap();
            assert_eq!(guest.step(), wrote(OUT, round));
        }
    }
}

#[test]
fn a_dropped_page_is_gone_and_another_one_can_come() {
    let programs = &BOTH[0];
    let mut guest = Guest::new(programs.mode, 1, &[programs.echo]);
    let page = guest.vm.map_readonly_page(DEVICE).unwrap();
    let same = Arc::clone(&page);
    page.store(0x60, &[1]);
    drop(page);
    assert_eq!(guest.step(), wrote(OUT, 1), "one handle is left");
    drop(same);
    assert_eq!(guest.step(), Seen::Read(IN, 4));
    assert!(matches!(guest.step(), Seen::Write(OUT, _)));
    let _page = guest.vm.map_readonly_page(DEVICE).unwrap();
    assert_eq!(guest.step(), wrote(OUT, 0), "the new one is fresh");
}

#[test]
fn a_page_is_refused_where_none_can_be() {
    let guest = Guest::new(GuestMode::Aarch64, 1, &[]);
    let page = guest.vm.map_readonly_page(DEVICE).unwrap();
    let error = guest.vm.map_readonly_page(DEVICE + 0x800).err().unwrap().to_string();
    assert!(error.contains("at 0xa000800: this host's pages are"), "{error}");
    for taken in [DEVICE, RAM] {
        let error = guest.vm.map_readonly_page(taken).err().unwrap();
        assert_eq!(error.source.raw_os_error(), Some(libc::EEXIST), "{error}");
    }
    let beyond = 1 << guest.vm.ipa_bits();
    assert!(guest.vm.map_readonly_page(beyond).is_err());
    let size = page.size() as u64;
    assert!(guest.vm.map_readonly_page(DEVICE + size).is_ok(), "the next page is free");
}

#[test]
fn a_page_may_outlive_its_machine() {
    let programs = &BOTH[0];
    let mut guest = Guest::new(programs.mode, 1, &[programs.echo]);
    let page = guest.vm.map_readonly_page(DEVICE).unwrap();
    assert_eq!(guest.step(), wrote(OUT, 0));
    drop(guest);
    page.store(0, &[1]);
    page.hide().unwrap();
    page.show().unwrap();
}
