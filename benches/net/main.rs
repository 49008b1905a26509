//! What a MiB of TCP costs between a guest and its host: time, exits, interrupts and system calls, by each
//! kind of network, beside QEMU's virtio-mmio and virtio-pci with MSI.
//!
//! All run on the same ARM KVM in the same run, with the same kernel and program in the guest. On a machine
//! without ARM KVM that is the lab, with `icount`: its clock then counts instructions, of guest, kernel and
//! VMM together, so that what else the machine does changes nothing. That lab has one CPU: what several
//! queues gain by several CPUs does not show, what they cost does.

#[cfg(target_arch = "aarch64")]
#[path = "../figures/mod.rs"]
mod figures;
#[cfg(target_arch = "aarch64")]
mod guest;
#[cfg(target_arch = "aarch64")]
#[path = "../guests/mod.rs"]
mod guests;
#[cfg(target_arch = "aarch64")]
mod host;
#[cfg(not(target_arch = "aarch64"))]
#[path = "../lab/mod.rs"]
mod lab;
#[cfg(target_arch = "aarch64")]
#[path = "../session/mod.rs"]
mod session;
#[cfg(target_arch = "aarch64")]
mod side;
#[cfg(target_arch = "aarch64")]
#[path = "../../tests/machine/sockios.rs"]
mod sockios;
#[cfg(target_arch = "aarch64")]
#[path = "../syscalls/mod.rs"]
mod syscalls;
#[cfg(target_arch = "aarch64")]
mod table;
#[cfg(target_arch = "aarch64")]
mod work;

#[cfg(not(target_arch = "aarch64"))]
fn main() -> anyhow::Result<()> {
    lab::run("net")
}

#[cfg(target_arch = "aarch64")]
fn main() -> anyhow::Result<()> {
    use cubie_armlab::images::{GuestImage, append};
    use guests::{ARCHES, Shelf, cubie, qemu};
    use side::{Vmm, sides};

    let arguments: Vec<_> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == guest::ARGUMENT) {
        return guest::main(&arguments[at + 1..]);
    }
    let shelf = Shelf::new()?;
    let (program, peer) = (shelf.cubie()?, shelf.qemu()?);
    // The program is one of 64 bits.
    let [_, (arch, name)] = ARCHES;
    let image = shelf.guest(arch)?;
    let initrd = image.initrd.with_extension("bench");
    let own = std::fs::read(std::env::current_exe()?)?;
    append(&image.initrd, &initrd, &[(guest::PROGRAM, 0o755, &own)])?;
    let image = GuestImage { initrd, ..image };
    let mut measured = vec![];
    for side in sides() {
        eprintln!("{side} …");
        let mut command = match &side.vmm {
            Vmm::Cubie(network) => {
                let mut command = cubie(&program, name, &image);
                command.args(["--network", network]);
                command
            }
            Vmm::Qemu(devices) => qemu(&peer, arch, &image, devices),
        };
        match work::measure(&mut command, &side) {
            Ok(costs) => {
                measured.push((side.clone(), costs));
                // Again after each, so that a run that somebody ends leaves what it has.
                table::publish_all(&measured)?;
            }
            // Such as vhost behind QEMU's virtio-mmio.
            Err(error) => eprintln!("{side}: {error:#}"),
        }
    }
    Ok(())
}
