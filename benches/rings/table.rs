//! The tables.

use std::fmt::Write;

use crate::case::Case;
use crate::figures::{Row, publish};
use crate::{LANES, OURS, PEERS};

/// One unit's figures: for each case, the slices of each lane.
pub(crate) struct Measured {
    pub(crate) unit: &'static str,
    pub(crate) cases: Vec<Vec<Vec<f64>>>,
}

/// Which lane is compared with which, in the table's last columns.
const RATIOS: [(&str, &str); 4] =
    [("split", "floor"), ("packed", "split"), ("iter", "split"), ("pop", "split")];

/// Prints all tables and writes them to `target/figures`, under a name of its own for a build with
/// link-time optimization.
pub(crate) fn publish_all(measured: &[Measured]) -> anyhow::Result<()> {
    let name = match option_env!("CARGO_PROFILE_BENCH_LTO") {
        Some("fat") => "rings-lto",
        _ => "rings",
    };
    let rows: Vec<_> = measured.iter().flat_map(rows).collect();
    let tables: Vec<_> = measured.iter().map(table).collect();
    Ok(publish(name, &rows, Some(&tables.join("\n")))?)
}

/// Each of our rings beside each peer.
fn rows(measured: &Measured) -> Vec<Row> {
    let mut rows = vec![];
    for (case, lanes) in Case::all().iter().zip(&measured.cases) {
        for ours in OURS {
            for peer in PEERS {
                rows.push(Row {
                    row: format!("{ours}: {case}"),
                    unit: measured.unit,
                    ours: spread(&net(lanes, ours)).median,
                    peer: spread(&net(lanes, peer)).median,
                    peer_name: peer,
                });
            }
        }
    }
    rows
}

/// The usual cases, and how far all of them reach.
fn table(measured: &Measured) -> String {
    let (ours, peers) = (OURS.join(" | "), PEERS.join(" | "));
    let ratios = RATIOS.map(|(one, other)| format!("{one} ÷ {other}"));
    let columns = OURS.len() + PEERS.len() + RATIOS.len();
    let mut text = format!("| {} | {ours} | {peers} | {} |\n", measured.unit, ratios.join(" | "));
    text += &format!("|---|{}\n", "---:|".repeat(columns));
    let mut all = RATIOS.map(|_| vec![]);
    for (case, lanes) in Case::all().iter().zip(&measured.cases) {
        let ratios = RATIOS.map(|(one, other)| ratio(lanes, one, other));
        all.iter_mut().zip(ratios).for_each(|(all, ratio)| all.push(ratio));
        if case.is_usual() {
            let _ = write!(text, "| {case} |");
            for lane in OURS.iter().chain(&PEERS) {
                let _ = write!(text, " {} |", spread(&net(lanes, lane)));
            }
            ratios.iter().for_each(|ratio| text += &format!(" {ratio:.2} |"));
            text.push('\n');
        }
    }
    let ends = all.map(|ratios| {
        let Spread { least, most, .. } = spread(&ratios);
        format!("{least:.2} to {most:.2}")
    });
    text + &format!(
        "| *all 24 cases* |{} {} |\n",
        " |".repeat(OURS.len() + PEERS.len()),
        ends.join(" | ")
    )
}

/// The slices of a lane without the driver's part, which the lane without a device has measured.
fn net(lanes: &[Vec<f64>], name: &str) -> Vec<f64> {
    let lane = |name| &lanes[LANES.iter().position(|lane| *lane == name).expect("a lane")];
    let idle = lane(if name == "packed" { "idle packed" } else { "idle" });
    lane(name).iter().zip(idle).map(|(all, idle)| all - idle).collect()
}

/// The median of the slices' ratios: both lanes' slices lie close together in time.
fn ratio(lanes: &[Vec<f64>], one: &str, other: &str) -> f64 {
    let (one, other) = (net(lanes, one), net(lanes, other));
    let ratios: Vec<_> = one.iter().zip(other).map(|(one, other)| one / other).collect();
    spread(&ratios).median
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

fn spread(values: &[f64]) -> Spread {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    Spread { least: values[0], median: values[last / 2], most: values[last] }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { least, median, most } = self;
        // Instructions are counted once.
        if least == most {
            return write!(f, "{median:.0}");
        }
        write!(f, "{median:.1} ({least:.1} – {most:.1})")
    }
}
