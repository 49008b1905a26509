//! Instructions, counted by callgrind.

use std::path::Path;

use crate::callgrind::{run, total};
use crate::case::Case;
use crate::table::Measured;
use crate::{LANES, with_lanes};

/// Turns of the ring that are counted.
const TURNS: u32 = 8;

/// Counts all cases, if there is valgrind.
pub(crate) fn all() -> anyhow::Result<Option<Measured>> {
    // Instructions count inside of `turn` only. Each call of `counted` ends in a file, and at zero again.
    let folder = run(&["--toggle-collect=rings::turn", "--dump-after=rings::count::counted"])?;
    let cases = folder.map(|folder| dumps(folder.path())).transpose()?;
    Ok(cases.map(|cases| Measured { unit: "instructions a chain", cases }))
}

/// What runs under callgrind.
pub(crate) fn inside() {
    for case in Case::all() {
        with_lanes(&case, |lanes| {
            for lane in lanes {
                // The first time, pools fill and lazy symbols are bound.
                counted(&case, lane);
                counted(&case, lane);
            }
        });
    }
}

#[inline(never)]
fn counted(case: &Case, lane: &mut crate::Lane<'_>) {
    for _ in 0..TURNS {
        lane.turn(case, |turn| turn());
    }
}

/// The dumps, numbered from 1: two for each lane of each case, of which the second counts.
fn dumps(folder: &Path) -> anyhow::Result<Vec<Vec<Vec<f64>>>> {
    let mut number = 0;
    let mut all = vec![];
    for case in Case::all() {
        let mut lanes = vec![];
        for _ in LANES {
            number += 2;
            let total = total(folder, number)?;
            lanes.push(vec![total / f64::from(TURNS) / f64::from(case.chains())]);
        }
        all.push(lanes);
    }
    Ok(all)
}
