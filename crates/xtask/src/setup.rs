//! What a fresh machine lacks.

use std::process::Command;

use cubie_armlab::images::{self, Cache, GuestArch, MissingTool};

use crate::shell::{cargo, nightly, run};

/// Installs the tools, prepares the images. Quick when all is there.
pub(crate) fn setup() -> anyhow::Result<()> {
    let missing = images::missing_tools();
    if !missing.is_empty() {
        images::install_tools(&missing)?;
    }
    let cache = Cache::open()?;
    cache.lab()?;
    for arch in [GuestArch::Armv7, GuestArch::Arm64] {
        cache.guest(arch)?;
    }
    Ok(())
}

/// Installs and prepares what our devices are tried with in other VMMs: QEMU for PCs, and a guest for it.
pub(crate) fn other_vmms() -> anyhow::Result<()> {
    let there = Command::new("qemu-system-x86_64").arg("--version").output();
    if there.is_err() {
        let (program, package) = ("qemu-system-x86_64", "qemu-system-x86");
        images::install_tools(&[MissingTool { program, package }])?;
    }
    Cache::open()?.guest(GuestArch::Amd64)?;
    Ok(())
}

/// Installs what Miri and the fuzz targets need of nightly.
pub(crate) fn rust_nightly() -> anyhow::Result<()> {
    const COMPONENTS: [&str; 2] = ["miri", "rust-src"];
    let list = ["component", "list", "--toolchain", "nightly", "--installed"];
    let there = Command::new("rustup").args(list).output()?;
    let there = String::from_utf8_lossy(&there.stdout).into_owned();
    if COMPONENTS.iter().all(|name| there.lines().any(|line| line.starts_with(name))) {
        return Ok(());
    }
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component"]);
    run("install Rust's nightly, miri, rust-src", install.arg(COMPONENTS.join(",")))
}

/// Installs what the fuzz targets need: cargo-fuzz, and for libFuzzer a C++ compiler.
pub(crate) fn cargo_fuzz() -> anyhow::Result<()> {
    let compiler = Command::new("c++").arg("--version").output();
    if compiler.is_err() {
        images::install_tools(&[MissingTool { program: "c++", package: "g++" }])?;
    }
    let there = nightly("fuzz --version").output()?;
    if !there.status.success() {
        run("install cargo-fuzz", &mut cargo("install --quiet --locked cargo-fuzz"))?;
    }
    Ok(())
}
