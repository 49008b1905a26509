//! Cargo, called from programs that cargo itself may have called.

use std::process::Command;

/// This crate's folder at the time it was built.
pub(crate) const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

/// The target of everything that runs in the lab.
pub(crate) const TARGET: &str = "aarch64-unknown-linux-musl";

/// Cargo in this crate's folder, without what an outer cargo has set for its own child.
pub(crate) fn command() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_a_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
            .iter()
            .any(|start| text.starts_with(start));
        if of_a_package || text.contains("RUSTFLAGS") || text == "CARGO_BUILD_TARGET" {
            cargo.env_remove(&name);
        }
    }
    if let Some(Ok(folder)) = std::env::var_os("CARGO_TARGET_DIR").map(std::path::absolute) {
        cargo.env("CARGO_TARGET_DIR", folder); // it may be relative to this process's folder
    }
    cargo.current_dir(FOLDER);
    cargo
}
