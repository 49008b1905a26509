//! The devices under attack: built once, in release, two at a time, and counted.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cargo_metadata::Message;

use crate::at_once::at_once;
use crate::shell::{cargo, excerpt, logged, root};

/// How long, and from where.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Effort {
    /// Steps of all attacks together.
    #[arg(long, default_value_t = STEPS)]
    steps: u64,
    /// Begin with the attack of this seed; with another one each time, unless it is given.
    #[arg(long)]
    seed: Option<u64>,
}

const STEPS: u64 = 10_000_000;
/// The attacks of `cargo xtask ci`: always from the same seed, since they test a change and not our luck.
pub(crate) const USUAL: Effort = Effort { steps: STEPS, seed: Some(1) };

/// The crates of devices begin with this.
const DEVICE: &str = "virtio-";
/// What a test says whose device is attacked,
const MACRO: &str = "cubie_testkit::hostile!(";
/// the module that this makes,
const MODULE: &str = "hostile::";
/// and how many tests are in one.
const TESTS: usize = 2;
/// How the message begins that shows an attack which succeeded.
const FOUND: &[&str] = &["an attack succeeded"];

/// A test binary with attacks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Suite {
    /// The folder of the device's crate, such as `virtio-net`,
    device: String,
    /// the test's source,
    source: PathBuf,
    /// and how many tests in it are attacks.
    tests: usize,
}

/// What the attacks on a device have come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    steps: u64,
    attacks: u64,
    /// Chains that came back.
    completions: u64,
    /// Those of them that the device has written to.
    written: u64,
}

/// Attacks all devices, or `only` this one.
pub(crate) fn hostile(only: Option<&str>, effort: Effort) -> anyhow::Result<()> {
    let suites = suites(only)?;
    let programs = build(&suites)?;
    let names = Vec::from_iter(suites.iter().map(|suite| suite.device.as_str())).join(", ");
    eprintln!("\n== hostile: {} steps against {names}", effort.steps);
    let tests: usize = suites.iter().map(|suite| suite.tests).sum();
    let share = effort.steps.div_ceil(tests as u64);
    let jobs: Vec<_> = suites.iter().zip(programs).collect();
    let results = at_once(&jobs, |(suite, program)| attack(suite, program, share, effort.seed));
    let mut table = "| device | steps | attacks | completions | written | seconds |\n\
                     |---|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for (suite, result) in suites.iter().zip(results) {
        let (Tally { steps, attacks, completions, written }, time) = result?;
        let (device, seconds) = (&suite.device, time.as_secs());
        table += &format!(
            "| {device} | {steps} | {attacks} | {completions} | {written} | {seconds} |\n"
        );
    }
    eprintln!("\n{table}\n== hostile: ok");
    Ok(())
}

/// The tests of devices that have attacks, or `only` this device's.
fn suites(only: Option<&str>) -> anyhow::Result<Vec<Suite>> {
    let mut suites = vec![];
    for folder in files(&root().join("crates"))? {
        let device = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let tests = folder.join("tests");
        if !device.starts_with(DEVICE) || !tests.exists() {
            continue;
        }
        for source in files(&tests)?.into_iter().filter(|file| file.is_file()) {
            let tests = TESTS * fs::read_to_string(&source)?.matches(MACRO).count();
            if tests > 0 {
                suites.push(Suite { device: device.clone(), source, tests });
            }
        }
    }
    let all = Vec::from_iter(suites.iter().map(|suite| suite.device.clone())).join(", ");
    suites.retain(|suite| only.is_none_or(|only| suite.device == only));
    // The longest first, so that none is alone at the end.
    suites.sort_by_key(|suite| Reverse(suite.tests));
    ensure!(!suites.is_empty(), "{} is not attacked; {all} are", only.unwrap_or("no device"));
    Ok(suites)
}

