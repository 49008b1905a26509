//! Nanoseconds.

use std::time::{Duration, Instant};

use crate::case::Case;
use crate::table::Measured;
use crate::{LANES, with_lanes};

/// Slices of each lane.
const SLICES: usize = 31;
/// Turns of the ring in a slice.
const TURNS: usize = 24;

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
                let mut time = Duration::ZERO;
                for _ in 0..TURNS {
                    lane.turn(case, |turn| {
                        let start = Instant::now();
                        turn();
                        time += start.elapsed();
                    });
                }
                // The first one warms up.
                if slice > 0 {
                    slices.push(time.as_nanos() as f64 / f64::from(case.chains()) / TURNS as f64);
                }
            }
        }
        slices
    })
}
