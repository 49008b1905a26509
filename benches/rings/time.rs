//! Nanoseconds.

use std::time::{Duration, Instant};

use crate::case::Case;
use crate::table::Measured;
use crate::{LANES, with_lanes};

/// Slices of each lane.
const SLICES: usize = 31;
/// Turns of the ring in a slice. The median counts: one that the host interrupts does not.
const TURNS: usize = 25;

/// Measures all cases.
pub(crate) fn all() -> Measured {
    Measured { unit: "ns a chain", cases: Case::all().iter().map(one).collect() }
}

/// The slices of each lane, as nanoseconds a chain.
fn one(case: &Case) -> Vec<Vec<f64>> {
    with_lanes(case, |lanes| {
        let mut slices = vec![vec![]; LANES.len()];
        for slice in 0..=SLICES {
            for (lane, slices) in lanes.iter_mut().zip(&mut slices) {
                let mut times = [Duration::ZERO; TURNS];
                for time in &mut times {
                    lane.turn(case, |turn| {
                        let start = Instant::now();
                        turn();
                        *time = start.elapsed();
                    });
                }
                times.sort();
                // The first one warms up.
                if slice > 0 {
                    let median = times[TURNS / 2].as_nanos() as f64;
                    slices.push(median / f64::from(case.chains()));
                }
            }
        }
        slices
    })
}
