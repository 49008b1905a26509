use dtoolkit::Node;
use dtoolkit::fdt::Fdt;
use expect_test::expect_file;

use super::*;
use crate::layout;

fn description() -> Description<'static> {
    Description {
        arch: Arch::Armv7,
        memory: 0x4000_0000..0x5000_0000,
        cpus: &[0, 1],
        interrupts: InterruptController::GicV2 {
            distributor: layout::GIC_DISTRIBUTOR,
            cpu_interface: layout::GIC_CPU_INTERFACE,
        },
        uart: Some(Peripheral { registers: layout::UART, spi: layout::UART_SPI }),
        virtio: &[],
        initrd: Some(0x4200_0000..0x4212_3456),
        bootargs: "console=hvc0 quiet",
        rng_seed: [0xa5; 64],
        kaslr_seed: 0x0123_4567_89ab_cdef,
    }
}

fn slots(count: usize) -> Vec<Peripheral> {
    (0..count)
        .map(|slot| {
            let base = layout::VIRTIO.address(slot).unwrap();
            Peripheral { registers: base..base + 0x200, spi: layout::virtio_spi(slot).unwrap() }
        })
        .collect()
}

/// The tree as source, which is how people read one.
fn dts(description: &Description) -> String {
    let dtb = description.to_dtb().unwrap();
    Fdt::new(&dtb).unwrap().to_string()
}

#[test]
fn the_tree_of_an_armv7_guest() {
    let description = Description { virtio: &slots(2), ..description() };
    expect_file!["armv7.dts"].assert_eq(&dts(&description));
}

#[test]
fn the_tree_of_an_arm64_guest_without_uart_and_initrd() {
    let description = Description {
        arch: Arch::Arm64,
        cpus: &[0, 1, 2, 3, 4, 5, 6, 7],
        uart: None,
        initrd: None,
        ..description()
    };
    expect_file!["arm64.dts"].assert_eq(&dts(&description));
}

#[test]
fn the_largest_tree_fits_its_place() {
    let description = Description {
        arch: Arch::Arm64,
        cpus: &[0, 1, 2, 3, 4, 5, 6, 7],
        virtio: &slots(layout::VIRTIO.count()),
        bootargs: &"a".repeat(2047),
        ..description()
    };
    let dtb = description.to_dtb().unwrap();
    assert!((dtb.len() as u64) < layout::DTB_SPACE);
    let fdt = Fdt::new(&dtb).unwrap();
    let names: Vec<_> = fdt.root().children().map(|node| node.name().to_string()).collect();
    let transports = names.iter().filter(|name| name.starts_with("virtio@"));
    assert_eq!(transports.count(), layout::VIRTIO.count());
}

#[test]
fn a_command_line_is_as_long_as_the_kernels_buffer_at_most() {
    for (arch, most) in [(Arch::Armv7, 1023), (Arch::Arm64, 2047)] {
        let with = |len: usize| {
            let description = Description { arch, bootargs: &"a".repeat(len), ..description() };
            description.to_dtb().map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(with(most), Ok(()));
        let len = most + 1;
        let text = format!(
            "--params: the kernel's command line has {len} bytes and an {arch} kernel takes {most}"
        );
        assert_eq!(with(len), Err(text));
    }
}

#[test]
fn a_command_line_with_a_nul_is_refused() {
    let bootargs = "console=hvc0\0quiet";
    let description = Description { bootargs, ..description() };
    assert!(matches!(description.to_dtb(), Err(FdtError::CommandLineNul)));
}

#[test]
fn a_guest_has_one_to_eight_cpus() {
    for count in [0, 9] {
        let cpus: Vec<u32> = (0..count).collect();
        let description = Description { cpus: &cpus, ..description() };
        let error = description.to_dtb().unwrap_err();
        let text = format!("--cpus: a guest has 1 to 8 CPUs, not {count}");
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused() {
    let backwards = Range { start: 0x4200_0000, end: 0x41ff_ffff };
    let initrd = Description { initrd: Some(backwards.clone()), ..description() };
    let error = initrd.to_dtb().unwrap_err().to_string();
    assert_eq!(error, "the initrd lies from 0x42000000 to 0x41ffffff, which is before that");
    let memory = Description { memory: backwards.clone(), ..description() };
    let mut virtio = slots(1);
    virtio[0].registers = backwards;
    let virtio = Description { virtio: &virtio, ..description() };
    for description in [memory, virtio] {
        assert!(matches!(description.to_dtb(), Err(FdtError::Range { .. })));
    }
}

#[test]
fn two_nodes_of_one_name_are_refused() {
    let cpus = Description { cpus: &[0, 1, 0], ..description() };
    assert!(matches!(cpus.to_dtb(), Err(FdtError::Twice(name)) if name == "cpu@0"));
    let twice = [slots(1), slots(1)].concat();
    let virtio = Description { virtio: &twice, ..description() };
    assert!(matches!(virtio.to_dtb(), Err(FdtError::Twice(name)) if name == "virtio@a000000"));
}
