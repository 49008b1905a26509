//! The agent: built for the lab when its sources have changed.

use crate::cargo::{self, FOLDER, TARGET};
use anyhow::{Context, Result, bail};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The agent's executable in the cache folder `cache`, and a number that changes with its sources.
pub(super) fn executable(cache: &Path) -> Result<(PathBuf, u64)> {
    let version = sources()?;
    let folder = cache.join("agent");
    let file = folder.join(format!("armlab-agent-{version:016x}"));
    if !file.exists() {
        build(&folder, &file)?;
    }
    Ok((file, version))
}

/// Fingerprint of what the agent is made of.
fn sources() -> Result<u64> {
    let source = Path::new(FOLDER).join("src");
    let mut files = vec![source.join("wire.rs")];
    for folder in ["wire", "bin/armlab-agent"] {
        let folder = source.join(folder);
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            files.push(entry?.path());
        }
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(&file).with_context(|| format!("reading {}", file.display()))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Builds in a target folder of its own: the usual one may be locked by the cargo that waits for us.
fn build(folder: &Path, file: &Path) -> Result<()> {
    eprintln!("armlab: building the lab's agent, once");
    let target = folder.join("target");
    let status = cargo::command()
        .args(["build", "--release", "--target", TARGET, "--bin", "armlab-agent"])
        .arg("--no-default-features")
        .args(["--config", "profile.release.debug=false", "--target-dir"])
        .arg(&target)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!(
            "the lab's agent could not be built for {TARGET}; is it installed? `rustup target add {TARGET}`"
        );
    }
    let built = target.join(TARGET).join("release/armlab-agent");
    let fresh = file.with_extension(std::process::id().to_string());
    fs::copy(&built, &fresh).with_context(|| format!("copying {}", built.display()))?;
    fs::rename(&fresh, file)?;
    Ok(())
}
