//! The README's commands are real.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use anyhow::{Context, bail, ensure};

use crate::shell::{cargo, root};

/// Every `cargo …` line in the README's code blocks.
fn commands(readme: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = vec![];
    for line in readme.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if let Some(command) = line.trim_start_matches("$ ").strip_prefix("cargo ")
            && inside
        {
            found.push(command.split('#').next().unwrap_or_default().trim().to_owned());
        }
    }
    found
}

pub(crate) fn check() -> anyhow::Result<()> {
    let readme = fs::read_to_string(root().join("README.md")).context("README.md")?;
    let commands = commands(&readme);
    ensure!(
        commands.first().is_some_and(|c| c == "run --example cubietruck-vm"),
        "the README's first command starts the example"
    );
    ensure!(commands.get(1).is_some_and(|c| c == "xtask test"), "the second runs the tests");
    boot_the_example()
}

/// The first command, with a script that types once it sees the prompt.
fn boot_the_example() -> anyhow::Result<()> {
    eprintln!("\n== README: cargo run --example cubietruck-vm");
    let mut child = cargo("run --quiet --example cubietruck-vm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut stdin, mut stdout) = (child.stdin.take(), child.stdout.take().context("a pipe")?);
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    // The lab has a deadline of its own, so that the output ends whatever happens.
    while let count @ 1.. = stdout.read(&mut bytes)? {
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if text.contains("/root # ")
            && let Some(mut stdin) = stdin.take()
        {
            stdin.write_all(
                b"ls /sys/bus/virtio/devices | wc -l | sed 's/^/devices: /'\npoweroff\n",
            )?;
        }
    }
    let status = child.wait()?;
    if !status.success() || !text.contains("devices: 4") {
        bail!("the example did not boot to a shell with four devices ({status}):\n{text}");
    }
    eprintln!("== README: ok");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_code_blocks_only() {
        let readme = "cargo no\n```console\n$ cargo run --example x  # boots\n```\ncargo no\n";
        assert_eq!(commands(readme), ["run --example x"]);
    }
}
