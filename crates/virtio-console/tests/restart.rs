//! A console that is stopped in the middle and goes on where it was, as for a snapshot.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cubie_testkit::within;
use cubie_virtio_console::{Console, Stream, WindowSize};
use cubie_virtio_core::{Features, QueueResources, QueueState, Queues, VirtioDevice};
use cubie_virtq::{OnFault, QueueParams};
use cubie_vm_irq::Interrupt;
use rustix::io::ioctl_fionbio;
use rustix::pipe::fcntl_setpipe_size;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const SIZE: u16 = 4;
const DATA: u64 = 0x8000;
const LEN: usize = 10_000;
const PAGE: usize = 4096;

/// Queue `index` at a place of its own.
fn queue(memory: &Arc<GuestMemoryMmap>, index: u16, state: QueueState) -> QueueResources {
    let base = 0x1000 * u64::from(index);
    let (desc, driver, device) = (base, base + 0x400, base + 0x800);
    QueueResources {
        index,
        params: QueueParams { size: SIZE, desc, driver, device },
        state,
        features: Features::VERSION_1,
        kick: EventFd::new(EFD_NONBLOCK).unwrap(),
        interrupt: Interrupt::silent(),
        fault: OnFault::unheard(),
        memory: memory.clone(),
    }
}

/// Guest memory with two chains of `LEN` bytes to transmit, the first of a's, the second of b's.
fn guest() -> Arc<GuestMemoryMmap> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2_0000)]).unwrap();
    for (n, letter) in (0..2u16).zip(*b"ab") {
        let data = DATA + 0x4000 * u64::from(n);
        memory.write_slice(&[letter; LEN], GuestAddress(data)).unwrap();
        let desc = GuestAddress(0x1000 + 16 * u64::from(n));
        memory.write_obj([data, LEN as u64], desc).unwrap();
        let entry = GuestAddress(0x1404 + 2 * u64::from(n));
        memory.write_obj(n, entry).unwrap();
    }
    memory.write_obj(2u16, GuestAddress(0x1402)).unwrap();
    Arc::new(memory)
}

fn start(console: &mut Console<Stream>, memory: &Arc<GuestMemoryMmap>, states: &[QueueState]) {
    let queues = (0..).zip(states).map(|(index, state)| queue(memory, index, *state));
    console.start(Features::VERSION_1, Queues::new(queues.collect())).unwrap();
}

fn console() -> (Console<Stream>, io::PipeWriter, io::PipeReader) {
    let ((input, keyboard), (screen, output)) = (io::pipe().unwrap(), io::pipe().unwrap());
    let (input, output) = (OwnedFd::from(input), OwnedFd::from(output));
    fcntl_setpipe_size(&output, PAGE).unwrap();
    ioctl_fionbio(&input, true).unwrap();
    ioctl_fionbio(&output, true).unwrap();
    let backend = Stream::new(input, output).unwrap();
    (Console::new(backend, WindowSize::default()), keyboard, screen)
}

fn used(memory: &GuestMemoryMmap) -> u16 {
    memory.read_obj(GuestAddress(0x1802)).unwrap()
}

#[test]
fn a_half_printed_chain_is_printed_once() {
    within(Duration::from_secs(20), || {
        let (mut console, _keyboard, mut screen) = console();
        let memory = guest();
        start(&mut console, &memory, &[QueueState::default(); 2]);
        let mut seen = vec![0; LEN + PAGE / 2];
        // Into the second chain, of which the pipe holds some more already.
        screen.read_exact(&mut seen).unwrap();
        let states = console.stop();
        assert_eq!(states[1], QueueState { next_avail: 1, next_used: 1 });
        assert_eq!(used(&memory), 1, "the second chain is the driver's still");

        start(&mut console, &memory, &states);
        let mut rest = vec![0; 2 * LEN - seen.len()];
        screen.read_exact(&mut rest).unwrap();
        seen.extend(rest);
        assert!(seen[..LEN].iter().all(|byte| *byte == b'a'));
        assert!(seen[LEN..].iter().all(|byte| *byte == b'b'));
        assert_eq!(console.stop()[1], QueueState { next_avail: 2, next_used: 2 });
        assert!(console.stop().is_empty(), "a second stop does nothing");
        drop(console);
        assert_eq!(screen.read(&mut [0; 1]).unwrap(), 0, "nothing is printed twice");
    });
}

#[test]
fn a_half_printed_chain_is_printed_once_by_two_consoles() {
    within(Duration::from_secs(20), || {
        let (mut console, _keyboard, mut screen) = console();
        let memory = guest();
        start(&mut console, &memory, &[QueueState::default(); 2]);
        screen.read_exact(&mut vec![0; LEN + PAGE / 2]).unwrap();
        let (states, saved) = (console.stop(), console.save());
        drop(console);
        let mut left = vec![];
        screen.read_to_end(&mut left).unwrap();

        let (mut console, _keyboard, mut screen) = self::console();
        console.restore(&saved).unwrap();
        start(&mut console, &memory, &states);
        let mut rest = vec![0; LEN - PAGE / 2 - left.len()];
        screen.read_exact(&mut rest).unwrap();
        assert!(rest.iter().all(|byte| *byte == b'b'));
        assert_eq!(console.stop()[1], QueueState { next_avail: 2, next_used: 2 });
        assert_eq!(console.save(), [1], "nothing is half printed");
        drop(console);
        assert_eq!(screen.read(&mut [0; 1]).unwrap(), 0, "nothing is printed twice");
    });
}

#[test]
fn a_new_driver_begins_with_a_whole_chain() {
    within(Duration::from_secs(20), || {
        let (mut console, _keyboard, mut screen) = console();
        let memory = guest();
        start(&mut console, &memory, &[QueueState::default(); 2]);
        let mut first = [0; 1];
        screen.read_exact(&mut first).unwrap();
        assert_eq!(console.stop()[1], QueueState::default(), "half of the first chain is out");

        start(&mut console, &guest(), &[QueueState::default(); 2]);
        let mut seen = vec![0; PAGE + 2 * LEN - 1];
        screen.read_exact(&mut seen).unwrap();
        let letters = seen.iter().filter(|byte| **byte == b'b').count();
        assert_eq!(letters, LEN, "both of the new driver's chains are whole");
    });
}
