//! The sides, and the table.

use std::fmt::{self, Write};
use std::path::Path;

use crate::figures::{Row, publish};
use crate::work::{Costs, TAP};

/// Who is measured: ours first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Page,
    Trapped,
    QemuMmio,
    QemuPci,
}

pub(crate) const SIDES: [Side; 4] = [Side::Page, Side::Trapped, Side::QemuMmio, Side::QemuPci];

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Page => "cubie",
            Self::Trapped => "cubie, trapped",
            Self::QemuMmio => "QEMU virtio-mmio",
            Self::QemuPci => "QEMU virtio-pci, MSI",
        }
    }

    /// Our options, if it is one of ours.
    pub(crate) fn ours(self) -> Option<Vec<String>> {
        let registers = match self {
            Self::Page => "page",
            Self::Trapped => "trapped",
            Self::QemuMmio | Self::QemuPci => return None,
        };
        let network = format!("mode=tap,tapif={TAP}");
        Some(["--registers", registers, "--network", &network].map(Into::into).into())
    }

    /// QEMU's options for disk and network.
    pub(crate) fn devices(self, disk: &Path) -> String {
        let bus = if matches!(self, Self::QemuPci) { "pci" } else { "device" };
        let disk = disk.display();
        format!(
            "-drive file={disk},format=raw,if=none,id=d -device virtio-blk-{bus},drive=d \
             -netdev tap,id=n,ifname={TAP},script=no,downscript=no,vhost=off \
             -device virtio-net-{bus},netdev=n"
        )
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

type Line = (&'static str, &'static str, fn(&Costs) -> f64);

const LINES: [Line; 14] = [
    ("boot: exits for MMIO to user space", "exits", |c| c.boot.user),
    ("boot: exits for MMIO in the kernel", "exits", |c| c.boot.kernel),
    ("boot: exits", "exits", |c| c.boot.exits),
    ("to the prompt: exits for MMIO to user space", "exits", |c| c.prompt.user),
    ("4 KiB read: exits for MMIO to user space", "exits", |c| c.read.user),
    ("4 KiB read: exits for MMIO in the kernel", "exits", |c| c.read.kernel),
    ("4 KiB read: exits", "exits", |c| c.read.exits),
    ("4 KiB read: interrupts", "interrupts", |c| c.read.interrupts),
    ("4 KiB read: instructions", "instructions", |c| c.read.instructions),
    ("ping: exits for MMIO to user space", "exits", |c| c.ping.user),
    ("ping: exits for MMIO in the kernel", "exits", |c| c.ping.kernel),
    ("ping: exits", "exits", |c| c.ping.exits),
    ("ping: interrupts", "interrupts", |c| c.ping.interrupts),
    ("ping: instructions", "instructions", |c| c.ping.instructions),
];

/// Prints the table and writes it and its rows: ours beside each other side.
pub(crate) fn publish_all(measured: &[(&str, Vec<Costs>)]) -> anyhow::Result<()> {
    let mut text = format!("| | {} |\n", SIDES.map(Side::name).join(" | "));
    text += &format!("|---|{}\n", "---:|".repeat(SIDES.len()));
    let mut rows = vec![];
    for (arch, sides) in measured {
        for (what, unit, of) in LINES {
            let values: Vec<_> = sides.iter().map(of).collect();
            let _ = write!(text, "| {arch}, {what} |");
            values.iter().for_each(|value| text += &format!(" {} |", number(*value)));
            text.push('\n');
            for (side, peer) in SIDES.iter().zip(&values).skip(1) {
                let row = format!("{arch}, {what}");
                rows.push(Row { row, unit, ours: values[0], peer: *peer, peer_name: side.name() });
            }
        }
    }
    Ok(publish("exits", &rows, Some(&text))?)
}

/// Small ones are averages, and their parts matter.
fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}
