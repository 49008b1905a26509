//! Developer commands: `cargo xtask --help`.
#![forbid(unsafe_code)]

mod at_once;
mod bench;
mod ci;
mod conformance;
mod excerpts;
mod fence;
mod figures;
mod floors;
mod fuzz;
mod hostile;
mod miri;
mod new_device;
mod readme;
mod setup;
mod shell;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of cubie.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what this machine lacks: QEMU, and the kernels and images of the guests (as root; says
    /// what it does first).
    Setup,
    /// Run all tests: natively, then in the ARM lab with 32- and 64-bit Linux guests.
    Test {
        /// Only the tests that need no lab.
        #[arg(long)]
        native: bool,
    },
    /// Everything that a change must pass: format, lints, tests, docs, floors, unsafe fence,
    /// conformance page, licences, packages, Miri, fuzz targets, attacks on the devices, README.
    Ci,
    /// Run the fuzz targets: say how much they have tried, and what they have found.
    Fuzz {
        /// Only this one, such as `packed` or `loader`.
        target: Option<String>,
        #[command(flatten)]
        effort: fuzz::Effort,
    },
    /// Attack the devices, in release builds, and say what that came to.
    Hostile {
        /// Only this one, such as `virtio-net`.
        device: Option<String>,
        #[command(flatten)]
        effort: hostile::Effort,
    },
    /// Run the rings' tests under Miri.
    Miri,
    /// Run the benchmarks, write their tables to target/figures and put them into the README.
    Bench {
        /// Only this one, such as `boot`.
        name: Option<String>,
    },
    /// Make the crate of a new device, which works and is tested: docs/your-device.md.
    NewDevice {
        /// What it is called, such as `speed-meter`: lower-case words joined by hyphens.
        name: String,
    },
    /// Check only that each crate depends on lower floors.
    Floors,
    /// Check only that `unsafe` stays in the listed files.
    Fence,
    /// Check only that the tests named in docs/conformance.md exist, and count its rules.
    Conformance,
}

fn main() -> ExitCode {
    let Err(error) = run(Cli::parse().command) else { return ExitCode::SUCCESS };
    eprintln!("xtask: {error:#}");
    ExitCode::FAILURE
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Setup => setup::setup(),
        Command::Test { native } => test::test(!native),
        Command::Ci => ci::ci(),
        Command::Bench { name } => bench::bench(name.as_deref()),
        Command::Fuzz { target, effort } => fuzz::fuzz(target.as_deref(), effort),
        Command::Hostile { device, effort } => hostile::hostile(device.as_deref(), effort),
        Command::Miri => miri::miri(),
        Command::NewDevice { name } => new_device::new_device(&name),
        Command::Floors => floors::check(),
        Command::Fence => fence::check(),
        Command::Conformance => conformance::check(),
    }
}
