//! The register file of virtio-mmio under drivers without manners: any width, order and value, any place
//! for a queue, kicks and resets at any moment, from two vCPUs at once, with a device at work behind it.
//!
//! Nothing panics or hangs, no register reads what it cannot, and whatever has happened, a reset ends it:
//! the status is 0, nothing pends, no queue is ready, and a page of registers says the same.

mod bench;
mod driver;

use arbitrary::{Arbitrary, Unstructured};

use bench::Bench;
use driver::{Driver, Step};

/// Steps of one vCPU that are carried out.
const MOST_STEPS: usize = 60;

/// One run.
#[derive(Arbitrary, Debug)]
pub struct Session {
    choice: Choice,
    /// Those of the first vCPU, and those of the second one, which may have none.
    steps: [Vec<Step>; 2],
}

/// What stands before the drivers.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Choice {
    legacy: bool,
    page: bool,
    packed: bool,
    kicks_with_data: bool,
    /// A network card with its cable plugged into itself, or a source of random numbers.
    network: bool,
}

/// How far a driver has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Nothing,
    /// The device was started.
    Live,
    /// And has used a chain.
    Served,
    /// And had a queue taken back.
    QueueReset,
    /// And has asked for a reset.
    NeedsReset,
}

/// Plays the session that `bytes` stand for, and names what has come of it; `None` when they stand for none.
///
/// # Panics
/// If anything of what this module promises does not hold.
pub fn play(bytes: &[u8]) -> Option<String> {
    let session = Session::arbitrary_take_rest(Unstructured::new(bytes)).ok()?;
    let Session { choice, steps: [first, second] } = &session;
    let bench = Bench::new(*choice);
    let run = |steps: &[Step]| {
        let mut driver = Driver::new(&bench);
        steps.iter().take(MOST_STEPS).for_each(|step| driver.take(step));
        driver.progress()
    };
    let progress = match second.is_empty() {
        true => run(first),
        false => std::thread::scope(|scope| {
            let other = scope.spawn(|| run(second));
            run(first).max(other.join().expect("a vCPU that did not panic"))
        }),
    };
    bench.end();
    let interface = if choice.legacy { "legacy" } else { "modern" };
    let device = if choice.network { "net" } else { "rng" };
    let vcpus = if second.is_empty() { "one" } else { "two" };
    Some(format!("{interface}-{device}-{vcpus}-{progress:?}").to_lowercase())
}
