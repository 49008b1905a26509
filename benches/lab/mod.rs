//! A benchmark of guests on a machine without ARM KVM: it goes to the lab.

use anyhow::ensure;
use cubie_armlab::Machine;
use cubie_armlab::images::Cache;
use cubie_armlab::relay::{self, Program};

/// Builds the example and runs `benches/NAME` beside it, in a lab that counts instructions.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    // The lab cannot fetch the peer: it only sees what is there.
    Cache::open()?.peer_qemu()?;
    relay::build(Program::Example("cubietruck-vm"))?;
    let machine = Machine { icount: true, ..Machine::from_env()? };
    let status = relay::run(Program::Bench(name), &machine, &[])?;
    ensure!(status.success(), "the measurement failed: {status}");
    Ok(())
}
