//! The fuzz targets: built once, run two at a time, and counted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{bail, ensure};

use crate::at_once::at_once;
use crate::setup;
use crate::shell::{cargo, excerpt, logged, nightly, root, run};

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
pub(crate) const SHORT: Effort = Effort { seconds: 20, seed: 1 };
/// Bytes of an input: some 80 steps.
const MOST_BYTES: u32 = 1024;
/// MiB that may be allocated at once: a little more than the largest dictionary of a packed kernel.
const MOST_MEMORY: u32 = 320;
/// What a panic and a sanitizer's report begin with.
const FOUND: &[&str] = &["panicked at", "ERROR"];

/// A target that was run.
struct Run {
    target: String,
    tally: Tally,
    /// What it has found, and how to see it again.
    finding: Option<String>,
}

/// What a run has come to.
#[derive(Debug, Default, PartialEq, Eq)]
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
    run(
        "fuzz targets: committed inputs",
        &mut cargo("test --quiet --manifest-path fuzz/Cargo.toml --lib"),
    )?;
    eprintln!("\n== fuzz: {} s each of {}", effort.seconds, targets.join(", "));
    let runs = at_once(&targets, |target| run_target(target, effort));
    let runs = runs.into_iter().collect::<Result<Vec<_>, _>>()?;
    report(&runs)
}

/// Prints what all have come to.
fn report(runs: &[Run]) -> anyhow::Result<()> {
    eprintln!("\n{}", table(runs));
    let findings: Vec<_> = runs.iter().filter_map(|run| run.finding.as_deref()).collect();
    for finding in &findings {
        eprintln!("{finding}");
    }
    ensure!(findings.is_empty(), "{} fuzz targets have found something", findings.len());
    eprintln!("== fuzz: ok");
    Ok(())
}

fn table(runs: &[Run]) -> String {
    let head = "| target | executions | edges | inputs | crashes |\n|---|---:|---:|---:|---:|\n";
    runs.iter().fold(head.to_owned(), |table, run| {
        let Tally { executions, edges, inputs } = run.tally;
        let crashes = u8::from(run.finding.is_some());
        table + &format!("| {} | {executions} | {edges} | {inputs} | {crashes} |\n", run.target)
    })
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
fn run_target(target: &str, effort: Effort) -> anyhow::Result<Run> {
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
        format!("-malloc_limit_mb={MOST_MEMORY}"),
        // An input that takes longer is a loop.
        "-timeout=10".to_owned(),
        "-print_final_stats=1".to_owned(),
    ]);
    let (status, text) = logged(&mut command, &log)?;
    let finding = (!status.success()).then(|| finding(target, &text, &log));
    let tally = match (tally(&text), &finding) {
        (Some(tally), _) => tally,
        // It has not come so far.
        (None, Some(_)) => Tally::default(),
        (None, None) => bail!("{}: no tally", log.display()),
    };
    Ok(Run { target: target.to_owned(), tally, finding })
}

/// What libFuzzer says at the end, and also after a crash.
fn tally(log: &str) -> Option<Tally> {
    let number = |line: &str, before: &str| {
        line.split_once(before)?.1.split([' ', '/']).find(|word| !word.is_empty())?.parse().ok()
    };
    let last = |with: &str| log.lines().rev().find(|line| line.contains(with));
    let executions = "stat::number_of_executed_units:";
    let covered = last(" cov: ")?;
    Some(Tally {
        executions: number(last(executions)?, executions)?,
        edges: number(covered, " cov: ")?,
        inputs: number(covered, " corp: ").unwrap_or(0),
    })
}

/// Why it has ended early, where the input is, and the command that repeats it.
fn finding(target: &str, log: &str, path: &Path) -> String {
    let why = excerpt(log, FOUND);
    let written = log.lines().rev().find_map(|line| line.split_once("Test unit written to "));
    let again = match written {
        Some((_, input)) => {
            let input = Path::new(input.trim());
            let input = input.strip_prefix(root()).unwrap_or(input).display();
            format!("the input: {input}\nagain: cargo +nightly fuzz run {target} {input}")
        }
        None => "no input was written".to_owned(),
    };
    format!(
        "== fuzz target {target} has found something:\n{why}all of it: {}\n{again}\n",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 40Mb\n\
        #9000\tDONE   cov: 412 ft: 1931 corp: 361/21Kb lim: 1024 exec/s: 4500 rss: 80Mb\n\
        Done 9000 runs in 2 second(s)\n\
        stat::number_of_executed_units: 9000\n";

    #[test]
    fn a_tally_is_read_from_the_last_lines() {
        assert_eq!(tally(GOOD), Some(Tally { executions: 9000, edges: 412, inputs: 361 }));
        assert_eq!(tally("Done 9000 runs in 2 second(s)\n"), None);
    }

    #[test]
    fn a_crash_is_counted_beside_the_others_and_can_be_repeated() {
        let input = "fuzz/artifacts/rng/crash-12";
        let log = format!(
            "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 40Mb\n\
             thread '<unnamed>' panicked at fuzz/src/devices/rng.rs:1:2:\n\
             artifact_prefix='x'; Test unit written to {}\n\
             stat::number_of_executed_units: 77\n",
            root().join(input).display()
        );
        let text = finding("rng", &log, Path::new("rng.log"));
        assert!(text.contains("panicked at fuzz/src") && text.contains("rng.log"), "{text}");
        let again = format!("\nagain: cargo +nightly fuzz run rng {input}\n");
        assert!(text.contains(&again), "{text}");
        let run = |target: &str, log, finding| Run {
            target: target.to_owned(),
            tally: tally(log).unwrap(),
            finding,
        };
        let runs = [run("fdt", GOOD, None), run("rng", &log, Some(text))];
        let table = table(&runs);
        assert!(table.contains("| fdt | 9000 | 412 | 361 | 0 |\n"), "{table}");
        assert!(table.ends_with("| rng | 77 | 10 | 1 | 1 |\n"), "{table}");
        assert!(report(&runs).unwrap_err().to_string().starts_with("1 fuzz target"));
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
