//! What a descriptor chain costs: our rings, rust-vmm's `virtio-queue` and a hand-written walk, side by
//! side.
//!
//! Each *lane* is a device at a queue of its own: it takes all chains that the driver has made available,
//! looks at the host address and length of every buffer, returns the chains, and does all that is due
//! between a kick and an interrupt (suppression, used index, the look-again). The interrupt itself is
//! silent. The lanes:
//!
//! * `floor`: the same checks written by hand for this benchmark alone ([`floor`]);
//! * `split`, `packed`: `cubie-virtq`'s [`drain`](cubie::virtq::Virtqueue::drain);
//! * `iter`, `pop`: `virtio-queue`'s two ways, with the loop that its documentation gives.
//!
//! # What is measured
//!
//! A *turn*: the driver publishes a batch and the device serves it, until the 256 descriptors of the queue
//! have been used. The driver wrote them beforehand, so that publishing is one or two stores
//! ([`driver`]); what these and the clock cost is measured by lanes without a device, and subtracted.
//!
//! * Nanoseconds: short slices of all lanes in turns, for a virtual CPU's speed changes within seconds. The
//!   table has the median with the smallest and largest slice. Ratios are the medians of the ratios in
//!   each slice. This is why criterion is not used: it measures one lane after the other.
//! * Instructions: the benchmark starts itself once more under `valgrind --tool=callgrind`, which collects
//!   inside of [`turn`] only.
//!
//! `cargo xtask bench rings` measures a build as users of a library have it (no link-time optimization),
//! then one with fat LTO. The folder `target/figures` gets each as JSON and as the README's table.

#[path = "../callgrind/mod.rs"]
mod callgrind;
#[path = "../figures/mod.rs"]
mod figures;

mod case;
mod count;
mod devices;
mod driver;
mod floor;
mod memory;
mod table;
mod time;

use case::Case;
use devices::Device;
use driver::Driver;
use memory::Memory;

/// A device and the driver that feeds it.
struct Lane<'m> {
    driver: Box<dyn Driver + 'm>,
    device: Box<dyn Device + 'm>,
}

/// Our lanes.
const OURS: [&str; 2] = ["split", "packed"];
/// The others.
const PEERS: [&str; 3] = ["floor", "iter", "pop"];
/// All of them; the idle ones have nobody at the device's end.
const LANES: [&str; 7] = ["floor", "split", "packed", "iter", "pop", "idle", "idle packed"];

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|argument| argument == callgrind::ARGUMENT) {
        count::inside();
        return Ok(());
    }
    let times = time::all();
    let measured: Vec<_> = count::all()?.into_iter().chain([times]).collect();
    table::publish_all(&measured)
}

/// Runs `each` with the lanes of a case.
fn with_lanes<T>(case: &Case, each: impl FnOnce(&mut [Lane<'_>]) -> T) -> T {
    let memories = LANES.map(|_| Memory::new(case));
    let mut lanes = vec![];
    for (name, memory) in LANES.iter().zip(&memories) {
        let driver = driver::for_lane(name, case, memory.ring());
        lanes.push(Lane { driver, device: devices::for_lane(name, case, memory) });
    }
    each(&mut lanes)
}

impl Lane<'_> {
    /// One turn of the ring, with the given way to measure it.
    fn turn(&mut self, case: &Case, measure: impl FnOnce(&mut dyn FnMut())) {
        self.driver.refill();
        let (driver, device) = (&mut *self.driver, &mut *self.device);
        measure(&mut || turn(driver, device, case.batches()));
        device.check(case);
    }
}

/// What is measured, and where callgrind collects: not inlined, so that it keeps its name.
#[inline(never)]
fn turn(driver: &mut dyn Driver, device: &mut dyn Device, batches: u16) {
    for _ in 0..batches {
        driver.publish();
        device.serve();
    }
}
