//! The options, in the manner of LKVM.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use cubie::lkvm::{ByteRate, DiskOption, MemorySize, NetworkOption, VhostUserOption};
use cubie::vmm::Arch;

/// Start a Linux guest on a virtual CubieTruck: KVM, GICv2, two ARMv7 CPUs, virtio devices.
///
/// Without options: Debian's ARMv7 kernel with a small shell, a console, a random source, a blank disk
/// and a network card. In the guest, `poweroff` ends it and `reboot` restarts it; Ctrl-A x quits from
/// outside, Ctrl-A c shows the other keys. On a machine without ARM KVM the guest runs inside an
/// emulated ARM board, with the same options.
#[derive(Clone, Debug, Parser)]
#[command(name = "cubietruck-vm", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Kernel: ARM zImage or Image, ARM64 Image, also compressed [default: Debian's, prepared once]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,

    /// Initial RAM disk [default: a small shell, when the kernel is the default too]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,

    /// Disk image or block device, raw; may be given several times [default: a blank 64 MiB, gone at
    /// the end]. PATH, and behind it: `,ro` to be read only; `,direct` to pass by the host's page cache;
    /// `,wce=off` to have each write on stable storage before it is answered; `,queues=N` [default: one for
    /// each CPU]; `,serial=NAME` [default: the file's name]; `,iops=N` operations and `,bw=BYTES` bytes a
    /// second at most (64K, 1M), with `N:BURST` so many at once. docs/block.md has more
    #[arg(short, long, value_name = "PATH[,OPTIONS]")]
    pub(crate) disk: Vec<DiskOption>,

    /// Network, may be given several times [default: mode=user]:
    /// `mode=user[,hostfwd=tcp:127.0.0.1:8022-:22][,restrict][,loopback=off]` needs no root;
    /// `mode=tap[,tapif=NAME][,mq=PAIRS][,vhost=1][,poll=USECS]` has PAIRS of queues, each with a thread;
    /// with `vhost=1` the host's kernel moves the frames, with `poll=50` a thread looks for more of them by
    /// itself for up to 50 microseconds before it sleeps. A tap leads to a bridge of the host with
    /// `bridge=br0`, to a private network behind the host's address with `nat` or `nat=10.1.2.0/24`,
    /// or to the guest's own address with `routed=10.1.2.3`; `macvtap=eth0` shares a card of the
    /// host's instead. `mode=socket,socket=PATH[,listen]` leads to
    /// another VM, to QEMU (`-netdev stream`) or to passt. The cable of `mode=null` leads nowhere. Each
    /// with `[,guest_mac=MAC]`, and with `[,pcap=FILE[,snaplen=BYTES]]` to have all frames in FILE, for
    /// Wireshark; or `none`.
    /// docs/networking.md has more
    #[arg(short, long, value_name = "OPTIONS")]
    pub(crate) network: Vec<NetworkOption>,

    /// A device that a vhost-user daemon serves, may be given several times: `type=TYPE,socket=PATH`, where TYPE is
    /// `blk` (`qemu-storage-daemon`) with `[,queues=N]`, `fs` (`virtiofsd`) with `,tag=NAME[,queues=N]`, `net` with
    /// `[,guest_mac=MAC]`, `rng` or `console`. The guest's memory is then shared with them, and comes in huge
    /// pages only where the host has that allowed. docs/vhost-user.md has more
    #[arg(long, value_name = "OPTIONS")]
    pub(crate) vhost_user: Vec<VhostUserOption>,

    /// Number of CPUs, 1 to 8
    #[arg(short, long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) cpus: u8,

    /// Memory in MiB, or with a unit: 512M, 2G
    #[arg(short, long, default_value = "512", value_name = "SIZE")]
    pub(crate) mem: MemorySize,

    /// Bytes a second that the guest gets from the random source at most, a second's worth at once: 1000,
    /// 64K, 1M [default: as many as it asks for]
    #[arg(long, value_name = "BYTES")]
    pub(crate) rng_rate: Option<ByteRate>,

    /// More words for the kernel's command line
    #[arg(short, long, default_value = "", value_name = "WORDS", allow_hyphen_values = true)]
    pub(crate) params: String,

    /// What the guest's processors are
    #[arg(long, value_name = "armv7|arm64", default_value = "armv7")]
    pub(crate) arch: Arch,

    /// Where the guest's console is: virtio (hvc0) or the board's 16550 UART (ttyS0)
    #[arg(long, value_enum, default_value_t = Console::Virtio)]
    pub(crate) console: Console,

    /// Which rings the virtio devices have: split, or packed for drivers that know them
    #[arg(long, value_enum, default_value_t = Ring::Split)]
    pub(crate) ring: Ring,

    /// What the guest's drivers find: virtio as it is since version 1, or the legacy interface, for
    /// guests that are too old for that (split rings only)
    #[arg(long, value_enum, default_value_t = Virtio::Modern)]
    pub(crate) virtio: Virtio,

    /// How the guest reads the virtio devices' registers: in a page of memory without leaving for the
    /// host, where KVM has read-only memory, or trapped, with two exits more an interrupt
    #[arg(long, value_enum, default_value_t = Registers::Page)]
    pub(crate) registers: Registers,

    /// Write the device tree to FILE and do not start
    #[arg(long, value_name = "FILE")]
    pub(crate) dump_dtb: Option<PathBuf>,

    /// At the end, say what a packet has cost at each hop between guest and host since the start, and which
    /// switch would help: a table on standard error, or in FOLDER, which is there, netpath.txt, netpath.json
    /// and a drawing for each card, netpath.svg. Also without this, Ctrl-A s shows the table at any time, of
    /// what came since the last Ctrl-A s
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, require_equals = true)]
    pub(crate) netpath: Option<Option<PathBuf>>,

    /// Keep each of the guest's CPUs on a CPU of the host (always so on the emulated board)
    #[arg(long)]
    pub(crate) pin: bool,

    /// Name of the guest: in messages, and, with the tap's, what a MAC address is made from
    #[arg(long, default_value = "cubietruck")]
    pub(crate) name: String,
}

impl Cli {
    /// A folder that cannot be written to is found before anything is started. Nothing is left in it.
    pub(crate) fn check_folder(&self) -> anyhow::Result<()> {
        let Some(Some(folder)) = &self.netpath else { return Ok(()) };
        let trial = tempfile::tempfile_in(folder);
        let what =
            || format!("--netpath={}: give a folder that can be written to", folder.display());
        trial.map(drop).with_context(what)
    }

    /// The options by which a hypervisor may refuse a machine.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn hardware_options(&self) -> String {
        format!("--arch {} --cpus {}", self.arch.name(), self.cpus)
    }
}

/// A `--console`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Console {
    Virtio,
    Serial,
}

/// A `--ring`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ring {
    Split,
    Packed,
}

/// A `--virtio`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Virtio {
    Modern,
    Legacy,
}

/// A `--registers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Registers {
    Page,
    Trapped,
}
