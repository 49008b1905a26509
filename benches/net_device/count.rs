//! Instructions, counted by callgrind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::case::Case;
use crate::table::{Lanes, Measured};
use crate::{Lane, OURS, PEER, lanes};

/// Tells the benchmark that it runs under callgrind.
pub(crate) const ARGUMENT: &str = "--inside-callgrind";
/// Turns that are counted.
const TURNS: u32 = 32;

/// Counts all cases. `None`, and one line that says so, on a machine without valgrind.
pub(crate) fn all() -> anyhow::Result<Option<Measured>> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]);
    // All threads count, but none inside of `counted`: that is the driver's. Each call of it ends in a
    // file, and at zero again.
    command.args(["--toggle-collect=net_device::count::counted", "--collect-atstart=yes"]);
    command.arg("--dump-after=net_device::count::counted");
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
            Ok(Some(Measured { unit: "instructions a frame", cases: dumps(folder.path())? }))
        }
    }
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
            let file = folder.join(format!("out.{number}"));
            let text = fs::read_to_string(&file).with_context(|| format!("{case}, {name}"))?;
            let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
            let total: f64 = total.context("callgrind wrote no total")?.trim().parse()?;
            lanes.push((name, vec![total / f64::from(TURNS) / f64::from(case.batch)]));
        }
        all.push(lanes);
    }
    Ok(all)
}
