//! The table.

use std::fmt::Write;

use crate::daemon::PEER;
use crate::figures::{Row, publish};
use crate::time::{Figures, Measured};

/// Prints it and writes it to `target/figures`.
pub(crate) fn publish_all(measured: &[Measured]) -> anyhow::Result<()> {
    let rows: Vec<_> = measured.iter().flat_map(rows).collect();
    Ok(publish("vhost_user", &rows, Some(&table(measured)))?)
}

fn rows(Measured { case, ours, peer }: &Measured) -> Vec<Row> {
    let row = |unit, ours, peer| Row { row: case.to_string(), unit, ours, peer, peer_name: PEER };
    let syscalls = ours.syscalls.zip(peer.syscalls);
    [
        row("ns a request", median(&ours.wall), median(&peer.wall)),
        row("ns of CPU time a request", median(&ours.cpu), median(&peer.cpu)),
    ]
    .into_iter()
    .chain(syscalls.map(|(ours, peer)| row("system calls a request", ours, peer)))
    .collect()
}

fn table(measured: &[Measured]) -> String {
    let mut text = format!("| | cubie | {PEER} | ratio |");
    for what in ["CPU µs a request", "system calls a request"] {
        text += &format!(" {what}: cubie | {PEER} |");
    }
    let _ = writeln!(text, "\n|---|{}", "---:|".repeat(7));
    for Measured { case, ours, peer } in measured {
        let cells = [
            speed_of(ours, case.is_sequential().then_some(case.size)),
            speed_of(peer, case.is_sequential().then_some(case.size)),
            // Of speeds, not of times.
            format!("{:.2}", ratio(&peer.wall, &ours.wall)),
            format!("{:.1}", median(&ours.cpu) / 1e3),
            format!("{:.1}", median(&peer.cpu) / 1e3),
            calls(ours),
            calls(peer),
        ];
        let _ = writeln!(text, "| {case} | {} |", cells.join(" | "));
    }
    text
}

/// Requests a second, or those bytes of each.
fn speed_of(figures: &Figures, bytes: Option<usize>) -> String {
    let nanoseconds = median(&figures.wall);
    match bytes {
        Some(bytes) => format!("{:.0} MB/s", bytes as f64 * 1e3 / nanoseconds),
        None => format!("{:.1} kIOPS", 1e6 / nanoseconds),
    }
}

fn calls(figures: &Figures) -> String {
    figures.syscalls.map(|calls| format!("{calls:.2}")).unwrap_or_default()
}

/// The median of the slices' ratios: both daemons' slices lie close together in time.
fn ratio(one: &[f64], other: &[f64]) -> f64 {
    let ratios: Vec<_> = one.iter().zip(other).map(|(one, other)| one / other).collect();
    median(&ratios)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}
