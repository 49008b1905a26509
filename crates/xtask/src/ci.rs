//! Everything that a change must pass, the quickest first.

use std::process::Command;

use crate::shell::{ARM, cargo, root, run};
use crate::{
    conformance, excerpts, fence, floors, fuzz, hostile, miri, new_device, readme, setup, test,
};

/// Crates that are published, lowest floor first.
pub(crate) const PUBLISHED: [&str; 17] = [
    "cubie-vm-irq",
    "cubie-mmio-bus",
    "cubie-host-net",
    "cubie-virtq",
    "cubie-hv",
    "cubie-virtio-core",
    "cubie-arm-kvm",
    "cubie-virtio-net",
    "cubie-virtio-blk",
    "cubie-virtio-console",
    "cubie-virtio-rng",
    "cubie-vhost-user",
    "cubie-user-net",
    "cubie-netpath",
    "cubie-testkit",
    "cubie-vmm",
    "cubie",
];

pub(crate) fn ci() -> anyhow::Result<()> {
    run("format", &mut cargo("fmt --all --check"))?;
    floors::check()?;
    fence::check()?;
    conformance::check()?;
    excerpts::check()?;
    let lints = "clippy --workspace --all-targets --all-features";
    run("lints", &mut cargo(&format!("{lints} -- -D warnings")))?;
    run("lints on ARM", &mut cargo(&format!("{lints} --release --target {ARM} -- -D warnings")))?;
    // The crate for KVM is empty here, so that its page has nothing to link to.
    let doc = "doc --no-deps --workspace --exclude cubie-arm-kvm";
    run("docs", cargo(doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    let doc = format!("doc --no-deps --package cubie-arm-kvm --target {ARM}");
    run("docs on ARM", cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    new_device::check()?;
    licences()?;
    packages()?;
    miri::miri()?;
    fuzz::fuzz(None, fuzz::SHORT)?;
    hostile::hostile(None, hostile::USUAL)?;
    setup::setup()?;
    test::test(true)?;
    readme::check()
}

/// Licences, sources and duplicate versions (deny.toml), of the fuzz targets' own workspace as well.
fn licences() -> anyhow::Result<()> {
    let there = Command::new(env!("CARGO")).args(["deny", "--version"]).output();
    if !there.is_ok_and(|out| out.status.success()) {
        run("install cargo-deny", &mut cargo("install --quiet --locked cargo-deny"))?;
    }
    for (what, manifest) in
        [("licences", "Cargo.toml"), ("fuzz targets: licences", "fuzz/Cargo.toml")]
    {
        let mut deny = cargo("deny --workspace --manifest-path");
        deny.arg(manifest).arg("--config").arg(root().join("deny.toml"));
        let check = "check --hide-inclusion-graph licenses bans sources";
        run(what, deny.args(check.split(' ')))?;
    }
    Ok(())
}

/// Each published crate can be packaged: all files there, all fields filled.
fn packages() -> anyhow::Result<()> {
    let mut package = cargo("package --quiet --no-verify --allow-dirty");
    package.args(PUBLISHED.iter().flat_map(|name| ["-p", name])).current_dir(root());
    run("packages", &mut package)
}
