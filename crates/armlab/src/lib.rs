//! An ARM machine with KVM on any Linux box, and the guest images.
//!
//! This project runs on KVM for ARM; most machines are x86-64. QEMU can emulate an ARM64 CPU with EL2, and the
//! Linux that boots on it has a working `/dev/kvm`: that is the *lab*. A program for ARM64 runs in the lab as if
//! it ran here: same files at the same paths, same working folder, environment, terminal, pipes, signals and
//! exit status. It is for whoever works on the other crates, and serves three callers:
//!
//! * **Cargo.** `.cargo/config.toml` names `armlab run` as the runner of `aarch64-unknown-linux-musl`, so that
//!   `cargo test --target aarch64-unknown-linux-musl` and `cargo run --target …` just work.
//! * **Programs that need ARM KVM** and find themselves elsewhere: [`relay::run`].
//! * **Developer commands and benchmarks**: [`Lab::run`] and [`Lab::output`].
//!
//! On an ARM64 machine `armlab run` turns into the program at once, and nothing else of this is used.
//! [`images`] prepares what all of them boot, from Debian's packages.
//!
//! # Key types
//!
//! * [`Machine`] is the lab's hardware: version of the GIC, CPUs, memory, `icount`. Each is a lab of its own.
//! * [`Lab`] is a running lab that this process uses.
//! * [`RunOptions`] is a command with its environment, working folder and time limit.
//! * [`wire`] is what runner and agent say to each other.
//!
//! # Lifecycle
//!
//! 1. [`Lab::open`] prepares the kernel and builds the agent (`armlab-agent`), when they are missing or old.
//! 2. If no such lab runs, it starts a *keeper*: a detached process that owns QEMU and ends it when it does not
//!    come up in 60 s, when nobody has used it for a minute, or when `armlab stop` says so. File locks in the
//!    user's runtime folder make one of those who come at the same time start the lab, and the others join it.
//! 3. In the lab the agent is the first process. It mounts the outer root by 9P, without a cache, so that both
//!    sides see each other's changes at once; binds all folders but those of programs and of the kernel to
//!    their own paths; and listens on QEMU's user-mode network for those who know the lab's token.
//! 4. [`Lab::run`] connects and sends the command. The agent starts it in a session and a control group of its
//!    own. What is a terminal outside is one inside.
//! 5. When the command ends, whatever it has left running is killed, its last output is delivered, and its
//!    status. When the runner goes away first, however it goes, the command is killed.
//! 6. A lab that has not answered for 30 s is ended, and the run fails with the path of the lab's console log.
//!
//! # Invariants
//!
//! * The outer terminal has its old settings again after each run, also after errors, panics and signals.
//! * Nothing in a run can block the heartbeat: both ends are one loop over `poll`, with bounded buffers.
//! * No process outlives what it is for: QEMU dies with its keeper, a command with its runner.
//!
//! # Example
//!
//! ```
//! use cubie_armlab::{Lab, Machine, RunOptions, relay};
//!
//! # fn main() -> anyhow::Result<()> {
//! if relay::is_needed() {
//!     let lab = Lab::open(&Machine::default())?;
//!     let output = lab.output(&RunOptions::new(["uname", "-m"])?, b"")?;
//!     assert_eq!(output.stdout, b"aarch64\n");
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "host")]
mod cargo;
#[cfg(feature = "host")]
pub mod images;
#[cfg(feature = "host")]
mod lab;
#[cfg(feature = "host")]
mod machine;
#[cfg(feature = "host")]
pub mod relay;
#[cfg(feature = "host")]
mod run;
pub mod wire;

#[cfg(feature = "host")]
pub use lab::{Lab, Running, keeper};
#[cfg(feature = "host")]
pub use machine::{Gic, Machine};
#[cfg(feature = "host")]
pub use run::{Expired, RunOptions, end_like};
