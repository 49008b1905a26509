//! Running commands, each said before it starts and timed when it ends.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

/// The target of everything that runs in the lab.
pub(crate) const ARM: &str = "aarch64-unknown-linux-musl";

/// `cargo` with these arguments, from the workspace's root.
pub(crate) fn cargo(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args(args.split_whitespace());
    command
}

/// Nightly's `cargo` with these arguments, from the workspace's root: for what the stable one lacks.
pub(crate) fn nightly(args: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).args(args.split_whitespace()).current_dir(root());
    command
}

/// The workspace's root folder.
pub(crate) fn root() -> &'static std::path::Path {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("xtask lies two folders below the root")
}

/// Runs `command`; an error unless it succeeds.
pub(crate) fn run(what: &str, command: &mut Command) -> anyhow::Result<()> {
    eprintln!("\n== {what}");
    let start = Instant::now();
    let status = command.status().with_context(|| format!("{what}: cannot start"))?;
    if !status.success() {
        bail!("{what}: {status}");
    }
    eprintln!("== {what}: ok, {} s", start.elapsed().as_secs());
    Ok(())
}
