//! The nodes, top to bottom.

use std::collections::HashSet;

use vm_fdt::{Error, FdtWriter};

use super::cells::{InterruptCells, Sense, reg};
use super::{Description, InterruptController, Peripheral};
use crate::Arch;
use crate::layout::TIMER_PPIS;

/// What every node's interrupts refer to: the GIC.
const GIC_PHANDLE: u32 = 1;

/// What feeds the 16550's divider on the board, in Hz: 24 MHz / 16 / 13 is 115200 baud.
const UART_CLOCK: u32 = 24_000_000;

type Written = Result<(), Error>;

pub(super) fn write(description: &Description) -> Result<Vec<u8>, Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", GIC_PHANDLE)?;
    fdt.property_string("model", "cubie CubieTruck")?;
    fdt.property_string("compatible", "linux,dummy-virt")?;
    chosen(&mut fdt, description)?;
    memory(&mut fdt, description)?;
    cpus(&mut fdt, description)?;
    psci(&mut fdt, description.arch)?;
    timer(&mut fdt, description)?;
    interrupt_controller(&mut fdt, &description.interrupts)?;
    if let Some(peripheral) = &description.uart {
        uart(&mut fdt, peripheral)?;
    }
    for peripheral in description.virtio {
        virtio(&mut fdt, peripheral)?;
    }
    fdt.end_node(root)?;
    fdt.finish()
}

/// A name that two nodes would have. The others differ, whatever is asked for.
pub(super) fn twice(description: &Description) -> Option<String> {
    let cpus = description.cpus.iter().map(cpu_name);
    let virtio = description.virtio.iter().map(virtio_name);
    let mut names = HashSet::new();
    cpus.chain(virtio).find(|name| !names.insert(name.clone()))
}

/// What is the boot loader's to say (Devicetree Specification §3.6; Linux, bindings/chosen.txt).
fn chosen(fdt: &mut FdtWriter, description: &Description) -> Written {
    if let Some(uart) = &description.uart {
        let aliases = fdt.begin_node("aliases")?;
        fdt.property_string("serial0", &format!("/{}", uart_name(uart)))?;
        fdt.end_node(aliases)?;
    }
    let chosen = fdt.begin_node("chosen")?;
    fdt.property_string("bootargs", description.bootargs)?;
    if description.uart.is_some() {
        fdt.property_string("stdout-path", "serial0:115200n8")?;
    }
    if let Some(initrd) = &description.initrd {
        fdt.property_u64("linux,initrd-start", initrd.start)?;
        fdt.property_u64("linux,initrd-end", initrd.end)?;
    }
    fdt.property("rng-seed", &description.rng_seed)?;
    if description.arch == Arch::Arm64 {
        fdt.property_u64("kaslr-seed", description.kaslr_seed)?;
    }
    fdt.end_node(chosen)
}

fn memory(fdt: &mut FdtWriter, description: &Description) -> Written {
    let range = &description.memory;
    let memory = fdt.begin_node(&format!("memory@{:x}", range.start))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &reg(range))?;
    fdt.end_node(memory)
}

fn cpus(fdt: &mut FdtWriter, description: &Description) -> Written {
    let compatible = match description.arch {
        Arch::Armv7 => "arm,cortex-a7",
        Arch::Arm64 => "arm,armv8",
    };
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for affinity in description.cpus {
        let cpu = fdt.begin_node(&cpu_name(affinity))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", compatible)?;
        fdt.property_string("enable-method", "psci")?;
        fdt.property_u32("reg", *affinity)?;
        if description.arch == Arch::Armv7 {
            fdt.property_u32("clock-frequency", CLOCK_FREQUENCY)?;
        }
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)
}

fn cpu_name(affinity: &u32) -> String {
    format!("cpu@{affinity:x}")
}

/// In Hz, the board's. 32-bit kernels complain without one; they only compare CPUs by it.
const CLOCK_FREQUENCY: u32 = 912_000_000;

