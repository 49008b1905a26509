//! The tables.

use std::fmt::Write;

use crate::case::Case;
use crate::figures::{Row, publish};
use crate::{OURS, PEER, TAP};

/// The slices of each lane, by its name.
pub(crate) type Lanes = Vec<(&'static str, Vec<f64>)>;

/// One unit's figures for each case.
pub(crate) struct Measured {
    pub(crate) unit: &'static str,
    pub(crate) cases: Vec<Lanes>,
}

/// Prints all tables and writes them to `target/figures`.
pub(crate) fn publish_all(measured: &[Measured]) -> anyhow::Result<()> {
    let rows: Vec<_> = measured.iter().flat_map(rows).collect();
    let tables: Vec<_> = measured.iter().map(table).collect();
    Ok(publish("net_device", &rows, Some(&tables.join("\n")))?)
}

/// Each of our rings beside the peer.
fn rows(measured: &Measured) -> Vec<Row> {
    let mut rows = vec![];
    for (case, lanes) in Case::all().iter().zip(&measured.cases) {
        let Some(peer) = find(lanes, PEER).map(median) else { continue };
        for name in OURS {
            let Some(ours) = find(lanes, name).map(median) else { continue };
            let row = format!("{name}: {case}");
            rows.push(Row { row, unit: measured.unit, ours, peer, peer_name: PEER });
        }
    }
    rows
}

fn table(measured: &Measured) -> String {
    let timed = measured.unit.starts_with("ns");
    let names = OURS.into_iter().chain([PEER]).chain(timed.then_some(TAP));
    let names: Vec<_> = names.collect();
    let mut text = format!("| {} | {} | {PEER} ÷ split |", measured.unit, names.join(" | "));
    text += if timed { " split, Gbit/s | tap, Gbit/s |" } else { "" };
    let columns = names.len() + if timed { 3 } else { 1 };
    let _ = write!(text, "\n|---|{}\n", "---:|".repeat(columns));
    for (case, lanes) in Case::all().iter().zip(&measured.cases) {
        let _ = write!(text, "| {case} |");
        for name in &names {
            let _ = match find(lanes, name) {
                Some(slices) => write!(text, " {} |", spread(slices)),
                None => write!(text, " |"),
            };
        }
        let _ = write!(text, " {} |", ratio(find(lanes, PEER), find(lanes, OURS[0])));
        for name in [OURS[0], TAP].into_iter().filter(|_| timed) {
            let speed = |slices| f64::from(case.frame) * 8.0 / median(slices);
            let speed = find(lanes, name).map(|slices| format!("{:.1}", speed(slices)));
            let _ = write!(text, " {} |", speed.unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

fn find<'a>(lanes: &'a [(&str, Vec<f64>)], name: &str) -> Option<&'a [f64]> {
    lanes.iter().find(|lane| lane.0 == name).map(|lane| lane.1.as_slice())
}

/// The median of the slices' ratios: both lanes' slices lie close together in time.
fn ratio(one: Option<&[f64]>, other: Option<&[f64]>) -> String {
    let (Some(one), Some(other)) = (one, other) else { return String::new() };
    let ratios: Vec<_> = one.iter().zip(other).map(|(one, other)| one / other).collect();
    format!("{:.2}", median(&ratios))
}

fn median(values: &[f64]) -> f64 {
    sorted(values)[(values.len() - 1) / 2]
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The median, and the least slice if there are several.
fn spread(values: &[f64]) -> String {
    let (least, median) = (sorted(values)[0], median(values));
    if least == median { format!("{median:.0}") } else { format!("{median:.0} (from {least:.0})") }
}
