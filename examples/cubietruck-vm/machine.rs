//! The options become devices and a machine, which runs until it is over.

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use anyhow::Context;
use cubie::blk::{Blk, RawFile, Serial};
use cubie::console::{Messages, Resizer, Terminal, TerminalEvent};
use cubie::hv::Gic;
use cubie::kvm::{GuestMode, Kvm, VmConfig};
use cubie::net::{Mac, Net, Tap};
use cubie::rng::{HostEntropy, Rng};
use cubie::virtio::{Features, VirtioDevice};
use cubie::vmm::loader::{FileError, KERNEL_LIMIT, Kernel, read_file};
use cubie::vmm::{Arch, Machine, MachineConfig, Outcome, Stopper, Uart, layout};

use crate::cli::{Cli, Console, Disk, Network, Ring};

type Devices = Vec<Box<dyn VirtioDevice>>;

/// Runs the guest to its end; the exit status says how it was.
pub(crate) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let config = configure(cli)?;
    let kvm = Kvm::open()?;
    let mut devices: Devices = vec![Box::new(Rng::new(HostEntropy))];
    add_disks(&mut devices, &cli.disk)?;
    let taps = add_networks(&mut devices, cli)?;

    let (sender, events) = channel();
    let terminal = Terminal::open(move |event| {
        let _ = sender.send(event); // nobody listens any more: it is over anyway
    })?;
    let uart = Arc::new(Mutex::new(Uart::new(Box::new(terminal.writer()?))?));
    let resizer = match cli.console {
        Console::Serial => {
            Uart::feed(Arc::clone(&uart), terminal.reader()?)?;
            None
        }
        Console::Virtio => {
            let console = cubie::console::Console::new(terminal.backend()?, terminal.size());
            let resizer = console.resizer();
            devices.insert(0, Box::new(console));
            Some(resizer)
        }
    };
    let mut greeting = Some(greeting(cli, &config, &taps));
    let control = Control::new(events, resizer);
    // A restart is a new machine with the same devices.
    loop {
        let machine =
            Machine::build(kvm.create_vm(hardware(cli))?, &config, devices, uart.clone())?;
        if let Some(path) = &cli.dump_dtb {
            return fs::write(path, machine.dtb())
                .map(|()| ExitCode::SUCCESS)
                .with_context(|| format!("--dump-dtb {}", path.display()));
        }
        if let Some(greeting) = greeting.take() {
            let _ = writeln!(Messages, "{greeting}");
        }
        control.steers(machine.stopper());
        let (outcome, stopped) = machine.run()?;
        devices = stopped;
        match outcome {
            Outcome::Reset => {}
            Outcome::Off => return Ok(ExitCode::SUCCESS),
            Outcome::Quit => return Ok(control.verdict()),
            Outcome::Crash(how) => anyhow::bail!("the guest crashed: {how}"),
        }
    }
}

fn configure(cli: &Cli) -> anyhow::Result<MachineConfig> {
    let path = cli.kernel.as_deref().context("--kernel FILE is missing")?;
    let kernel = Kernel::from_bytes(read_file("--kernel", path, KERNEL_LIMIT)?, cli.arch.into())
        .with_context(|| path.display().to_string())?;
    let limit = usize::try_from(cli.mem.0)?;
    let read = |path| {
        read_file("--initrd", path, limit).map_err(|error| match error {
            FileError::TooLarge { .. } => anyhow::anyhow!("{error}: raise --mem"),
            other => other.into(),
        })
    };
    let initrd = cli.initrd.as_deref().map(read).transpose()?;
    // The board's UART speaks until the console does: an early panic is seen.
    let console = match cli.console {
        Console::Virtio => "hvc0",
        Console::Serial => "ttyS0",
    };
    let command_line = format!("console={console} {} earlycon", cli.params);
    let (memory, cpus, pin) = (cli.mem.0, cli.cpus, cli.pin);
    let rings = match cli.ring {
        Ring::Split => Features::RING,
        Ring::Packed => Features::RING.with(Features::PACKED),
    };
    Ok(MachineConfig { memory, cpus, kernel, initrd, command_line, pin, rings })
}

