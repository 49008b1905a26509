//! A benchmark that starts itself once more under `valgrind --tool=callgrind`, to have its instructions counted.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// Tells the benchmark that it runs under callgrind.
pub(crate) const ARGUMENT: &str = "--inside-callgrind";

/// Runs it with these options of callgrind's. The folder of the dumps; `None`, and one line that says so, on a
/// machine without valgrind.
pub(crate) fn run(options: &[&str]) -> anyhow::Result<Option<TempDir>> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]).args(options);
    command.arg(format!("--callgrind-out-file={}", folder.path().join("out").display()));
    command.arg(std::env::current_exe()?).arg(ARGUMENT).stdout(Stdio::null());
    match command.status() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("instructions are not counted: there is no valgrind (apt install valgrind)");
            Ok(None)
        }
        status => {
            let status = status?;
            ensure!(status.success(), "callgrind: {status}");
            Ok(Some(folder))
        }
    }
}

/// The instructions of dump `number`, from 1.
pub(crate) fn total(folder: &Path, number: u32) -> anyhow::Result<f64> {
    let file = folder.join(format!("out.{number}"));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.context("callgrind wrote no total")?.trim().parse()?)
}
