//! Putting a machine together.

use std::sync::{Arc, Mutex, PoisonError};

use cubie_hv::{Gic, HvError, Start, Vcpu, Vm};
use cubie_mmio_bus::{Bus, BusError};
use cubie_virtio_core::{MMIO_SIZE, VirtioDevice};
use vm_memory::mmap::FromRangesError;

use crate::exits::ExitMeter;
use crate::fdt::{Description, FdtError, InterruptController, Peripheral};
use crate::layout::{self, Layout, LayoutError, Placement, VIRTIO};
use crate::loader::{self, Kernel, LoadError};
use crate::run::{Ending, Stopper};
use crate::transport::{Board, Plugged, Transport};
use crate::{Uart, memory};

/// What a machine is, besides its devices. A reset builds the next machine from the same.
#[derive(Clone)]
pub struct MachineConfig {
    /// Bytes of memory, a whole number of MiB.
    pub memory: u64,
    /// Whether other processes can map it (as a memfd): for devices that vhost-user daemons serve.
    pub shared_memory: bool,
    /// How many CPUs; the hypervisor's machine was made for as many.
    pub cpus: u8,
    /// The kernel; its architecture is the machine's.
    pub kernel: Kernel,
    /// The initrd, if there is one.
    pub initrd: Option<Vec<u8>>,
    /// The kernel's command line.
    pub command_line: String,
    /// Whether vCPU n stays on the n-th of the host's CPUs that this process may use (and starts over
    /// when there are more vCPUs than those).
    pub pin: bool,
    /// How drivers reach the virtio devices, in the order of these. The last one is for all devices that
    /// follow as well; without any, [`Transport::default`] is.
    pub transports: Vec<Transport>,
}

