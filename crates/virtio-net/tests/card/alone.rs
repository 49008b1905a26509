//! A test in a process of its own.

use std::process::Command;

/// Whether this process is the one that the test `name` («module::name») is to run in. If not, that one was made,
/// and the test has passed in it: a limit that it sets there is of no other's concern.
#[track_caller]
pub(crate) fn is_alone(name: &str) -> bool {
    const ALONE: &str = "CUBIE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut this = Command::new(std::env::current_exe().unwrap());
    let output = this.args(["--exact", name, "--nocapture"]).env(ALONE, "").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{complained}");
    false
}
