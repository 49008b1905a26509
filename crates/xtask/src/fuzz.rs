//! The fuzz targets: built once, run two at a time, and counted.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, bail, ensure};

use crate::setup;
use crate::shell::{cargo, nightly, root, run};

/// How long, and from where.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Effort {
    /// Seconds that each runs.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Begin with this seed; 0 is another one each time.
    #[arg(long, default_value_t = 0)]
    seed: u32,
}

/// A target in `cargo xtask ci`: always from the same seed, since it tests a change and not our luck.
pub(crate) const SHORT: Effort = Effort { seconds: 60, seed: 1 };
/// Bytes of an input: some 80 steps.
const MOST_BYTES: u32 = 1024;
/// As many as the smallest machine of CI has CPUs.
const AT_ONCE: usize = 2;

/// What a run of a target has come to.
#[derive(Debug, PartialEq, Eq)]
struct Tally {
    executions: u64,
    /// Edges of the control flow that were passed.
    edges: u64,
    /// Inputs kept, each for something new that it did.
    inputs: u64,
}

/// Runs all targets, or `only` this one.
pub(crate) fn fuzz(only: Option<&str>, effort: Effort) -> anyhow::Result<()> {
    let targets = targets(only)?;
    setup::rust_nightly()?;
    setup::cargo_fuzz()?;
    run("fuzz targets: format", &mut cargo("fmt --manifest-path fuzz/Cargo.toml --check"))?;
    let lints = "clippy --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings";
    run("fuzz targets: lints", &mut cargo(lints))?;
    run("fuzz targets: build", &mut nightly("fuzz build"))?;
    eprintln!("\n== fuzz: {} s each of {}", effort.seconds, targets.join(", "));
    let (left, tallies) = (Mutex::new(targets.iter()), Mutex::new(vec![]));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(target) = next(&left) {
                    let tally = run_target(target, effort);
                    tallies.lock().expect("no panic").push((target.as_str(), tally));
                }
            });
        }
    });
    let mut tallies = tallies.into_inner().expect("no panic");
    tallies.sort_by_key(|(target, _)| *target);
    let mut table = "| target | executions | edges | inputs |\n|---|---:|---:|---:|\n".to_owned();
    for (target, tally) in tallies {
        let Tally { executions, edges, inputs } = tally?;
        table += &format!("| {target} | {executions} | {edges} | {inputs} |\n");
    }
    eprintln!("\n{table}\n== fuzz: ok");
    Ok(())
}

fn next<'a>(left: &Mutex<impl Iterator<Item = &'a String>>) -> Option<&'a String> {
    left.lock().expect("no panic").next()
}

/// The names in `fuzz/fuzz_targets`, or `only` this one.
fn targets(only: Option<&str>) -> anyhow::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for file in fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = file?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    let Some(only) = only else { return Ok(names.into_iter().collect()) };
    let all = Vec::from_iter(names.iter().map(String::as_str)).join(", ");
    ensure!(names.contains(only), "there is no fuzz target {only}; there are {all}");
    Ok(vec![only.to_owned()])
}

/// Runs one from the committed seeds and from what earlier runs on this machine have found.
fn run_target(target: &str, effort: Effort) -> anyhow::Result<Tally> {
    let folder = root().join("target/fuzz");
    let found = folder.join(target);
    fs::create_dir_all(&found)?;
    let log = folder.join(format!("{target}.log"));
    let seeds = root().join("fuzz/corpus").join(target);
    let mut command = nightly(&format!("fuzz run {target}"));
    command.args([&found, &seeds]).arg("--").args([
        format!("-max_total_time={}", effort.seconds),
        format!("-seed={}", effort.seed),
        format!("-max_len={MOST_BYTES}"),
        // An input that takes longer is a loop.
        "-timeout=10".to_owned(),
    ]);
    let file = File::create(&log)?;
    let status = command.stdout(file.try_clone()?).stderr(file).status()?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        bail!("fuzz target {target} has found something:\n{}", why(&text, log));
    }
    tally(&text).with_context(|| format!("{}: no tally", log.display()))
}

/// What libFuzzer says at the end.
fn tally(log: &str) -> Option<Tally> {
    let number = |line: &str, before: &str| {
        line.split_once(before)?.1.split([' ', '/']).find(|word| !word.is_empty())?.parse().ok()
    };
    let last = log.lines().rev().find(|line| line.contains(" cov: "))?;
    let done = log.lines().rev().find(|line| line.starts_with("Done "))?;
    Some(Tally {
        executions: number(done, "Done ")?,
        edges: number(last, " cov: ")?,
        inputs: number(last, " corp: ")?,
    })
}

/// The end of a log, from the panic or the sanitizer's report on.
fn why(log: &str, path: PathBuf) -> String {
    let lines: Vec<_> = log.lines().collect();
    let first =
        lines.iter().position(|line| line.contains("panicked at") || line.contains("ERROR"));
    let first = first.unwrap_or(lines.len().saturating_sub(20));
    let end = lines[first..].iter().take(60).fold(String::new(), |text, line| text + line + "\n");
    format!("{end}(all of it: {})", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_read_from_the_last_lines() {
        let log = "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                   #9000\tDONE   cov: 412 ft: 1931 corp: 361/21Kb lim: 1024 exec/s: 4500 rss: 80Mb\n\
                   Done 9000 runs in 2 second(s)\n";
        assert_eq!(tally(log), Some(Tally { executions: 9000, edges: 412, inputs: 361 }));
        assert_eq!(tally("Done 9000 runs in 2 second(s)\n"), None);
    }

    #[test]
    fn each_target_has_seeds_and_others_are_refused() {
        for target in targets(None).unwrap() {
            let seeds = fs::read_dir(root().join("fuzz/corpus").join(&target));
            assert!(seeds.is_ok_and(|seeds| seeds.count() > 0), "{target} has no seeds");
        }
        let error = targets(Some("no-such")).unwrap_err().to_string();
        assert!(error.contains("no-such") && error.contains("packed"), "{error}");
    }
}
