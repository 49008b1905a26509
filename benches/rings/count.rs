//! Instructions, counted by callgrind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::case::Case;
use crate::table::Measured;
use crate::{LANES, with_lanes};

/// Tells the benchmark that it runs under callgrind.
pub(crate) const ARGUMENT: &str = "--inside-callgrind";
/// Turns of the ring that are counted.
const TURNS: u32 = 8;

/// Counts all cases. `None`, and one line that says so, on a machine without valgrind.
pub(crate) fn all() -> anyhow::Result<Option<Measured>> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]);
    // Instructions count inside of `turn` only. Each call of `counted` ends in a file, and at zero again.
    command.args(["--toggle-collect=rings::turn", "--dump-after=rings::count::counted"]);
    command.arg(format!("--callgrind-out-file={}", folder.path().join("out").display()));
    command.arg(std::env::current_exe()?).arg(ARGUMENT).stdout(Stdio::null());
    match command.status() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("instructions are not counted: there is no valgrind (apt install valgrind)");
            Ok(None)
        }
        status => {
            let status = status?;
            ensure!(status.success(), "callgrind: {status}");
            let cases = dumps(folder.path())?;
            Ok(Some(Measured { unit: "instructions a chain", cases }))
        }
    }
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
        for name in LANES {
            number += 2;
            let file = folder.join(format!("out.{number}"));
            let text = fs::read_to_string(&file).with_context(|| format!("{case}, {name}"))?;
            let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
            let total: f64 = total.context("callgrind wrote no total")?.trim().parse()?;
            lanes.push(vec![total / f64::from(TURNS) / f64::from(case.chains())]);
        }
        all.push(lanes);
    }
    Ok(all)
}
