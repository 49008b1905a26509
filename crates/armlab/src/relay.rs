//! Programs of this workspace that find themselves on a machine without ARM KVM, and go to the lab.

use crate::cargo::{self, TARGET};
use crate::lab::Lab;
use crate::machine::Machine;
use crate::run::RunOptions;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

/// A program of the workspace's root package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program<'a> {
    /// `examples/NAME`, built with optimisation.
    Example(&'a str),
    /// `benches/NAME`, built with optimisation.
    Bench(&'a str),
}

/// Whether this machine cannot have ARM KVM at all.
#[must_use]
pub const fn is_needed() -> bool {
    cfg!(not(target_arch = "aarch64"))
}

/// Builds `program` for ARM64, with cargo's progress on standard error, and runs it in the lab of `machine`
/// with `arguments` on this process's streams, as [`Lab::run`] does.
///
/// # Errors
/// When it cannot be built, and as [`Lab::open`] and [`Lab::run`].
pub fn run(program: Program<'_>, machine: &Machine, arguments: &[OsString]) -> Result<ExitStatus> {
    let executable = build(program)?;
    let argv = [executable.into_os_string()].into_iter().chain(arguments.iter().cloned());
    Lab::open(machine)?.run(&RunOptions::new(argv)?)
}

/// Builds a program for the lab and says where it is.
///
/// # Errors
/// When it cannot be built; cargo's messages are on standard error.
pub fn build(program: Program<'_>) -> Result<PathBuf> {
    let (option, name) = match program {
        Program::Example(name) => ("--example", name),
        Program::Bench(name) => ("--bench", name),
    };
    let mut cargo = cargo::command();
    cargo.args(["build", "--release", "--package", "cubie", option, name, "--target", TARGET]);
    cargo
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut cargo = cargo.spawn().context("running cargo")?;
    let mut messages = String::new();
    if let Some(stdout) = &mut cargo.stdout {
        stdout.read_to_string(&mut messages)?;
    }
    if !cargo.wait()?.success() {
        bail!(
            "{name} could not be built for {TARGET}; is it installed? `rustup target add {TARGET}`"
        );
    }
    executable(&messages, name)
        .with_context(|| format!("cargo did not say where it has put {name}"))
}

/// The path of `name` among cargo's messages, one JSON object a line.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut named = messages.filter(|message| message["target"]["name"] == name);
    named.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_other_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"boot"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}
no json
{"reason":"compiler-artifact","target":{"name":"boot"},"executable":"/t/boot-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "boot"), Some(PathBuf::from("/t/boot-1")));
        assert_eq!(executable(messages, "none"), None);
    }
}
