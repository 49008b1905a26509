//! What a machine is at that does not answer.

use std::thread::sleep;
use std::time::Duration;

use crate::vm::host;

/// Of process `pid`, twice, so that one sees what moves: each thread's state, the ticks that it has run for
/// itself and in the kernel, and where it sleeps there; and what KVM has counted of its guest.
pub(crate) fn of(pid: u32) -> String {
    let threads = "for t in *; do \
        echo \"$(cat $t/comm): $(sed 's/.*) //' $t/stat | cut -d' ' -f1,12,13) $(cat $t/wchan)\"; done";
    let counts = "grep -v '^0$' exits *_exit* halt_* | paste -sd' '";
    let look = format!(
        "(cd /proc/{pid}/task && {threads}; cd /sys/kernel/debug/kvm/{pid}-* && {counts}) 2>/dev/null || true"
    );
    let first = host(&look);
    // Long enough for a tick or two of whatever is alive.
    sleep(Duration::from_secs(1));
    format!("{first}a second later:\n{}", host(&look))
}