/// What is in a folder, in order.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Builds them all at once. Where each program is.
fn build(suites: &[Suite]) -> anyhow::Result<Vec<PathBuf>> {
    eprintln!("\n== hostile: build");
    let mut command = cargo("test --release --no-run --message-format json-render-diagnostics");
    for Suite { device, source, .. } in suites {
        let test = source.file_stem().unwrap_or_default();
        command.arg(format!("--package=cubie-{device}")).arg("--test").arg(test);
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the tests do not build: {}", output.status);
    let messages = Message::parse_stream(&output.stdout[..]).collect::<Result<Vec<_>, _>>()?;
    let program = |suite: &Suite| {
        let found = messages.iter().find_map(|message| match message {
            Message::CompilerArtifact(made) if made.target.src_path == suite.source => {
                made.executable.clone()
            }
            _ => None,
        });
        let path = found.with_context(|| format!("{}: no program", suite.source.display()))?;
        Ok(path.into_std_path_buf())
    };
    suites.iter().map(program).collect()
}

/// So many steps for each test of this device.
fn attack(
    Suite { device, tests, .. }: &Suite,
    program: &Path,
    steps: u64,
    seed: Option<u64>,
) -> anyhow::Result<(Tally, Duration)> {
    let folder = root().join("target/hostile");
    fs::create_dir_all(&folder)?;
    let log = folder.join(format!("{device}.log"));
    let mut command = Command::new(program);
    command.args([MODULE, "--nocapture", "--test-threads=1"]).current_dir(root());
    command.env("CUBIE_STEPS", steps.to_string()).env_remove("CUBIE_SEED");
    command.envs(seed.map(|seed| ("CUBIE_SEED", seed.to_string())));
    let begin = Instant::now();
    let (status, text) = logged(&mut command, &log)?;
    let why = excerpt(&text, FOUND);
    ensure!(status.success(), "{device}: {status}\n{why}all of it: {}", log.display());
    let tally = tally(&text, *tests).with_context(|| format!("{}: no tally", log.display()))?;
    Ok((tally, begin.elapsed()))
}

/// What so many tests say at their end, together.
fn tally(log: &str, tests: usize) -> Option<Tally> {
    let lines: Vec<_> =
        log.lines().filter_map(|line| line.split_once(" hostile steps in ")).collect();
    (lines.len() == tests).then_some(())?;
    let mut sum = Tally::default();
    for (before, after) in lines {
        let number = |text: &str, what: &str| text.strip_suffix(what)?.trim().parse::<u64>().ok();
        let mut counts = after.split(", ");
        sum.steps += number(before.rsplit(' ').next()?, "")?;
        sum.attacks += number(counts.next()?, " attacks")?;
        sum.completions += number(counts.next()?, " completions")?;
        sum.written += number(counts.next()?, " written")?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_the_sum_of_all_tests() {
        let log = "\nrunning 2 tests\n\
            test hostile::a ... 1000 hostile steps in 9 attacks, 205 completions, 17 written, from CUBIE_SEED=1 on, 9 steps/s\n\
            ok\n\
            test hostile::b ... 2000 hostile steps in 8 attacks, 100 completions, 3 written, from CUBIE_SEED=1 on, 9 steps/s\n\
            ok\n";
        let sum = Tally { steps: 3000, attacks: 17, completions: 305, written: 20 };
        assert_eq!(tally(log, 2), Some(sum));
        let half = log.lines().take(4).fold(String::new(), |text, line| text + line + "\n");
        assert_eq!(tally(&half, 2), None, "only one of them has run");
    }

    #[test]
    fn the_devices_are_attacked_and_others_are_refused() {
        let devices: Vec<_> = suites(None).unwrap().into_iter().map(|suite| suite.device).collect();
        for device in ["virtio-blk", "virtio-console", "virtio-net", "virtio-rng"] {
            assert!(devices.contains(&device.to_owned()), "{device} is not attacked");
        }
        let error = suites(Some("virtio-core")).unwrap_err().to_string();
        assert!(error.contains("virtio-core") && error.contains("virtio-rng"), "{error}");
    }
}