/// Why there is no machine, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The memory does not suit the machine or what is loaded into it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The device tree cannot say what was asked for.
    #[error(transparent)]
    Fdt(#[from] FdtError),
    /// The host has less memory.
    #[error("--mem: this host does not give a guest {} MiB: {source}", bytes >> 20)]
    Memory {
        /// Bytes asked for.
        bytes: u64,
        /// What the operating system answered.
        source: FromRangesError,
    },
    /// Kernel, initrd or device tree cannot be written to the guest's memory.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// More devices than places for them.
    #[error("{devices} virtio devices are too many: a machine has {} slots", VIRTIO.count())]
    TooManyDevices {
        /// How many were asked for.
        devices: usize,
    },
    /// The host refused a device its eventfds.
    #[error("virtio device {slot} cannot be plugged in: {source}")]
    Device {
        /// Its place in the order given.
        slot: usize,
        /// What the operating system answered.
        source: std::io::Error,
    },
    /// Two devices at one address.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The host refused a thread, or random numbers.
    #[error("{what}: {source}")]
    Host {
        /// What was asked for.
        what: &'static str,
        /// What the operating system answered.
        source: std::io::Error,
    },
    /// The hypervisor refused something.
    #[error(transparent)]
    Hypervisor(#[from] HvError),
}

/// A machine that is ready to run, on the hypervisor `V`.
pub struct Machine<V: Vm> {
    pub(crate) vm: V,
    pub(crate) vcpus: Vec<V::Vcpu>,
    pub(crate) bus: Bus,
    pub(crate) devices: Vec<Plugged>,
    pub(crate) uart: Arc<Mutex<Uart>>,
    pub(crate) ending: Arc<Ending>,
    pub(crate) exits: ExitMeter,
    pub(crate) pin: bool,
    dtb: Vec<u8>,
}

impl<V: Vm> Machine<V> {
    /// Puts the machine together in the fresh `vm`: memory with kernel, initrd and device tree, CPUs,
    /// and `devices` in the virtio slots, in the order given. `uart` starts anew.
    ///
    /// # Errors
    /// When the configuration or the host does not allow it. The devices are dropped then.
    pub fn build(
        mut vm: V,
        config: &MachineConfig,
        devices: Vec<Box<dyn VirtioDevice>>,
        uart: Arc<Mutex<Uart>>,
    ) -> Result<Self, MachineError> {
        let layout = Layout::new(config.kernel.format.arch(), config.memory, vm.ipa_bits())?;
        let initrd = config.initrd.as_ref().map(|initrd| initrd.len() as u64);
        let placement = layout.place(config.kernel.end, initrd)?;
        let slots = slots(devices.len())?;
        let dtb = describe(config, &layout, &placement, vm.gic(), &slots)?;

        let memory = memory::map(layout.ram(), config.shared_memory)
            .map_err(|source| MachineError::Memory { bytes: layout.memory(), source })?;
        let memory = Arc::new(memory);
        let initrd = config.initrd.as_deref().unwrap_or_default();
        loader::load(&memory, &config.kernel, initrd, &dtb, &placement)?;
        vm.map_memory(&memory)?;
        let mut vcpus = create_vcpus(&mut vm, config, &placement)?;
        vm.start_interrupts()?;

        let exits = ExitMeter::new(devices.len(), &mut vcpus);
        let bus = Bus::new();
        connect_uart(&vm, &bus, &uart)?;
        let mut board = Board::new(&vm, &bus, &memory)?;
        let plug = |(slot, (device, place))| {
            let transport = config.transports.get(slot).or(config.transports.last());
            board.plug(slot, device, place, transport.copied().unwrap_or_default())
        };
        let devices = devices.into_iter().zip(&slots).enumerate();
        let devices = devices.map(plug).collect::<Result<_, _>>()?;
        let kicks = vcpus.iter().map(|vcpu| Box::new(vcpu.kick()) as _);
        Ok(Self {
            ending: Arc::new(Ending::new(kicks.collect())),
            exits,
            vm,
            vcpus,
            bus,
            devices,
            uart,
            pin: config.pin,
            dtb,
        })
    }

    /// The device tree that the guest is handed.
    pub fn dtb(&self) -> &[u8] {
        &self.dtb
    }

    /// A handle that tells what its vCPUs leave the guest for, also after the end.
    pub fn exits(&self) -> ExitMeter {
        self.exits.clone()
    }

    /// A handle that ends the machine from another thread, also before it runs.
    pub fn stopper(&self) -> Stopper {
        Stopper::new(Arc::clone(&self.ending))
    }
}

fn slots(devices: usize) -> Result<Vec<Peripheral>, MachineError> {
    let slot = |index| {
        let base = VIRTIO.address(index)?;
        Some(Peripheral { registers: base..base + MMIO_SIZE, spi: layout::virtio_spi(index)? })
    };
    let slots: Option<_> = (0..devices).map(slot).collect();
    slots.ok_or(MachineError::TooManyDevices { devices })
}

/// Writes the device tree, with fresh random numbers in it.
fn describe(
    config: &MachineConfig,
    layout: &Layout,
    placement: &Placement,
    gic: Gic,
    virtio: &[Peripheral],
) -> Result<Vec<u8>, MachineError> {
    let (mut rng_seed, mut kaslr_seed) = ([0; 64], [0; 8]);
    for seed in [&mut rng_seed[..], &mut kaslr_seed] {
        getrandom::fill(seed).map_err(|e| MachineError::Host {
            what: "get random numbers for the guest",
            source: e.into(),
        })?;
    }
    // The affinity of up to 16 CPUs behind a GICv2 is their number.
    let cpus: Vec<u32> = (0..config.cpus.into()).collect();
    let description = Description {
        arch: layout.arch(),
        memory: layout.ram().clone(),
        cpus: &cpus,
        interrupts: controller(gic),
        uart: Some(Peripheral { registers: layout::UART, spi: layout::UART_SPI }),
        virtio,
        initrd: placement.initrd.clone(),
        bootargs: &config.command_line,
        rng_seed,
        kaslr_seed: u64::from_le_bytes(kaslr_seed),
    };
    Ok(description.to_dtb()?)
}

fn controller(gic: Gic) -> InterruptController {
    let Gic::V2 { distributor, cpu_interface } = gic;
    InterruptController::GicV2 {
        distributor: distributor..distributor + 0x1000,
        cpu_interface: cpu_interface..cpu_interface + 0x2000,
    }
}

fn create_vcpus<V: Vm>(
    vm: &mut V,
    config: &MachineConfig,
    placement: &Placement,
) -> Result<Vec<V::Vcpu>, HvError> {
    let start = |index| match index {
        0 => Start::At { entry: config.kernel.entry, dtb: placement.dtb.start },
        _ => Start::Off,
    };
    (0..config.cpus).map(|index| vm.create_vcpu(index, start(index))).collect()
}

fn connect_uart(vm: &impl Vm, bus: &Bus, uart: &Arc<Mutex<Uart>>) -> Result<(), MachineError> {
    let line = vm.wire_spi(layout::UART_SPI)?;
    uart.lock().unwrap_or_else(PoisonError::into_inner).connect(line);
    let place = layout::UART;
    Ok(bus.insert(place.start, place.end - place.start, Arc::clone(uart) as _)?)
}
