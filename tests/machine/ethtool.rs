//! What ethtool(8) does, for guests that have none: this very program, which a 64-bit guest gets on a disk, and runs
//! one of its tests.

use crate::sockios::{set_feature, set_pairs};
use crate::vm::arg;

/// How the guest's shell tells what to do.
const WISH: &str = "CUBIE_ETHTOOL";

/// A disk that holds this program.
pub(crate) fn disk(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    let disk = std::fs::File::options().write(true).open(&path).unwrap();
    let len = disk.metadata().unwrap().len();
    disk.set_len(len.next_multiple_of(512)).unwrap();
    arg(path)
}

/// The guest's command that sets `what` of eth0 to `value`, the number of `channels` or a feature as `ethtool -k`
/// calls it, when `program` is where it has copied the disk.
pub(crate) fn command(program: &str, what: &str, value: usize) -> String {
    format!("{WISH}='{what} {value}' {program} --ignored --exact ethtool::in_a_guest")
}

#[test]
#[ignore = "a guest runs it, see `command`"]
fn in_a_guest() {
    let wish = std::env::var(WISH).expect("what to do");
    let (what, value) = wish.split_once(' ').expect("what, and to which value");
    let value = value.parse().expect("a number");
    match what {
        "channels" => set_pairs("eth0", value).unwrap(),
        feature => set_feature("eth0", feature, value != 0).unwrap(),
    }
}