fn hardware(cli: &Cli) -> VmConfig {
    let guest = match cli.arch.into() {
        Arch::Armv7 => GuestMode::Aarch32,
        Arch::Arm64 => GuestMode::Aarch64,
    };
    let gic = Gic::V2 {
        distributor: layout::GIC_DISTRIBUTOR.start,
        cpu_interface: layout::GIC_CPU_INTERFACE.start,
    };
    VmConfig { guest, gic, vcpus: cli.cpus }
}

fn add_disks(devices: &mut Devices, disks: &[Disk]) -> anyhow::Result<()> {
    for Disk { path, read_only } in disks {
        let file = RawFile::open(path, *read_only).context("--disk")?;
        devices.push(Box::new(Blk::new(file, Serial::of_file(path))));
    }
    if disks.is_empty() {
        // It has no name any more as soon as it is open, so that it is gone at the end whatever happens.
        let blank = tempfile::NamedTempFile::new().context("a blank disk")?;
        blank.as_file().set_len(64 << 20).context("a blank disk")?;
        let file = RawFile::open(blank.path(), false).context("a blank disk")?;
        devices.push(Box::new(Blk::new(file, Serial::of_file("blank".as_ref()))));
    }
    Ok(())
}

/// Returns the names of the host's interfaces.
fn add_networks(devices: &mut Devices, cli: &Cli) -> anyhow::Result<Vec<String>> {
    let mut names = vec![];
    for (index, network) in cli.network.iter().enumerate() {
        if let Network::Tap { name, mac } = network {
            let tap = Tap::open(name.as_deref()).context("--network mode=tap,tapif=NAME")?;
            names.push(tap.name().to_owned());
            let mac = mac.unwrap_or_else(|| Mac::made_from(&format!("{} {index}", cli.name)));
            devices.push(Box::new(Net::new(tap, mac)));
        }
    }
    if cli.network.is_empty() {
        match Tap::open(None) {
            Ok(tap) => {
                names.push(tap.name().to_owned());
                devices.push(Box::new(Net::new(tap, Mac::made_from(&cli.name))));
            }
            Err(error) => eprintln!("cubietruck-vm: no network card: {error}"),
        }
    }
    Ok(names)
}

/// The one line before the guest speaks.
fn greeting(cli: &Cli, config: &MachineConfig, taps: &[String]) -> String {
    let kernel = &config.kernel.format;
    let cpus = if cli.cpus == 1 { "1 CPU".into() } else { format!("{} CPUs", cli.cpus) };
    let network =
        if taps.is_empty() { "no network".into() } else { format!("tap {}", taps.join(", ")) };
    let (name, mib) = (&cli.name, cli.mem.0 >> 20);
    format!("{name}: {kernel}, {cpus}, {mib} MiB, {network}; Ctrl-A x quits, Ctrl-A c helps")
}

/// What the person at the terminal wants, for the machine that runs now.
struct Control(Arc<Mutex<Wish>>);

#[derive(Default)]
struct Wish {
    machine: Option<Stopper>,
    /// The exit status, once the end was asked for.
    end: Option<u8>,
}

impl Control {
    fn new(events: Receiver<TerminalEvent>, resizer: Option<Resizer>) -> Self {
        let wish = Arc::new(Mutex::new(Wish::default()));
        let shared = Arc::clone(&wish);
        thread::spawn(move || {
            for event in events {
                let end = match event {
                    TerminalEvent::Resized(size) => {
                        resizer.iter().for_each(|resizer| resizer.resize(size));
                        continue;
                    }
                    TerminalEvent::Quit => 0,
                    TerminalEvent::Terminated(signal) => 128 + signal as u8,
                };
                let mut wish = shared.lock().expect("no panic holds it");
                wish.end.get_or_insert(end);
                wish.machine.iter().for_each(Stopper::stop);
            }
        });
        Self(wish)
    }

    /// From now on this machine is the one to be stopped; at once, if that was asked for before.
    fn steers(&self, machine: Stopper) {
        let mut wish = self.0.lock().expect("no panic holds it");
        if wish.end.is_some() {
            machine.stop();
        }
        wish.machine = Some(machine);
    }

    fn verdict(&self) -> ExitCode {
        let wish = self.0.lock().expect("no panic holds it");
        ExitCode::from(wish.end.unwrap_or_default())
    }
}
