//! The options, in the manner of LKVM.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use cubie::net::Mac;
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
    /// the end]
    #[arg(short, long, value_name = "PATH[,ro]")]
    pub(crate) disk: Vec<Disk>,

    /// Network: `mode=tap[,tapif=NAME][,guest_mac=MAC]` or `none`; may be given several times
    /// [default: mode=tap, where it is permitted]
    #[arg(short, long, value_name = "OPTIONS")]
    pub(crate) network: Vec<Network>,

    /// Number of CPUs, 1 to 8
    #[arg(short, long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) cpus: u8,

    /// Memory in MiB, or with a unit: 512M, 2G
    #[arg(short, long, default_value = "512", value_name = "SIZE")]
    pub(crate) mem: Memory,

    /// More words for the kernel's command line
    #[arg(short, long, default_value = "", value_name = "WORDS", allow_hyphen_values = true)]
    pub(crate) params: String,

    /// What the guest's processors are
    #[arg(long, value_enum, default_value_t = ArchName::Armv7)]
    pub(crate) arch: ArchName,

    /// Where the guest's console is: virtio (hvc0) or the board's 16550 UART (ttyS0)
    #[arg(long, value_enum, default_value_t = Console::Virtio)]
    pub(crate) console: Console,

    /// Which rings the virtio devices have: split, or packed for drivers that know them
    #[arg(long, value_enum, default_value_t = Ring::Split)]
    pub(crate) ring: Ring,

    /// Write the device tree to FILE and do not start
    #[arg(long, value_name = "FILE")]
    pub(crate) dump_dtb: Option<PathBuf>,

    /// Keep each of the guest's CPUs on a CPU of the host (always so on the emulated board)
    #[arg(long)]
    pub(crate) pin: bool,

    /// Name of the guest: in messages, and what its MAC addresses are made from
    #[arg(long, default_value = "cubietruck")]
    pub(crate) name: String,
}

/// A `--disk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
}

impl FromStr for Disk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let path = parts.next().filter(|path| !path.is_empty()).ok_or("a disk needs a PATH")?;
        let mut disk = Self { path: path.into(), read_only: false };
        for option in parts {
            match option {
                "ro" => disk.read_only = true,
                "trans=mmio" => {}
                _ => return Err(format!("unknown disk option «{option}»: there is `ro`")),
            }
        }
        Ok(disk)
    }
}

/// A `--network`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    None,
    Tap { name: Option<String>, mac: Option<Mac> },
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let (mut mode, mut name, mut mac) = (None, None, None);
        for option in text.split(',') {
            match option.split_once('=') {
                Some(("mode", value)) => mode = Some(value),
                Some(("tapif", value)) => name = Some(value.to_owned()),
                Some(("guest_mac", value)) => {
                    mac = Some(value.parse().map_err(|e| format!("guest_mac: {e}"))?);
                }
                Some(("trans", "mmio")) => {}
                _ => {
                    let known = "mode=tap, tapif=NAME, guest_mac=MAC, trans=mmio";
                    return Err(format!("unknown network option «{option}»: there are {known}"));
                }
            }
        }
        match mode {
            Some("tap") => Ok(Self::Tap { name, mac }),
            Some("none") => Ok(Self::None),
            Some(other) => Err(format!("unknown mode «{other}»: there are tap and none")),
            None => Err("a network needs mode=tap, or is `none`".into()),
        }
    }
}

/// A `--mem`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory(pub(crate) u64);

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match &text[digits.len()..] {
            "" | "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            unit => return Err(format!("unknown unit «{unit}»: give MiB, or 512M, or 2G")),
        };
        let number: u64 = digits.parse().map_err(|_| "give a number of MiB, such as 512")?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| "too large".into())
    }
}

/// An `--arch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArchName {
    Armv7,
    Arm64,
}

impl From<ArchName> for Arch {
    fn from(name: ArchName) -> Self {
        match name {
            ArchName::Armv7 => Self::Armv7,
            ArchName::Arm64 => Self::Arm64,
        }
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
