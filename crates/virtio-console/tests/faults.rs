//! Consoles whose host fails, in each way that it may.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use cubie_testkit::{Descriptor, Errno, Fault, Faults, Faulty, Guest, RawDriver, Used, within};
use cubie_virtio_console::{Console, ConsoleBackend, Memory, Person, Stream, WindowSize};
use cubie_virtio_core::Features;
use rustix::io::ioctl_fionbio;
use rustix::pipe::fcntl_setpipe_size;
use vm_memory::{Bytes, GuestAddress};

const DEADLINE: Duration = Duration::from_secs(20);
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Bytes of a chain, in two buffers.
const LEN: usize = 1000;
/// Chains that are there at once.
const CHAINS: usize = 32;
const ALL_BYTES: usize = CHAINS * LEN;

/// What costs no output.
const HARMLESS: [Fault; 4] =
    [Fault::Error(Errno::AGAIN), Fault::Error(Errno::INTR), Fault::Short, Fault::Late(2)];
/// What makes the console throw a chain away.
const FATAL: [Fault; 2] = [Fault::Error(Errno::IO), Fault::Error(Errno::NOSPC)];

/// Bytes of which no two pieces are alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

struct Bench {
    guest: Guest,
    driver: RawDriver,
    faults: Faults,
    /// Of each queue.
    buffers: [u64; 2],
    /// Chains of each queue so far, and those with input that came back.
    offered: [usize; 2],
    received: usize,
    kicks: u64,
}

impl Bench {
    fn new(backend: impl ConsoleBackend, faults: Faults) -> Self {
        let guest = Guest::new();
        let console = Console::new(Faulty::new(backend, &faults), WindowSize::default());
        let slot = guest.plug(Box::new(console));
        let driver = RawDriver::new(&slot, Features::default(), &[64, 64]);
        let buffers = [(); 2].map(|()| guest.buffer(ALL_BYTES).0);
        Self { guest, driver, faults, buffers, offered: [0; 2], received: 0, kicks: 0 }
    }

    /// Offers a chain, which lies where that of so many chains ago has lain.
    fn add(&mut self, queue: usize) {
        let at = self.place(queue, self.offered[queue]);
        let buffer = |address, len| match queue {
            TRANSMIT => Descriptor::readable(address, len),
            _ => Descriptor::writable(address, len),
        };
        self.driver.add(queue, &[buffer(at, 300), buffer(at + 300, LEN as u32 - 300)]);
        self.offered[queue] += 1;
    }

    fn place(&self, queue: usize, chain: usize) -> u64 {
        self.buffers[queue] + (chain % CHAINS * LEN) as u64
    }

    fn kick(&mut self, queue: usize) {
        self.kicks += 1;
        self.driver.kick(queue);
    }

    /// Prints the pattern, and waits until the host has taken, or refused, all of it.
    fn print(&mut self) {
        self.start_printing();
        self.wait_printed();
    }

    fn start_printing(&mut self) {
        let at = GuestAddress(self.buffers[TRANSMIT]);
        self.guest.memory().write_slice(&pattern(ALL_BYTES), at).unwrap();
        (0..CHAINS).for_each(|_| self.add(TRANSMIT));
        self.kick(TRANSMIT);
    }

    fn wait_printed(&mut self) {
        (0..CHAINS).for_each(|_| assert_eq!(self.driver.wait_used(TRANSMIT, DEADLINE).written, 0));
        assert_eq!(self.driver.used(TRANSMIT), None);
    }

    /// Offers room until so many bytes have come. Some of it is left.
    fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![];
        while bytes.len() < len {
            while self.offered[RECEIVE] < self.received + CHAINS {
                self.add(RECEIVE);
            }
            self.kick(RECEIVE);
            let Used { written, .. } = self.driver.wait_used(RECEIVE, DEADLINE);
            let (old, at) = (bytes.len(), self.place(RECEIVE, self.received));
            bytes.resize(old + written as usize, 0);
            self.guest.memory().read_slice(&mut bytes[old..], GuestAddress(at)).unwrap();
            self.received += 1;
        }
        bytes
    }
}

fn memory(faults: Faults) -> (Bench, Person) {
    let (memory, person) = Memory::new().unwrap();
    (Bench::new(memory, faults), person)
}

#[test]
fn storms_of_what_is_harmless_lose_no_output_and_print_none_twice() {
    for seed in 0..8 {
        within(DEADLINE, move || {
            let (mut bench, person) = memory(Faults::seeded(seed, 2, &HARMLESS));
            for _ in 0..4 {
                bench.print();
                assert!(person.read() == pattern(ALL_BYTES), "{:?}", bench.faults);
            }
            check_calls(&bench, 4 * CHAINS);
        });
    }
}

