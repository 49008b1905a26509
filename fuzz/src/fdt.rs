//! Device trees of any machine.
//!
//! Each is refused for a reason that can be found in what was asked for, or is well-formed for a parser of
//! somebody else (`dtoolkit`) and says what was asked for, nothing more and nothing less.

use std::collections::BTreeSet;
use std::ops::Range;

use arbitrary::{Arbitrary, Unstructured};
use cubie_vm_irq::Spi;
use cubie_vmm::fdt::{Description, FdtError, InterruptController, MAX_CPUS, Peripheral};
use cubie_vmm::{Arch, layout};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

#[derive(Arbitrary, Debug)]
struct Board {
    arm64: bool,
    memory: Place,
    cpus: Cpus,
    gic: [Place; 2],
    uart: Option<Device>,
    virtio: Vec<Device>,
    initrd: Option<Place>,
    params: Params,
    seed: u64,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Place {
    /// Memory in MiB, from where it begins.
    Mib(u16),
    /// As many bytes from a multiple of 64 KiB on.
    Page(u16, u16),
    Any(u64, u64),
}

#[derive(Arbitrary, Debug)]
enum Cpus {
    Count(u8),
    Any(Vec<u32>),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Device {
    Slot(u8),
    Any(Place, u16),
}

#[derive(Arbitrary, Debug)]
enum Params {
    Bytes(Vec<u8>),
    /// A character, so many times.
    Long(char, u16),
}

impl Place {
    fn range(self) -> Range<u64> {
        match self {
            Self::Mib(mib) => layout::RAM_BASE..layout::RAM_BASE + (u64::from(mib) << 20),
            Self::Page(page, len) => {
                let start = u64::from(page) << 16;
                start..start + u64::from(len)
            }
            Self::Any(start, end) => start..end,
        }
    }
}

impl Device {
    fn peripheral(self) -> Peripheral {
        match self {
            Self::Slot(slot) => {
                let slot = usize::from(slot) % layout::VIRTIO.count();
                let base = layout::VIRTIO.address(slot).expect("a slot");
                let spi = layout::virtio_spi(slot).expect("a slot");
                Peripheral { registers: base..base + 0x200, spi }
            }
            Self::Any(place, spi) => {
                let spi = Spi::new(u32::from(spi) % Spi::COUNT).expect("an SPI");
                Peripheral { registers: place.range(), spi }
            }
        }
    }
}

impl Params {
    fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Long(character, count) => {
                std::iter::repeat_n(*character, usize::from(count % 3000)).collect()
            }
        }
    }
}

/// Builds the device tree that `bytes` stand for, and names what has come of it; `None` when they stand for none.
///
/// # Panics
/// If anything of what this module promises does not hold.
pub fn play(bytes: &[u8]) -> Option<String> {
    let board = Board::arbitrary_take_rest(Unstructured::new(bytes)).ok()?;
    let cpus: Vec<u32> = match &board.cpus {
        Cpus::Count(count) => (0..u32::from(count % 10)).collect(),
        Cpus::Any(cpus) => cpus.iter().copied().take(2 * MAX_CPUS).collect(),
    };
    let virtio: Vec<_> = board.virtio.iter().take(40).map(|device| device.peripheral()).collect();
    let [distributor, cpu_interface] = board.gic.map(Place::range);
    let text = board.params.text();
    let description = Description {
        arch: if board.arm64 { Arch::Arm64 } else { Arch::Armv7 },
        memory: board.memory.range(),
        cpus: &cpus,
        interrupts: InterruptController::GicV2 { distributor, cpu_interface },
        uart: board.uart.map(Device::peripheral),
        virtio: &virtio,
        initrd: board.initrd.map(Place::range),
        bootargs: &text,
        rng_seed: board.seed.to_le_bytes().repeat(8).try_into().expect("64 bytes"),
        kaslr_seed: board.seed,
    };
    match description.to_dtb() {
        Ok(dtb) => {
            well_formed(&description);
            if virtio.len() <= layout::VIRTIO.count() {
                assert!(dtb.len() as u64 <= layout::DTB_SPACE, "{} bytes", dtb.len());
            }
            Tree(Fdt::new(&dtb).expect("a well-formed tree")).check(&description);
            let arch = description.arch;
            let initrd = if description.initrd.is_some() { "-initrd" } else { "" };
            let uart = if description.uart.is_some() { "-uart" } else { "" };
            Some(format!("{arch}-{}-virtio{uart}{initrd}", virtio.len().min(2)).to_lowercase())
        }
        Err(error) => {
            let right = match error {
                FdtError::CommandLine { .. } => text.len() > longest(description.arch),
                FdtError::CommandLineNul => text.contains('\0'),
                FdtError::Cpus(count) => count == cpus.len() && !(1..=MAX_CPUS).contains(&count),
                FdtError::Range { .. } => !ranges(&description).iter().all(goes_forward),
                FdtError::Twice(_) => !all_differ(&description),
                FdtError::Write(_) => false,
            };
            assert!(right, "{error}");
            let variant = format!("{error:?}");
            Some(variant.split([' ', '(']).next().unwrap_or_default().to_lowercase())
        }
    }
}

/// Bytes of a kernel's buffer for its command line, without the NUL.
fn longest(arch: Arch) -> usize {
    match arch {
        Arch::Armv7 => 1023,
        Arch::Arm64 => 2047,
    }
}

