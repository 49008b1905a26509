//! Nanoseconds.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::case::{Case, Direction};
use crate::table::{Lanes, Measured};
use crate::{Lane, TAP, lanes};

/// Slices of each lane.
const SLICES: usize = 41;
/// Turns of a slice.
const TURNS: u32 = 100;

/// Measures all cases.
pub(crate) fn all(tap: bool) -> anyhow::Result<Measured> {
    keep_to_one_cpu()?;
    let cases =
        Case::all().into_iter().map(|case| one(case, tap)).collect::<anyhow::Result<_>>()?;
    Ok(Measured { unit: "ns a frame", cases })
}

/// This thread and those that it starts.
fn keep_to_one_cpu() -> anyhow::Result<()> {
    let (me, mut one) = (Pid::from_raw(0), CpuSet::new());
    let mine = sched_getaffinity(me)?;
    let last = (0..CpuSet::count()).rfind(|cpu| mine.is_set(*cpu).unwrap_or_default());
    one.set(last.unwrap_or_default())?;
    Ok(sched_setaffinity(me, &one)?)
}

/// The slices of each lane, as nanoseconds a frame.
fn one(case: Case, tap: bool) -> anyhow::Result<Lanes> {
    let mut lanes = lanes(&case)?;
    if tap && case.direction == Direction::Transmit {
        lanes.push((TAP, Lane::new(TAP, &case)?));
    }
    let mut slices: Vec<_> = lanes.iter().map(|(name, _)| (*name, vec![])).collect();
    for slice in 0..=SLICES {
        for ((_, lane), (_, slices)) in lanes.iter_mut().zip(&mut slices) {
            let before = lane.device.cpu_time()?;
            lane.turns(TURNS);
            let time = lane.device.cpu_time()? - before;
            // The first one warms up.
            if slice > 0 {
                slices.push(time as f64 / f64::from(TURNS) / f64::from(case.batch));
            }
        }
    }
    Ok(slices)
}
