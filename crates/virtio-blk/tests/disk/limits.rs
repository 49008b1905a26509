//! Disks of which a guest gets so much and no more.

use std::num::NonZeroU64;
use std::time::Duration;

use cubie_testkit::{Descriptor, VirtualClock, within};
use cubie_virtio_blk::{Blk, DiskLimits, NullDisk};
use cubie_virtio_core::RateLimit;

use crate::bench::{Bench, DEADLINE, F_MQ, READ};

const LEN: u32 = 1024;
const SECOND: Duration = Duration::from_secs(1);

fn limit(per_second: u64, burst: u64) -> Option<RateLimit> {
    let [per_second, burst] = [per_second, burst].map(|n| NonZeroU64::new(n).unwrap());
    Some(RateLimit { per_second, burst })
}

/// A disk with two queues and these limits, its clock, and a read of `LEN` bytes.
fn limited(limits: DiskLimits) -> (Bench, VirtualClock, Vec<Descriptor>) {
    let clock = VirtualClock::default();
    let disk = Blk::with_queues(vec![NullDisk::new(1 << 20); 2], "limited".parse().unwrap());
    let disk = disk.unwrap().with_limits(limits).with_clock(clock.clone());
    let bench = Bench::new(disk, F_MQ, 2);
    let room = Descriptor::writable(bench.guest.buffer(LEN as usize).0, LEN);
    let read = bench.request(READ, 0, &[room]);
    (bench, clock, read)
}

/// Four at once, and then one a second.
fn four_and_then_one_a_second(limits: DiskLimits) {
    within(DEADLINE, move || {
        let (mut bench, clock, read) = limited(limits);
        for _ in 0..7 {
            bench.driver.add(0, &read);
        }
        bench.driver.kick(0);
        for _ in 0..4 {
            bench.driver.wait_used(0, DEADLINE);
        }
        for second in 1..=3 {
            assert_eq!(clock.wait_for_timer(DEADLINE), second * SECOND);
            assert_eq!(bench.driver.used(0), None);
            clock.advance(SECOND);
            bench.driver.wait_used(0, DEADLINE);
        }
    });
}

#[test]
fn operations_beyond_the_burst_come_one_by_one() {
    four_and_then_one_a_second(DiskLimits { operations: limit(1, 4), bytes: None });
}

#[test]
fn bytes_beyond_the_burst_come_when_they_are_there() {
    let bytes = limit(LEN.into(), 4 * u64::from(LEN));
    four_and_then_one_a_second(DiskLimits { operations: None, bytes });
    four_and_then_one_a_second(DiskLimits { operations: limit(100, 100), bytes });
}

#[test]
fn all_queues_of_a_disk_share_its_limit() {
    within(DEADLINE, || {
        let (mut bench, clock, read) = limited(DiskLimits { operations: limit(1, 1), bytes: None });
        bench.driver.offer(0, &read);
        bench.driver.wait_used(0, DEADLINE);
        bench.driver.offer(1, &read);
        assert_eq!(clock.wait_for_timer(DEADLINE), SECOND);
        assert_eq!(bench.driver.used(1), None);
        clock.advance(SECOND);
        bench.driver.wait_used(1, DEADLINE);
    });
}
