//! The options become devices and a machine, which runs until it is over.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::{fs, thread};

use anyhow::Context;
use cubie::blk::{Blk, FileDisk, Image, ImageOptions, Serial};
use cubie::console::{Messages, Resizer, Terminal, TerminalEvent};
use cubie::hv::Gic;
use cubie::kvm::{GuestMode, Kvm, VmConfig};
use cubie::lkvm::{ByteRate, DiskOption, VhostUserOption};
use cubie::rng::{HostEntropy, Rng};
use cubie::vhost_user::FrontEnd;
use cubie::virtio::{Features, Interface, RateLimit, VirtioDevice};
use cubie::vmm::loader::{FileError, KERNEL_LIMIT, Kernel, read_file};
use cubie::vmm::{
    Arch, Machine, MachineConfig, Outcome, Registers, Remote, Transport, Uart, layout,
};

use crate::cli::{self, Cli, Console, Ring, Virtio};
use crate::netpath::NetPath;
use crate::network::add_networks;

pub(crate) type Devices = Vec<Box<dyn VirtioDevice>>;

/// Runs the guest to its end; the exit status says how it was.
pub(crate) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let config = configure(cli)?;
    let kvm = Kvm::open()?;
    let mut devices: Devices = vec![Box::new(random(cli.rng_rate))];
    add_disks(&mut devices, cli)?;
    let mut networks = add_networks(&mut devices, cli)?;
    for VhostUserOption { kind, socket } in &cli.vhost_user {
        let device = FrontEnd::connect(socket, kind.clone()).context("--vhost-user")?;
        devices.push(Box::new(device));
    }

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
    let mut greeting = Some(greeting(cli, &config, &networks.said));
    let remote = Remote::default();
    let netpath = NetPath::new(std::mem::take(&mut networks.paths), cli);
    let asked = obey(events, resizer, remote.clone(), Arc::clone(&netpath));
    // A restart is a new machine with the same devices.
    loop {
        let vm = kvm.create_vm(hardware(cli)).with_context(|| cli.hardware_options())?;
        let machine = Machine::build(vm, &config, devices, uart.clone())?;
        if let Some(path) = &cli.dump_dtb {
            return write_whole(path, machine.dtb())
                .map(|()| ExitCode::SUCCESS)
                .with_context(|| format!("--dump-dtb {}", path.display()));
        }
        if let Some(greeting) = greeting.take() {
            let _ = writeln!(Messages, "{greeting}");
        }
        remote.steer(machine.stopper());
        netpath.follow(machine.exits());
        let (outcome, stopped) = machine.run()?;
        devices = stopped;
        if outcome != Outcome::Reset {
            netpath.finish(cli)?;
        }
        match outcome {
            Outcome::Reset => {}
            Outcome::Off => return Ok(ExitCode::SUCCESS),
            Outcome::Quit => return Ok(asked.get().copied().unwrap_or_default().into()),
            Outcome::Crash(how) => anyhow::bail!("the guest crashed: {how}"),
        }
    }
}

/// Writes a file so that there is either all of it or what was there before.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link or a device, such as /dev/stdout, is written and not replaced.
    if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
        return fs::write(path, bytes);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mode = Permissions::from_mode(0o666); // less the umask, as for any file
    let mut part =
        tempfile::Builder::new().permissions(mode).tempfile_in(folder.unwrap_or(Path::new(".")))?;
    part.write_all(bytes)?;
    part.persist(path)?;
    Ok(())
}

fn configure(cli: &Cli) -> anyhow::Result<MachineConfig> {
    let path = cli.kernel.as_deref().context("--kernel FILE is missing")?;
    let kernel = Kernel::from_bytes(read_file("--kernel", path, KERNEL_LIMIT)?, cli.arch)
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
    let shared_memory = !cli.vhost_user.is_empty();
    let rings = match cli.ring {
        Ring::Split => Features::RING,
        Ring::Packed => Features::RING.with(Features::PACKED),
    };
    let interface = match cli.virtio {
        Virtio::Modern => Interface::Modern,
        Virtio::Legacy if cli.ring == Ring::Packed => {
            anyhow::bail!("--virtio legacy has no packed rings: leave --ring packed out")
        }
        Virtio::Legacy if !cli.vhost_user.is_empty() => {
            anyhow::bail!("--vhost-user: daemons serve no legacy driver; leave --virtio legacy out")
        }
        Virtio::Legacy => Interface::Legacy,
    };
    let registers = match cli.registers {
        cli::Registers::Page => Registers::SharedPage,
        cli::Registers::Trapped => Registers::Trapped,
    };
    let transports = vec![Transport { interface, rings, registers }];
    Ok(MachineConfig { memory, shared_memory, cpus, kernel, initrd, command_line, pin, transports })
}

