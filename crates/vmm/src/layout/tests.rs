use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

fn disjoint(ranges: &[Range<u64>]) -> bool {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    sorted.windows(2).all(|two| two[0].end <= two[1].start)
}

#[test]
fn devices_and_memory_do_not_overlap() {
    let mut ranges = vec![UART, GIC_DISTRIBUTOR, GIC_CPU_INTERFACE];
    ranges.extend((0..VIRTIO.count()).map(|slot| {
        let base = VIRTIO.address(slot).unwrap();
        base..base + VIRTIO.size()
    }));
    ranges.push(Layout::new(Arch::Armv7, 3 * GIB, 40).unwrap().ram().clone());
    assert_eq!(ranges.len(), 36);
    assert!(disjoint(&ranges));
}

#[test]
fn every_virtio_slot_has_its_own_interrupt() {
    let mut spis: Vec<_> = (0..VIRTIO.count()).filter_map(virtio_spi).collect();
    assert_eq!(spis.len(), VIRTIO.count());
    assert_eq!(virtio_spi(VIRTIO.count()), None);
    spis.push(UART_SPI);
    spis.sort();
    spis.dedup();
    assert_eq!(spis.len(), VIRTIO.count() + 1);
}

#[test]
fn memory_has_a_least_and_a_most() {
    let new = |arch, memory, bits| Layout::new(arch, memory, bits).map(|l| l.memory());
    for arch in [Arch::Armv7, Arch::Arm64] {
        assert_eq!(new(arch, MIN_MEMORY, 40), Ok(MIN_MEMORY));
        let memory = MIN_MEMORY - 1;
        assert_eq!(new(arch, memory, 40), Err(LayoutError::MemoryTooSmall { memory }));
        let memory = MIN_MEMORY + 1;
        assert_eq!(new(arch, memory, 40), Err(LayoutError::UnevenMemory { memory }));
    }
    assert_eq!(new(Arch::Armv7, 3 * GIB, 40), Ok(3 * GIB));
    assert_eq!(new(Arch::Arm64, 1023 * GIB, 40), Ok(1023 * GIB));
    let (memory, most) = (4 * GIB, 3 * GIB);
    let error = LayoutError::BeyondArmv7 { memory, most };
    assert_eq!(new(Arch::Armv7, memory, 40), Err(error));
    let (memory, most, ipa_bits) = (1024 * GIB, 1023 * GIB, 40);
    let error = LayoutError::BeyondIpa { memory, most, ipa_bits };
    assert_eq!(new(Arch::Arm64, memory, ipa_bits), Err(error));
    assert!(new(Arch::Arm64, u64::MAX, 64).is_err());
}

#[test]
fn errors_name_the_option_and_the_fix() {
    let text = |arch, memory| Layout::new(arch, memory, 40).unwrap_err().to_string();
    assert_eq!(
        text(Arch::Armv7, 31 << 20),
        "--mem: 31 MiB is too little, a guest needs at least 32 MiB"
    );
    assert_eq!(
        text(Arch::Armv7, 4 * GIB),
        "--mem: 4096 MiB is too much, an ARMv7 guest's memory lies between 1 GiB and 4 GiB: \
         give at most 3072 MiB, or --arch arm64"
    );
    let layout = Layout::new(Arch::Armv7, 64 << 20, 40).unwrap();
    assert_eq!(
        layout.place(RAM_BASE + (64 << 20), None).unwrap_err().to_string(),
        "--kernel: this kernel needs 65 MiB to start and the guest has 64: raise --mem"
    );
    assert_eq!(
        layout.place(RAM_BASE + (24 << 20), Some(40 << 20)).unwrap_err().to_string(),
        "--initrd: its 40 MiB do not fit, the guest's memory of 64 MiB has 39 left beside the kernel: raise --mem"
    );
}

#[test]
fn a_kernel_that_says_it_needs_all_addresses_is_refused() {
    let layout = Layout::new(Arch::Arm64, GIB, 40).unwrap();
    assert!(layout.place(u64::MAX, None).is_err());
    assert!(layout.place(RAM_BASE, Some(u64::MAX)).is_err());
}

proptest! {
    #[test]
    fn what_is_placed_lies_in_memory_aligned_and_clear_of_the_rest(
        mebibytes in 32..3072u64, kernel in 0..1u64 << 28, initrd in proptest::option::of(0..1u64 << 31),
    ) {
        let layout = Layout::new(Arch::Armv7, mebibytes * MIB, 40).unwrap();
        let needed = kernel + 2 * DTB_SPACE + initrd.unwrap_or(0);
        match layout.place(RAM_BASE + kernel, initrd) {
            Ok(place) => {
                let mut parts = vec![place.kernel.clone(), place.dtb.clone()];
                parts.extend(place.initrd.clone());
                prop_assert!(disjoint(&parts));
                for part in parts {
                    prop_assert!(part.start >= RAM_BASE && part.end <= layout.ram().end);
                }
                prop_assert_eq!(place.initrd.map(|range| range.end - range.start), initrd);
                prop_assert_eq!(place.dtb.start % DTB_SPACE, 0);
                prop_assert_eq!(place.dtb.end - place.dtb.start, DTB_SPACE);
            }
            // Nothing is refused that would have fitted.
            Err(_) => prop_assert!(needed > layout.memory()),
        }
    }
}
