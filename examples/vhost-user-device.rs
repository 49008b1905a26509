//! One of the devices as a vhost-user daemon, for QEMU and other VMMs: docs/vhost-user.md has the other side.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use cubie::blk::{Blk, FileDisk, Image, ImageOptions, Serial};
use cubie::console::{Console, Messages, Terminal, TerminalEvent};
use cubie::net::{Mac, Net, Tap};
use cubie::rng::{HostEntropy, Rng};
use cubie::user_net::{Config, Forward, UserNet};
use cubie::vhost_user::{Listener, Server};
use cubie::virtio::VirtioDevice;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Serve one virtio device of another VMM's guest, over a Unix socket (vhost-user).
///
/// The VMM keeps the guest and shares its memory; the device is here. With QEMU, its memory has to be a file:
///
///   qemu-system-x86_64 -m 512M -object memory-backend-memfd,id=ram,size=512M,share=on
///     -machine q35,memory-backend=ram -chardev socket,id=c,path=PATH
///     -device vhost-user-blk-pci,chardev=c,num-queues=1 …
///
/// One VMM is served at a time, and the next one when it has left. SIGINT and SIGTERM end the daemon and remove the
/// socket; one that a killed daemon has left is replaced. RUST_LOG=debug says more.
#[derive(Debug, Parser)]
#[command(name = "vhost-user-device", version, max_term_width = 100, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    device: Device,
}

/// Buffers of payload a request: QEMU's queues have 128 descriptors unless it is told otherwise, two of which are
/// the request's header and its status.
const MOST_SEGMENTS: u32 = 126;

#[derive(Debug, Subcommand)]
enum Device {
    /// A disk, of a raw image or a block device: -device vhost-user-blk-pci,chardev=c,num-queues=1
    Blk {
        #[command(flatten)]
        socket: Socket,
        /// Its bytes; locked meanwhile, so that nobody else writes to it
        #[arg(value_name = "IMAGE")]
        image: PathBuf,
        /// The guest cannot write to it
        #[arg(long)]
        ro: bool,
    },
    /// A network card: -netdev vhost-user,id=n,chardev=c -device virtio-net-pci,netdev=n
    ///
    /// Without options, it is on a network of its own that needs no root: DHCP, DNS and the way out through
    /// this process's sockets.
    Net {
        #[command(flatten)]
        socket: Socket,
        /// A tap of the host's instead
        #[arg(long, value_name = "NAME", conflicts_with = "hostfwd")]
        tap: Option<String>,
        /// A port of the host that leads to one of the guest: tcp:127.0.0.1:8022-:22
        #[arg(long, value_name = "FORWARD")]
        hostfwd: Vec<Forward>,
    },
    /// A console, which is this terminal; Ctrl-A x quits
    ///
    /// For front-ends that can show any device to their guest; what QEMU has for that depends on its version.
    Console {
        #[command(flatten)]
        socket: Socket,
    },
    /// A source of entropy: -device vhost-user-rng-pci,chardev=c
    Rng {
        #[command(flatten)]
        socket: Socket,
    },
}

#[derive(Debug, Args)]
struct Socket {
    /// Where VMMs find the device
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_writer(|| Messages)
        .with_target(false)
        .without_time()
        .with_env_filter(level.unwrap_or_else(|_| "warn".into()))
        .init();
    match run(cli.device) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vhost-user-device: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(device: Device) -> anyhow::Result<()> {
    match device {
        Device::Blk { socket, image, ro } => {
            let serial = Serial::of_file(&image);
            let options = ImageOptions { read_only: ro, ..ImageOptions::default() };
            let disk = FileDisk::new(Image::open(&image, options)?);
            let disk = Blk::new(disk, serial).with_segments(MOST_SEGMENTS);
            serve(&socket, disk, until_signal()?)
        }
        Device::Net { socket, tap: Some(name), .. } => {
            let tap = Tap::open(Some(&name))?;
            let mac = Mac::made_from(&name);
            serve(&socket, Net::new(tap, mac), until_signal()?)
        }
        Device::Net { socket, tap: None, hostfwd } => {
            let network = UserNet::new(&Config { forwards: hostfwd, ..Config::default() })?;
            let mac = Mac::made_from(&socket.socket.to_string_lossy());
            serve(&socket, Net::new(network, mac), until_signal()?)
        }
        Device::Console { socket } => console(&socket),
        Device::Rng { socket } => serve(&socket, Rng::new(HostEntropy), until_signal()?),
    }
}

/// The guest's console is this terminal.
fn console(socket: &Socket) -> anyhow::Result<()> {
    let (stop, end) = UnixStream::pair()?;
    // The handler is there before the console that it resizes.
    let resizer = Arc::new(std::sync::OnceLock::new());
    let resized = Arc::clone(&resizer);
    let terminal = Terminal::open(move |event| match event {
        TerminalEvent::Resized(size) => {
            if let Some(resizer) = resized.get() {
                cubie::console::Resizer::resize(resizer, size);
            }
        }
        TerminalEvent::Status => {}
        // The other end sees that this one is gone.
        TerminalEvent::Quit | TerminalEvent::Terminated(_) => {
            let _ = end.shutdown(std::net::Shutdown::Both);
        }
    })?;
    let console = Console::new(terminal.backend()?, terminal.size());
    let _ = resizer.set(console.resizer());
    serve(socket, console, stop.into())
}

/// Readable from the first SIGINT or SIGTERM on.
fn until_signal() -> anyhow::Result<OwnedFd> {
    let (stop, end) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, end.try_clone()?)?;
    }
    Ok(stop.into())
}

fn serve(
    Socket { socket }: &Socket,
    device: impl VirtioDevice + 'static,
    stop: OwnedFd,
) -> anyhow::Result<()> {
    let listener = Listener::bind(socket).context("--socket")?;
    Server::new(Box::new(device)).run(&listener, stop)?;
    Ok(())
}