/// Power management by hypervisor call (ARM DEN 0022). The function numbers are for kernels that know
/// PSCI 0.1 only; 64-bit guests have their own ones (SMC64).
fn psci(fdt: &mut FdtWriter, arch: Arch) -> Written {
    let width = match arch {
        Arch::Armv7 => 0,
        Arch::Arm64 => 0x4000_0000,
    };
    let compatible = ["arm,psci-1.0", "arm,psci-0.2", "arm,psci"].map(String::from);
    let psci = fdt.begin_node("psci")?;
    fdt.property_string_list("compatible", compatible.into())?;
    fdt.property_string("method", "hvc")?;
    fdt.property_u32("cpu_suspend", 0x8400_0001 | width)?;
    fdt.property_u32("cpu_off", 0x8400_0002)?;
    fdt.property_u32("cpu_on", 0x8400_0003 | width)?;
    fdt.property_u32("migrate", 0x8400_0005 | width)?;
    fdt.end_node(psci)
}

/// The architected timer (Linux, bindings/timer/arm,arch_timer.yaml).
fn timer(fdt: &mut FdtWriter, description: &Description) -> Written {
    let compatible = match description.arch {
        Arch::Armv7 => "arm,armv7-timer",
        Arch::Arm64 => "arm,armv8-timer",
    };
    let cpus = description.cpus.len();
    let interrupts = TIMER_PPIS.map(|ppi| InterruptCells::ppi(ppi, Sense::LevelHigh, cpus).cells());
    let timer = fdt.begin_node("timer")?;
    fdt.property_string("compatible", compatible)?;
    fdt.property_array_u32("interrupts", interrupts.as_flattened())?;
    fdt.property_null("always-on")?;
    fdt.end_node(timer)
}

fn interrupt_controller(fdt: &mut FdtWriter, controller: &InterruptController) -> Written {
    match controller {
        InterruptController::GicV2 { distributor, cpu_interface } => {
            let name = format!("interrupt-controller@{:x}", distributor.start);
            let gic = fdt.begin_node(&name)?;
            fdt.property_string("compatible", "arm,cortex-a7-gic")?;
            fdt.property_null("interrupt-controller")?;
            fdt.property_u32("#interrupt-cells", InterruptCells::COUNT)?;
            fdt.property_u32("#address-cells", 0)?;
            let frames = [reg(distributor), reg(cpu_interface)];
            fdt.property_array_u64("reg", frames.as_flattened())?;
            fdt.property_phandle(GIC_PHANDLE)?;
            fdt.end_node(gic)
        }
    }
}

fn uart_name(uart: &Peripheral) -> String {
    format!("serial@{:x}", uart.registers.start)
}

/// A 16550 whose registers are words (Linux, bindings/serial/8250.yaml). Its line is that of an
/// eventfd, which is a pulse: edge triggered, unlike the board's.
fn uart(fdt: &mut FdtWriter, uart: &Peripheral) -> Written {
    let node = fdt.begin_node(&uart_name(uart))?;
    fdt.property_string("compatible", "ns16550a")?;
    peripheral(fdt, uart)?;
    fdt.property_u32("clock-frequency", UART_CLOCK)?;
    fdt.property_u32("reg-shift", 2)?;
    fdt.property_u32("reg-io-width", 4)?;
    fdt.end_node(node)
}

fn virtio_name(device: &Peripheral) -> String {
    format!("virtio@{:x}", device.registers.start)
}

/// One transport (VIRTIO 1.4 §4.2.1).
fn virtio(fdt: &mut FdtWriter, device: &Peripheral) -> Written {
    let node = fdt.begin_node(&virtio_name(device))?;
    fdt.property_string("compatible", "virtio,mmio")?;
    peripheral(fdt, device)?;
    fdt.property_null("dma-coherent")?;
    fdt.end_node(node)
}

fn peripheral(fdt: &mut FdtWriter, peripheral: &Peripheral) -> Written {
    let interrupt = InterruptCells::spi(peripheral.spi, Sense::EdgeRising);
    fdt.property_array_u64("reg", &reg(&peripheral.registers))?;
    fdt.property_array_u32("interrupts", &interrupt.cells())
}
