//! What a frame costs the network card: ours, and a loop over rust-vmm's `virtio-queue` with as little
//! around it as a card can have.
//!
//! No VM, no host: the driver is `cubie-virtq`'s own end of the ring, and the cable ends in `Null`, which
//! takes every frame without a look and makes frames by copying the same one. What is left is the device:
//! worker, ring, header, checks, counters, the guest's buffers. Each *lane* is a device on its own thread with
//! its own guest memory:
//!
//! * `split`, `packed`: [`cubie::net::Net`];
//! * `virtio-queue`: [`peer::Peer`], in the manner of Firecracker's card and cloud-hypervisor's: it takes
//!   a chain, gathers its pieces, copies the header, and gives it back. It checks no header, counts nothing,
//!   has no filter, no link and no second way for frames that are longer than their buffers;
//! * `tap`: [`cubie::net::Net`] again, on a split ring, with a tap at its end: what the host takes. The
//!   tap is in a network namespace of its own, where frames are for nobody. Transmit only, since whoever
//!   made frames for it would run in between.
//!
//! # What is measured
//!
//! A *turn*: the driver publishes a batch, kicks and sleeps until its interrupt; the device wakes, serves,
//! interrupts and sleeps. All threads are on one CPU, one after the other.
//!
//! * Nanoseconds: the CPU time of the device's thread, as the kernel counts it, waking and sleeping
//!   included. It does not depend on who else wants the CPU. Short slices of all lanes in turns, for a
//!   virtual CPU's speed changes within seconds; the table has the medians, ratios are medians of each
//!   slice's.
//! * Instructions: the benchmark starts itself once more under `valgrind --tool=callgrind`, which counts
//!   those of the device's thread in this process, not in the kernel.

#[path = "../callgrind/mod.rs"]
mod callgrind;
#[path = "../figures/mod.rs"]
mod figures;

mod case;
mod count;
mod device;
mod driver;
mod peer;
mod table;
mod time;

use case::Case;
use device::Device;
use driver::Driver;

/// A device and the driver that feeds it.
struct Lane {
    driver: Driver,
    device: Device,
}

/// Ours.
const OURS: [&str; 2] = ["split", "packed"];
const PEER: &str = "virtio-queue";
/// Ours, with the host behind it.
const TAP: &str = "tap";

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|argument| argument == callgrind::ARGUMENT) {
        return count::inside();
    }
    // What has no namespace of its own has no tap, either. Threads to come are in it, too.
    let tap = device::enter_namespace();
    if let Err(error) = &tap {
        eprintln!("not measured through a tap, which takes root: {error}");
    }
    let times = time::all(tap.is_ok())?;
    let measured: Vec<_> = count::all()?.into_iter().chain([times]).collect();
    table::publish_all(&measured)
}

/// The lanes of a case that the device's own figures are of.
fn lanes(case: &Case) -> anyhow::Result<Vec<(&'static str, Lane)>> {
    let names = OURS.into_iter().chain([PEER]);
    names.map(|name| Ok((name, Lane::new(name, case)?))).collect()
}

impl Lane {
    fn new(name: &str, case: &Case) -> anyhow::Result<Self> {
        let (driver, queue) = Driver::new(*case, name == "packed")?;
        let device = match name {
            PEER => Device::peer(case, queue)?,
            TAP => Device::on_tap(case, queue)?,
            _ => Device::on_null(case, queue)?,
        };
        Ok(Self { driver, device })
    }

    /// So many turns.
    fn turns(&mut self, count: u32) {
        for _ in 0..count {
            self.driver.turn();
        }
    }
}
