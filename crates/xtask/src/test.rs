//! The one test command.

use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, bail};

use crate::setup::{other_vmms, setup};
use crate::shell::{ARM, cargo, run};

/// What an emulated board may spoil in one run. More than that is a fault of ours.
const FEW: usize = 2;

/// Native tests; then, `with_lab`, the suites that need ARM KVM.
pub(crate) fn test(with_lab: bool) -> anyhow::Result<()> {
    if !with_lab {
        let others = "test --workspace --all-features --exclude cubie-armlab";
        run("native tests", &mut cargo(others))?;
        return run("native tests of the lab", &mut cargo("test --package cubie-armlab --lib"));
    }
    setup()?;
    other_vmms()?;
    run("native tests", &mut cargo("test --workspace --all-features"))?;
    let example = format!("build --release --target {ARM} --example cubietruck-vm");
    run("the example for ARM", &mut cargo(&example))?;
    on_arm_kvm()
}

/// The suites that need ARM KVM. What fails on the emulated board is tried once more, and said: see
/// docs/lab.md for what QEMU does to guests.
fn on_arm_kvm() -> anyhow::Result<()> {
    // One guest at a time: two would only take each other's time.
    let packages = "-p cubie-arm-kvm -p cubie-armlab -p cubie";
    let args = format!("test --no-fail-fast --release --target {ARM} {packages} --tests");
    // Many guests boot in one test binary, more than the quarter of an hour that a run usually has.
    let seconds = if std::env::var_os("CUBIE_LONG").is_some() { "14400" } else { "1800" };
    let tests = |names: &[String]| {
        let mut tests = cargo(&args);
        tests.env("ARMLAB_TIMEOUT", seconds).args(["--", "--test-threads=1", "--exact"]);
        tests.args(names);
        tests
    };
    eprintln!("\n== tests on ARM KVM");
    let (status, failed) = watched(&mut tests(&[]))?;
    if status.success() {
        return Ok(());
    }
    let emulated = cfg!(not(target_arch = "aarch64"));
    if !emulated || failed.is_empty() || failed.len() > FEW {
        bail!("tests on ARM KVM: {status}");
    }
    let names = failed.join(", ");
    run(&format!("once more on the emulated board: {names}"), &mut tests(&failed))?;
    eprintln!("xtask: these passed at their second run only (docs/lab.md): {names}");
    Ok(())
}

/// Runs tests, shows what they print, and returns which have failed.
fn watched(tests: &mut Command) -> anyhow::Result<(ExitStatus, Vec<String>)> {
    let mut child =
        tests.stdout(Stdio::piped()).spawn().context("tests on ARM KVM: cannot start")?;
    let (mut failures, mut shown) = (Failures::default(), stdout());
    for line in BufReader::new(child.stdout.take().expect("it is piped")).split(b'\n') {
        let line = line?;
        shown.write_all(&line)?;
        shown.write_all(b"\n")?;
        failures.read(&String::from_utf8_lossy(&line));
    }
    Ok((child.wait()?, failures.all))
}

/// The names at the end of what test binaries print.
#[derive(Default)]
struct Failures {
    all: Vec<String>,
    /// The lines since the last `failures:`, as long as they may be names.
    list: Option<Vec<String>>,
}

impl Failures {
    fn read(&mut self, line: &str) {
        if line == "failures:" {
            self.list = Some(vec![]);
        } else if line.starts_with("test result: ") {
            self.all.extend(self.list.take().unwrap_or_default());
        } else if let Some(name) = line.strip_prefix("    ") {
            self.list.iter_mut().for_each(|list| list.push(name.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_that_failed_are_those_of_each_binarys_last_list() {
        let mut failures = Failures::default();
        let output = "test one ... ok\n\ntest result: ok. 1 passed\n\
            test two::three ... FAILED\n\nfailures:\n\n---- two::three stdout ----\n    a part of it\n\n\
            failures:\n    two::three\n    four\n\ntest result: FAILED. 1 passed\n\
            failures:\n    five\n\ntest result: FAILED. 0 passed\n    indented";
        output.lines().for_each(|line| failures.read(line));
        assert_eq!(failures.all, ["two::three", "four", "five"]);
    }
}
