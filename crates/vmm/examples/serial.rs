//! The smallest monitor: a kernel, an initrd, two CPUs, and a serial console to look at.
//!
//! `cargo run --target aarch64-unknown-linux-musl -p cubie-vmm --example serial -- arm64 KERNEL INITRD [PARAMS]`

#[cfg(not(target_arch = "aarch64"))]
fn main() {
    eprintln!("KVM for ARM needs an ARM machine: build for aarch64-unknown-linux-musl");
    std::process::exit(1);
}

#[cfg(target_arch = "aarch64")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use cubie_arm_kvm::{GuestMode, Kvm, VmConfig};
    use cubie_hv::Gic;
    use cubie_vmm::loader::{KERNEL_LIMIT, Kernel, read_file};
    use cubie_vmm::{Arch, Machine, MachineConfig, Outcome, Uart, layout};

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [arch, kernel, initrd, params @ ..] = arguments.as_slice() else {
        return Err("usage: serial arm64|armv7 KERNEL INITRD [PARAMS]".into());
    };
    let (arch, guest) = match arch.as_str() {
        "armv7" => (Arch::Armv7, GuestMode::Aarch32),
        _ => (Arch::Arm64, GuestMode::Aarch64),
    };
    let memory = 512 << 20;
    let kernel = read_file("KERNEL", Path::new(kernel), KERNEL_LIMIT)?;
    let config = MachineConfig {
        memory,
        shared_memory: false,
        cpus: 2,
        kernel: Kernel::from_bytes(kernel, arch)?,
        initrd: Some(read_file("INITRD", Path::new(initrd), memory as usize)?),
        command_line: format!("console=ttyS0 {}", params.join(" ")),
        pin: true,
        transports: vec![],
    };
    let hardware = VmConfig {
        guest,
        gic: Gic::V2 {
            distributor: layout::GIC_DISTRIBUTOR.start,
            cpu_interface: layout::GIC_CPU_INTERFACE.start,
        },
        vcpus: config.cpus,
    };

    let kvm = Kvm::open()?;
    let uart = Arc::new(Mutex::new(Uart::new(Box::new(std::io::stdout()))?));
    let mut devices = vec![];
    loop {
        let vm = kvm.create_vm(hardware)?;
        let (outcome, stopped) = Machine::build(vm, &config, devices, uart.clone())?.run()?;
        devices = stopped;
        match outcome {
            Outcome::Reset => {}
            Outcome::Off | Outcome::Quit => return Ok(()),
            Outcome::Crash(text) => return Err(text.into()),
        }
    }
}