/// Each chain is written once, each fault costs another call, and each kick finds the host busy at most
/// once, as the start does.
#[track_caller]
fn check_calls(bench: &Bench, chains: usize) {
    let injected = bench.faults.injected().len() as u64;
    let most = chains as u64 + 2 * injected + bench.kicks + 4;
    assert!(bench.faults.calls() <= most, "{} of {most} calls", bench.faults.calls());
}

#[test]
fn each_harmless_fault_by_itself_loses_no_output() {
    for fault in HARMLESS {
        within(DEADLINE, move || {
            let (mut bench, person) = memory(Faults::storm(fault, 100));
            bench.print();
            assert!(person.read() == pattern(ALL_BYTES), "{fault:?}");
            check_calls(&bench, CHAINS);
        });
    }
}

#[test]
fn no_fault_loses_input() {
    let all = [&HARMLESS[..], &FATAL].concat();
    for seed in 0..8 {
        let all = all.clone();
        within(DEADLINE, move || {
            let (mut bench, person) = memory(Faults::seeded(seed, 2, &all));
            for _ in 0..4 {
                person.type_in(&pattern(ALL_BYTES / 2));
                let bytes = bench.read(ALL_BYTES / 2);
                assert!(bytes == pattern(ALL_BYTES / 2), "{:?}", bench.faults);
            }
        });
    }
}

#[test]
fn a_host_that_fails_costs_the_chains_of_that_time_and_no_others() {
    for fault in FATAL {
        within(DEADLINE, move || {
            let (mut bench, person) = memory(Faults::storm(fault, CHAINS / 2));
            bench.print();
            assert!(person.read() == pattern(ALL_BYTES)[ALL_BYTES / 2..], "half is printed");
            bench.print();
            assert!(person.read() == pattern(ALL_BYTES), "then all of it");
            assert_eq!(bench.faults.calls(), (2 * ALL_BYTES / LEN) as u64);
        });
    }
}

#[test]
fn a_person_who_is_gone_and_comes_back_is_typed_and_printed_to_again() {
    within(DEADLINE, || {
        let (mut bench, person) = memory(Faults::storm(Fault::Death, 1));
        bench.print();
        assert!(person.read().is_empty());
        let calls = bench.faults.calls();
        bench.add(RECEIVE);
        bench.kick(RECEIVE);
        person.type_in(b"is anybody there?");
        while bench.faults.calls() == calls {
            thread::yield_now();
        }
        assert_eq!(bench.driver.used(RECEIVE), None);
        bench.faults.off();
        assert_eq!(bench.driver.wait_used(RECEIVE, DEADLINE).written, 17);
        bench.print();
        assert!(person.read() == pattern(ALL_BYTES));
    });
}

/// Faults beside those that narrow pipes make of themselves.
#[test]
fn a_reader_that_takes_its_time_gets_all_once_it_is_back() {
    for seed in 0..4 {
        within(DEADLINE, move || {
            let ((input, mut keyboard), (mut screen, output)) =
                (io::pipe().unwrap(), io::pipe().unwrap());
            let (input, output) = (OwnedFd::from(input), OwnedFd::from(output));
            for end in [&input, &output] {
                fcntl_setpipe_size(end, 4096).unwrap();
                ioctl_fionbio(end, true).unwrap();
            }
            let stream = Stream::new(input, output).unwrap();
            let mut bench = Bench::new(stream, Faults::seeded(seed, 2, &HARMLESS));
            let typist = thread::spawn(move || {
                keyboard.write_all(&pattern(ALL_BYTES)).unwrap();
                keyboard
            });
            bench.start_printing();
            assert!(bench.read(ALL_BYTES) == pattern(ALL_BYTES), "{:?}", bench.faults);
            assert_eq!(bench.driver.queue(TRANSMIT).error(), None);
            // Only now somebody reads.
            let reader = thread::spawn(move || {
                let mut seen = vec![0; ALL_BYTES];
                screen.read_exact(&mut seen).map(|()| seen)
            });
            bench.wait_printed();
            assert!(reader.join().unwrap().unwrap() == pattern(ALL_BYTES), "{:?}", bench.faults);
            drop(typist.join().unwrap());
        });
    }
}

cubie_testkit::conformance!(|| {
    let (memory, person) = Memory::new().unwrap();
    person.type_in(&[b'x'; 10_000]);
    let faults = Faults::seeded(0, 2, &[&HARMLESS[..], &FATAL].concat());
    Box::new(Console::new(Faulty::new(memory, &faults), WindowSize::default()))
});