fn ranges(description: &Description) -> Vec<Range<u64>> {
    let InterruptController::GicV2 { distributor, cpu_interface } = &description.interrupts else {
        return vec![];
    };
    let devices = description.uart.iter().chain(description.virtio);
    let devices = devices.map(|device| device.registers.clone());
    let initrd = description.initrd.iter().cloned();
    let rest = [&description.memory, distributor, cpu_interface].map(Range::clone);
    rest.into_iter().chain(initrd).chain(devices).collect()
}

fn goes_forward(range: &Range<u64>) -> bool {
    range.start <= range.end
}

/// No two nodes have the same name: affinities and addresses are part of it.
fn all_differ(description: &Description) -> bool {
    let cpus = BTreeSet::from_iter(description.cpus);
    let virtio = description.virtio.iter().map(|device| device.registers.start);
    cpus.len() == description.cpus.len()
        && BTreeSet::from_iter(virtio).len() == description.virtio.len()
}

/// What should have been refused.
fn well_formed(description: &Description) {
    let text = description.bootargs;
    assert!(text.len() <= longest(description.arch) && !text.contains('\0'), "{text:?}");
    assert!((1..=MAX_CPUS).contains(&description.cpus.len()), "{:?}", description.cpus);
    assert!(ranges(description).iter().all(goes_forward), "a range that goes backwards");
    assert!(all_differ(description), "two nodes of one name");
}

struct Tree<'a>(Fdt<'a>);

impl Tree<'_> {
    fn check(&self, description: &Description) {
        let root = self.0.root();
        unique(root);
        assert_eq!(cells(root, "#address-cells"), [2]);
        assert_eq!(cells(root, "#size-cells"), [2]);
        let memory = self.only("memory");
        assert_eq!(cells(memory, "reg"), reg(&description.memory));
        self.check_chosen(description);
        let cpus = self.node("/cpus").children();
        let cpus: Vec<_> = cpus.map(|cpu| cells(cpu, "reg")).collect();
        assert_eq!(cpus, Vec::from_iter(description.cpus.iter().map(|affinity| [*affinity])));
        let InterruptController::GicV2 { distributor, cpu_interface } = &description.interrupts
        else {
            panic!("a controller that nobody has asked for");
        };
        let gic = self.only("interrupt-controller");
        assert_eq!(cells(gic, "reg"), [reg(distributor), reg(cpu_interface)].concat());
        assert_eq!(cells(gic, "phandle"), cells(root, "interrupt-parent"));
        self.check_devices("serial", description.uart.as_slice());
        self.check_devices("virtio", description.virtio);
    }

    fn check_chosen(&self, description: &Description) {
        let chosen = self.node("/chosen");
        let mut text = description.bootargs.as_bytes().to_vec();
        text.push(0);
        assert_eq!(value(chosen, "bootargs"), Some(text));
        let [start, end] = ["start", "end"].map(|edge| {
            let bytes = value(chosen, &format!("linux,initrd-{edge}"))?;
            Some(u64::from_be_bytes(bytes.try_into().expect("two cells")))
        });
        assert_eq!(start.zip(end).map(|(start, end)| start..end), description.initrd);
        assert_eq!(start.is_some(), end.is_some());
        assert_eq!(value(chosen, "rng-seed"), Some(description.rng_seed.to_vec()));
        let kaslr = description.kaslr_seed.to_be_bytes().to_vec();
        assert_eq!(value(chosen, "kaslr-seed"), (description.arch == Arch::Arm64).then_some(kaslr));
    }

    fn check_devices(&self, name: &str, asked: &[Peripheral]) {
        let there = self.called(name);
        assert_eq!(there.len(), asked.len(), "{name}");
        for (node, device) in there.into_iter().zip(asked) {
            assert_eq!(cells(node, "reg"), reg(&device.registers));
            // A shared peripheral interrupt, rising edge (Linux, bindings/arm,gic.yaml).
            assert_eq!(cells(node, "interrupts"), [0, device.spi.number(), 1]);
        }
    }

    fn node(&self, path: &str) -> FdtNode<'_> {
        self.0.find_node(path).unwrap_or_else(|| panic!("no {path}"))
    }

    fn called(&self, name: &str) -> Vec<FdtNode<'_>> {
        self.0.root().children().filter(|node| node.name_without_address() == name).collect()
    }

    fn only(&self, name: &str) -> FdtNode<'_> {
        let [node] = self.called(name)[..] else { panic!("not one {name}") };
        node
    }
}

/// Siblings have names of their own (Devicetree Specification 0.4 §2.2.1).
fn unique(node: FdtNode<'_>) {
    let mut names = BTreeSet::new();
    for child in node.children() {
        assert!(names.insert(child.name().to_owned()), "{} twice", child.name());
        unique(child);
    }
}

fn value(node: FdtNode<'_>, name: &str) -> Option<Vec<u8>> {
    node.properties().find(|property| property.name() == name).map(|there| there.value().to_vec())
}

fn cells(node: FdtNode<'_>, name: &str) -> Vec<u32> {
    let bytes = value(node, name).unwrap_or_else(|| panic!("{} has no {name}", node.name()));
    let (words, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty(), "{name} is no cells");
    words.iter().map(|word| u32::from_be_bytes(*word)).collect()
}

fn reg(range: &Range<u64>) -> Vec<u32> {
    let len = range.end - range.start;
    [range.start, len].iter().flat_map(|word| [(word >> 32) as u32, *word as u32]).collect()
}
