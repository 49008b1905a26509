//! The programs of the host that the lab needs, and their installation.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

use super::say;

/// A program that is not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingTool {
    /// What the lab runs.
    pub program: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
}

const TOOLS: [MissingTool; 1] =
    [MissingTool { program: "qemu-system-aarch64", package: "qemu-system-arm" }];

/// The programs that the lab needs and this machine lacks.
#[must_use]
pub fn missing_tools() -> Vec<MissingTool> {
    TOOLS.into_iter().filter(|tool| find(tool.program).is_none()).collect()
}

/// Installs `tools` through apt, after saying so.
///
/// # Errors
/// Where that takes a person, as without root or off Debian, the error says which commands to run.
pub fn install_tools(tools: &[MissingTool]) -> Result<()> {
    if tools.is_empty() {
        return Ok(());
    }
    let programs: Vec<_> = tools.iter().map(|tool| tool.program).collect();
    let programs = programs.join(", ");
    let commands = commands(tools);
    let spelled = commands.each_ref().map(|command| command.join(" ")).join(" && ");
    if find("apt-get").is_none() {
        bail!("{programs} must be installed; on Debian: {spelled}");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("{programs} must be installed by root: sudo sh -c '{spelled}'");
    }
    say(&format!("{programs} is missing; running: {spelled}"));
    let [update, install] = commands;
    // Stale package lists usually still do; if not, the installation says what is wrong.
    run(&update)?;
    if !run(&install)? {
        bail!("could not install {programs}: {} failed", install.join(" "));
    }
    Ok(())
}

/// Whether the command, which may talk on stderr, succeeded.
fn run(command: &[&str]) -> Result<bool> {
    let mut process = Command::new(command[0]);
    process.args(&command[1..]).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr());
    let status = process.status().with_context(|| format!("running {}", command.join(" ")))?;
    Ok(status.success())
}

/// The commands that install `tools`.
fn commands(tools: &[MissingTool]) -> [Vec<&'static str>; 2] {
    let mut install = vec!["apt-get", "install", "--yes", "--no-install-recommends"];
    install.extend(tools.iter().map(|tool| tool.package));
    [vec!["apt-get", "update"], install]
}

/// The program's file in a folder of PATH.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installation_is_two_commands() {
        let [update, install] = commands(&TOOLS);
        assert_eq!(update.join(" "), "apt-get update");
        assert_eq!(
            install.join(" "),
            "apt-get install --yes --no-install-recommends qemu-system-arm"
        );
    }

    #[test]
    fn programs_are_looked_for_in_path() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-of-cubie"), None);
    }

    #[test]
    fn nothing_is_run_when_nothing_is_missing() {
        install_tools(&[]).unwrap();
    }
}
