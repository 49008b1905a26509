//! A disk as a vhost-user daemon: ours, and QEMU's `qemu-storage-daemon` with `aio=io_uring`.
//!
//! No VM: the driver is the crate `virtio-driver` (that of blkio), in this process. Each daemon is a process of its
//! own, which serves the same image: ours is this program, started once more. Where there are several CPUs, the
//! driver has the first one and the daemons have the others.
//!
//! # What is measured
//!
//! The driver keeps so many requests in flight, offers again what came back, kicks once for all of that, and sleeps
//! until it is called; or it looks at its ring without a pause and is not called at all («polling»).
//!
//! * Requests a second, and for long ones bytes a second. Short slices of both daemons in turns, for a virtual CPU's
//!   speed changes within seconds; the table has the medians, ratios are medians of each slice's.
//! * CPU time of the daemon's process with all its threads, the kernel's for its io_uring included.
//! * System calls of the daemon, counted by the kernel in a slice of their own, where there is tracefs and one is
//!   root.
//!
//! On tmpfs, no disk is waited for: what is left is the device. The disk is what the target folder lies on, past the
//! page cache.

#[cfg(target_env = "gnu")]
mod case;
#[cfg(target_env = "gnu")]
mod cpus;
#[cfg(target_env = "gnu")]
mod daemon;
#[cfg(target_env = "gnu")]
mod driver;
#[cfg(target_env = "gnu")]
#[path = "../figures/mod.rs"]
mod figures;
#[cfg(target_env = "gnu")]
mod image;
#[cfg(target_env = "gnu")]
#[path = "../syscalls/mod.rs"]
mod syscalls;
#[cfg(target_env = "gnu")]
mod table;
#[cfg(target_env = "gnu")]
mod time;

#[cfg(not(target_env = "gnu"))]
fn main() {
    eprintln!("not measured: the crate virtio-driver is for glibc only");
}

#[cfg(target_env = "gnu")]
fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == daemon::ARGUMENT) {
        return daemon::serve(&arguments[at + 1..]);
    }
    if !daemon::is_peer_here() {
        eprintln!("not measured: there is no {} (apt install qemu-system-common)", daemon::PEER);
        return Ok(());
    }
    let cpus = cpus::Cpus::of_this_thread()?;
    let mut measured = vec![];
    for place in image::Place::ALL {
        measured.extend(time::all_on(place, &cpus)?);
    }
    table::publish_all(&measured)
}
