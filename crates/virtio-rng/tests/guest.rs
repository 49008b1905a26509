//! The device through the driver of `virtio_drivers`, and through one without manners.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, GuestHal, RawDriver, Used, within};
use cubie_virtio_core::{Features, VirtioDevice};
use cubie_virtio_rng::{EntropySource, HostEntropy, MOST_BYTES, Rng};
use virtio_drivers::device::rng::VirtIORng;

const DEADLINE: Duration = Duration::from_secs(20);

/// Counts up, byte by byte.
#[derive(Default)]
struct Counter(Arc<AtomicU64>);

impl EntropySource for Counter {
    fn fill(&mut self, data: &mut [u8]) -> io::Result<()> {
        let first = self.0.fetch_add(data.len() as u64, Ordering::SeqCst);
        for (byte, value) in data.iter_mut().zip(first..) {
            *byte = value as u8;
        }
        Ok(())
    }
}

#[test]
fn the_host_fills_buffers_with_bytes_that_differ() {
    within(DEADLINE, || {
        let slot = Guest::new().plug(Box::new(Rng::new(HostEntropy)));
        let mut driver = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        let mut twice = [[0; 32]; 2];
        for bytes in &mut twice {
            assert_eq!(driver.request_entropy(bytes), Ok(32));
        }
        assert!(twice[0] != twice[1] && twice[0] != [0; 32] && twice[1] != [0; 32]);
    });
}

#[test]
fn bytes_arrive_in_order_and_none_is_given_twice_across_resets() {
    within(DEADLINE, || {
        let counter = Counter::default();
        let given = counter.0.clone();
        let guest = Guest::new();
        let mut slot = guest.plug(Box::new(Rng::new(counter)));
        let mut next = 0;
        for round in 0..20 {
            if round == 10 {
                slot = guest.socket().trapped().plug(slot.unplug());
            }
            let mut driver = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
            for len in [1, 4095, 4097, 10_000] {
                let mut bytes = vec![0; len];
                assert_eq!(driver.request_entropy(&mut bytes), Ok(len));
                assert!(bytes.iter().zip(next..).all(|(byte, value)| *byte == value as u8));
                next += len as u64;
            }
        }
        assert_eq!(given.load(Ordering::SeqCst), next);
    });
}

#[test]
fn a_large_request_gets_a_part() {
    within(DEADLINE, || {
        let counter = Counter::default();
        let given = counter.0.clone();
        let slot = Guest::new().plug(Box::new(Rng::new(counter)));
        let mut driver = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        assert_eq!(driver.request_entropy(&mut vec![0; 1 << 20]), Ok(MOST_BYTES));
        assert_eq!(given.load(Ordering::SeqCst), MOST_BYTES as u64);
    });
}

#[test]
fn buffers_that_cannot_be_written_come_back_empty() {
    let guest = Guest::new();
    let slot = guest.plug(Box::new(Rng::new(HostEntropy)));
    let mut raw = RawDriver::new(&slot, Features::default(), &[8]);
    let at = guest.buffer(64).0;
    for buffers in [
        &[Descriptor::readable(at, 64)][..],
        &[Descriptor::writable(at, 0)],
        &[Descriptor::readable(at, 8), Descriptor::writable(at, 0)],
    ] {
        let head = raw.offer(0, buffers).into();
        assert_eq!(raw.wait_used(0, DEADLINE), Used { head, written: 0 });
    }
    let head = raw.offer(0, &[Descriptor::readable(at, 8), Descriptor::writable(at, 8)]).into();
    assert_eq!(raw.wait_used(0, DEADLINE), Used { head, written: 8 });
}

#[test]
fn there_is_nothing_to_negotiate() {
    assert_eq!(Rng::new(HostEntropy).features(), Features::default());
}

#[test]
fn kicks_without_buffers_are_nothing() {
    let guest = Guest::new();
    let slot = guest.plug(Box::new(Rng::new(HostEntropy)));
    let mut raw = RawDriver::new(&slot, Features::default(), &[8]);
    let at = guest.buffer(8).0;
    for _ in 0..10 {
        (0..3).for_each(|_| raw.kick(0));
        let head = raw.offer(0, &[Descriptor::writable(at, 8)]).into();
        assert_eq!(raw.wait_used(0, DEADLINE), Used { head, written: 8 });
        assert_eq!(raw.used(0), None);
    }
}

#[test]
fn stopping_under_load_returns_and_the_device_starts_again() {
    within(DEADLINE, || {
        let guest = Guest::new();
        let slot = guest.plug(Box::new(Rng::new(HostEntropy)));
        let at = guest.buffer(1 << 20).0;
        for _ in 0..50 {
            let mut raw = RawDriver::new(&slot, Features::default(), &[16]);
            for _ in 0..16 {
                raw.offer(0, &[Descriptor::writable(at, 1 << 20)]);
            }
        }
        let slot = guest.plug(slot.unplug());
        let mut driver = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        assert_eq!(driver.request_entropy(&mut [0; 8]), Ok(8));
    });
}
