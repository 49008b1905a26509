//! Memory with a hole, and memory that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cubie_virtio_core::{Features, VirtioDevice};
use cubie_virtq::OnFault;
use cubie_virtq::driver::Buffer;
use virtio_drivers::transport::{DeviceStatus, Transport};
use vm_memory::{Bytes, GuestAddress, MemoryRegionAddress};

use super::image::Image;
use super::load::{Bench, QUIET, running};
use super::pause::{Queue, start};
use super::stop::RINGS;
use super::{Make, sockets};
use crate::Guest;

/// Times that a device is started with less memory, for each ring format.
const LOSSES: usize = 8;

/// Chains with a buffer that is not all in memory: it lies in the hole, begins or ends in it, or reaches over
/// it.
fn broken(guest: &Guest) -> [Vec<Buffer>; 4] {
    let (hole, good) = (guest.hole(), Buffer::readable(guest.buffer(16).0, 16));
    let len = (hole.end - hole.start) as u32;
    [
        vec![Buffer::readable(hole.start, 8)],
        vec![good, Buffer::writable(hole.start - 8, 16)],
        vec![Buffer::readable(hole.end - 8, 16)],
        vec![good, Buffer::writable(hole.start - 8, len + 16)],
    ]
}

/// In each queue, and a new driver is served as if nothing had been. A device may look at a queue as late as it
/// likes, but none of these looks at none of them.
pub fn a_buffer_in_a_hole_of_memory_stops_the_device_and_nothing_more(make: Make) {
    let guest = Guest::with_island();
    let (chains, mut stops) = (broken(&guest), 0);
    for socket in sockets(&guest) {
        let bench = Bench::new(socket, make);
        for ring in RINGS {
            for queue in 0..bench.sizes.len() {
                let stopped = chains.iter().filter(|chain| stops_at(&bench, ring, queue, chain));
                stops += stopped.count();
                bench.drive(ring, u16::MAX).round();
            }
        }
    }
    assert!(stops > 0 || make().queue_sizes().is_empty(), "no buffer in the hole was found");
}

/// Offers a chain that is broken. Did the device stop?
fn stops_at(bench: &Bench, ring: Features, queue: usize, chain: &[Buffer]) -> bool {
    let mut load = bench.drive(ring, u16::MAX);
    if load.driver.queue(queue).size() < chain.len() as u16 {
        return false;
    }
    load.driver.add(queue, chain);
    let before = Image::new(bench.guest.memory());
    load.driver.kick(queue);
    let (stopped, begin) = (running() | DeviceStatus::DEVICE_NEEDS_RESET, Instant::now());
    let mut status = load.driver.transport().get_status();
    while status != stopped && begin.elapsed() < QUIET {
        std::thread::yield_now();
        status = load.driver.transport().get_status();
    }
    assert!([running(), stopped].contains(&status), "{status:?} after {chain:x?}");
    assert_eq!(load.driver.used(queue), None, "{chain:x?} is no chain");
    before.check(bench.guest.memory(), &load.writable());
    status == stopped
}

/// A device is stopped while it has buffers in a region, and started without that, with its queues as they
/// were. It may not touch the region, and says of each queue once that it is broken. With the region it
/// works again.
pub fn memory_that_is_gone_is_left_alone(make: Make) {
    let guest = Guest::with_island();
    let island = guest.island();
    let (base, len) = (GuestAddress(island.start), island.end - island.start);
    let (rest, gone) = guest.memory().remove_region(base, len).expect("the region of the island");
    let rest = Arc::new(rest);
    let (told, mut device) = (Arc::new(AtomicUsize::new(0)), make());
    let count = told.clone();
    let on_fault = OnFault::new(move |_, _| _ = count.fetch_add(1, Ordering::SeqCst));
    let then: Vec<_> = (0..len).map(|n| (n % 251) as u8).collect();
    for round in 0..2 * LOSSES {
        let features = RINGS[round % 2].with(Features::VERSION_1).with(device.features());
        let mut queues = Queue::all(&guest, &*device, features);
        start(&mut *device, &queues, guest.memory(), features, &on_fault);
        let before = told.load(Ordering::SeqCst);
        offer_on_the_island(&guest, &mut queues);
        settle(|| false);
        stop(&mut *device, &mut queues);
        assert_eq!(told.load(Ordering::SeqCst), before, "buffers in memory");

        gone.write_slice(&then, MemoryRegionAddress(0)).expect("the region");
        start(&mut *device, &queues, &rest, features, &on_fault);
        offer_on_the_island(&guest, &mut queues);
        settle(|| told.load(Ordering::SeqCst) > before);
        stop(&mut *device, &mut queues);
        let said = told.load(Ordering::SeqCst) - before;
        assert!(said <= queues.len(), "{} queues were broken {said} times", queues.len());
        let mut now = vec![0; then.len()];
        gone.read_slice(&mut now, MemoryRegionAddress(0)).expect("the region");
        assert!(now == then, "the device wrote to memory that it does not have");
    }
    let found = told.load(Ordering::SeqCst) > 0;
    assert!(found || device.queue_sizes().is_empty(), "no buffer that was gone was found");
}

/// A buffer to read and one to write, in each queue.
fn offer_on_the_island(guest: &Guest, queues: &mut [Queue]) {
    let at = guest.island().start;
    let chain = [Buffer::readable(at, 16), Buffer::writable(at + 512, 1526)];
    for queue in queues {
        // Little queues may be full of them, or too small.
        if queue.driver.add(&chain).is_some() {
            queue.driver.publish();
        }
        queue.kick.write(1).expect("room for a kick");
    }
}

/// Lets the device run until something has happened, or may be taken not to happen.
fn settle(happened: impl Fn() -> bool) {
    let begin = Instant::now();
    while !happened() && begin.elapsed() < QUIET {
        std::thread::yield_now();
    }
}

fn stop(device: &mut dyn VirtioDevice, queues: &mut [Queue]) {
    let states = device.stop();
    assert_eq!(states.len(), queues.len(), "one state a queue");
    for (queue, state) in queues.iter_mut().zip(states) {
        queue.state = state;
    }
}
