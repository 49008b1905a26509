//! Running commands, each said before it starts and timed when it ends.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus};
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
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
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

/// Runs `command`. How it has ended, and what it has said, which goes to the file `log`.
pub(crate) fn logged(command: &mut Command, log: &Path) -> anyhow::Result<(ExitStatus, String)> {
    let file = File::create(log)?;
    let status = command.stdout(file.try_clone()?).stderr(file).status()?;
    Ok((status, String::from_utf8_lossy(&fs::read(log)?).into_owned()))
}

/// Some lines of a log, from the first one on that has one of these `marks`, or the end.
pub(crate) fn excerpt(log: &str, marks: &[&str]) -> String {
    let lines: Vec<_> = log.lines().collect();
    let first = lines.iter().position(|line| marks.iter().any(|mark| line.contains(mark)));
    let first = first.unwrap_or(lines.len().saturating_sub(20));
    lines[first..].iter().take(60).fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_from_the_mark_on_or_the_end() {
        let log: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let shown = |mark| excerpt(&log, &[mark]);
        assert!(shown("line 7").starts_with("line 7\nline 8\n"));
        assert!(shown("line 7").ends_with("line 66\n"));
        assert!(shown("no such").starts_with("line 80\n"));
    }

    #[test]
    fn what_a_command_says_is_kept_and_returned() {
        let log = std::env::temp_dir().join(format!("xtask-{}.log", std::process::id()));
        let mut shell = Command::new("sh");
        let (status, text) =
            logged(shell.args(["-c", "echo one; echo two >&2; exit 3"]), &log).unwrap();
        assert_eq!((status.code(), text.as_str()), (Some(3), "one\ntwo\n"));
        assert_eq!(fs::read_to_string(&log).unwrap(), text);
        fs::remove_file(log).unwrap();
    }
}