fn hardware(cli: &Cli) -> VmConfig {
    let guest = match cli.arch {
        Arch::Armv7 => GuestMode::Aarch32,
        Arch::Arm64 => GuestMode::Aarch64,
    };
    let gic = Gic::V2 {
        distributor: layout::GIC_DISTRIBUTOR.start,
        cpu_interface: layout::GIC_CPU_INTERFACE.start,
    };
    VmConfig { guest, gic, vcpus: cli.cpus }
}

fn random(rate: Option<ByteRate>) -> Rng<HostEntropy> {
    match rate {
        Some(ByteRate(bytes)) => {
            Rng::limited(HostEntropy, RateLimit { per_second: bytes, burst: bytes })
        }
        None => Rng::new(HostEntropy),
    }
}

fn add_disks(devices: &mut Devices, cli: &Cli) -> anyhow::Result<()> {
    for disk in &cli.disk {
        let DiskOption { path, read_only, direct, .. } = disk;
        let options = ImageOptions { read_only: *read_only, direct: *direct };
        let image = Image::open(path, options).context("--disk")?;
        devices.push(Box::new(block_device(&image, disk, cli)?));
    }
    if cli.disk.is_empty() {
        // Open and without a name, it is gone at the end whatever happens.
        let blank = tempfile::NamedTempFile::new().context("a blank disk")?;
        blank.as_file().set_len(64 << 20).context("a blank disk")?;
        let image = Image::open(blank.path(), ImageOptions::default()).context("a blank disk")?;
        let disk = DiskOption::of("blank".into());
        devices.push(Box::new(block_device(&image, &disk, cli)?));
    }
    Ok(())
}

fn block_device(image: &Image, disk: &DiskOption, cli: &Cli) -> anyhow::Result<Blk<FileDisk>> {
    let queues = FileDisk::for_queues(image, disk.queues(cli.cpus.into()));
    let serial = disk.serial.unwrap_or_else(|| Serial::of_file(&disk.path));
    let device = Blk::with_queues(queues, serial).context("--disk")?;
    Ok(device.with_writeback(disk.writeback).with_limits(disk.limits))
}

/// The one line before the guest speaks.
fn greeting(cli: &Cli, config: &MachineConfig, networks: &[String]) -> String {
    let kernel = &config.kernel.format;
    let cpus = if cli.cpus == 1 { "1 CPU".into() } else { format!("{} CPUs", cli.cpus) };
    let network = if networks.is_empty() { "no network".into() } else { networks.join(", ") };
    let (name, mib) = (&cli.name, cli.mem.0 >> 20);
    format!("{name}: {kernel}, {cpus}, {mib} MiB, {network}; Ctrl-A x quits, Ctrl-A c helps")
}

/// Does what the person at the terminal wants; the value is the exit status, once the end was asked for.
fn obey(
    events: Receiver<TerminalEvent>,
    resizer: Option<Resizer>,
    remote: Remote,
    netpath: Arc<NetPath>,
) -> Arc<OnceLock<u8>> {
    let asked = Arc::new(OnceLock::new());
    let end = Arc::clone(&asked);
    thread::spawn(move || {
        for event in events {
            let status = match event {
                TerminalEvent::Resized(size) => {
                    resizer.iter().for_each(|resizer| resizer.resize(size));
                    continue;
                }
                TerminalEvent::Status => {
                    netpath.show();
                    continue;
                }
                TerminalEvent::Quit => 0,
                TerminalEvent::Terminated(signal) => 128 + signal as u8,
            };
            end.get_or_init(|| status);
            remote.stop();
        }
    });
    asked
}
