//! Which environment variables go into the lab.

use std::ffi::OsString;
use std::path::Path;

/// Variables that describe the outer machine and would mislead a program in the lab. `CARGO_PKG_…` and its
/// kin are those of this crate when cargo has started the runner with `cargo run`.
const OUTSIDE: [&str; 16] = [
    "PATH",
    "LD_",
    "TMPDIR",
    "TMP",
    "TEMP",
    "SHELL",
    "XDG_RUNTIME_DIR",
    "XDG_SESSION_",
    "DBUS_",
    "SSH_",
    "DISPLAY",
    "WAYLAND_",
    "OLDPWD",
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_NAME",
];

/// This process's environment as far as it has a meaning in the lab.
pub(super) fn inherited(cwd: &Path) -> Vec<(OsString, OsString)> {
    let inside = |name: &OsString| !is_outside(&name.to_string_lossy());
    let mut environment: Vec<_> = std::env::vars_os().filter(|(name, _)| inside(name)).collect();
    if cwd.join("Cargo.toml").is_file() {
        // `cargo test` starts a test in its package's folder.
        environment.push(("CARGO_MANIFEST_DIR".into(), cwd.into()));
    }
    environment
}

/// An entry that ends with an underscore stands for all names that begin with it.
fn is_outside(name: &str) -> bool {
    OUTSIDE.iter().any(|entry| name == *entry || entry.ends_with('_') && name.starts_with(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_describes_the_outer_machine_stays_there() {
        for name in ["PATH", "LD_PRELOAD", "TMPDIR", "XDG_RUNTIME_DIR", "CARGO_PKG_NAME"] {
            assert!(is_outside(name), "{name}");
        }
    }

    #[test]
    fn what_programs_and_tests_look_at_goes_in() {
        for name in ["HOME", "TERM", "XDG_CACHE_HOME", "CUBIE_CACHE", "RUST_BACKTRACE", "PATHS"] {
            assert!(!is_outside(name), "{name}");
        }
    }
}
