//! What interrupts and kicks cost: exits and instructions of a boot, of a 4 KiB read and of a ping, with the
//! registers in a page and trapped, beside QEMU's virtio-mmio and virtio-pci with MSI.
//!
//! All run on the same ARM KVM in the same run. On a machine without it that is the lab, with `icount`: its
//! clock then counts instructions, of guest, kernel and VMM together. That lab has one CPU.

#[cfg(target_arch = "aarch64")]
#[path = "../figures/mod.rs"]
mod figures;
#[cfg(target_arch = "aarch64")]
#[path = "../guests/mod.rs"]
mod guests;
#[cfg(not(target_arch = "aarch64"))]
#[path = "../lab/mod.rs"]
mod lab;
#[cfg(target_arch = "aarch64")]
#[path = "../session/mod.rs"]
mod session;
#[cfg(target_arch = "aarch64")]
mod table;
#[cfg(target_arch = "aarch64")]
mod work;

#[cfg(not(target_arch = "aarch64"))]
fn main() -> anyhow::Result<()> {
    lab::run("exits")
}

#[cfg(target_arch = "aarch64")]
fn main() -> anyhow::Result<()> {
    use guests::{ARCHES, Shelf, cubie, qemu};

    let shelf = Shelf::new()?;
    let (program, peer) = (shelf.cubie()?, shelf.qemu()?);
    let disk = tempfile::NamedTempFile::new()?;
    disk.as_file().set_len(work::DISK)?;
    let disk = disk.path();
    let mut measured = vec![];
    for (arch, name) in ARCHES {
        let image = shelf.guest(arch)?;
        let mut sides = vec![];
        for side in table::SIDES {
            eprintln!("{name}: {side} …");
            let mut command = match side.ours() {
                Some(options) => {
                    let mut command = cubie(&program, name, &image);
                    command.args(options).arg("--disk").arg(disk);
                    command
                }
                None => qemu(&peer, arch, &image, &side.devices(disk)),
            };
            sides.push(work::measure(&mut command)?);
        }
        measured.push((name, sides));
    }
    table::publish_all(&measured)
}
