//! Instructions, counted by callgrind.

use std::path::Path;

use crate::callgrind::{run, total};
use crate::case::Case;
use crate::table::{Lanes, Measured};
use crate::{Lane, OURS, PEER, lanes};

/// Turns that are counted.
const TURNS: u32 = 32;

/// Counts all cases, if there is valgrind.
pub(crate) fn all() -> anyhow::Result<Option<Measured>> {
    // All threads count, but none inside of `counted`: that is the driver's. Each call of it ends in a
    // file, and at zero again.
    let folder = run(&[
        "--toggle-collect=net_device::count::counted",
        "--collect-atstart=yes",
        "--dump-after=net_device::count::counted",
    ])?;
    let cases = folder.map(|folder| dumps(folder.path())).transpose()?;
    Ok(cases.map(|cases| Measured { unit: "instructions a frame", cases }))
}

/// What runs under callgrind.
pub(crate) fn inside() -> anyhow::Result<()> {
    for case in Case::all() {
        for (_, mut lane) in lanes(&case)? {
            // The first time, pools fill and lazy symbols are bound.
            counted(&mut lane);
            counted(&mut lane);
        }
    }
    Ok(())
}

#[inline(never)]
fn counted(lane: &mut Lane) {
    lane.turns(TURNS);
}

/// The dumps, numbered from 1: two for each lane of each case, of which the second counts.
fn dumps(folder: &Path) -> anyhow::Result<Vec<Lanes>> {
    let mut number = 0;
    let mut all = vec![];
    for case in Case::all() {
        let mut lanes = vec![];
        for name in OURS.into_iter().chain([PEER]) {
            number += 2;
            let total = total(folder, number)?;
            lanes.push((name, vec![total / f64::from(TURNS) / f64::from(case.batch)]));
        }
        all.push(lanes);
    }
    Ok(all)
}
