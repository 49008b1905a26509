//! The tables.

use std::fmt::Write;

use crate::figures::{Row, publish};
use crate::side::{CUBIE, NETWORKS, Network, PEERS, Side};
use crate::work::{COUNTED, Costs, DIRECTIONS, Job, frames};

const UNITS: [&str; COUNTED.len()] = ["ms", "frames", "exits", "exits", "interrupts", "calls"];

type Measured = [(Side, Vec<(Job, Costs)>)];

/// Prints the tables and writes them and their rows: ours beside each other side.
pub(crate) fn publish_all(measured: &Measured) -> anyhow::Result<()> {
    let (mut text, mut rows) = (String::new(), vec![]);
    for segmentation in [true, false] {
        for (direction, name) in DIRECTIONS {
            let cut = if segmentation { "" } else { ", without segmentation by the card" };
            let wanted = |job: &Job| job.direction == direction && job.segmentation == segmentation;
            text += &head(&format!("{name}{cut}"));
            for network in NETWORKS {
                let Some(ours) = find(measured, network, CUBIE, wanted) else { continue };
                text += &line(&format!("{network}: {CUBIE}"), &ours, &ours);
                for (peer, _) in PEERS {
                    let Some(theirs) = find(measured, network, peer, wanted) else { continue };
                    text += &line(&format!("{network}: {peer}"), &theirs, &ours);
                    for (i, what) in COUNTED.iter().enumerate() {
                        let row = format!("{name}{cut}, {network}: {what} a MiB");
                        let (ours, unit) = (ours[i], UNITS[i]);
                        rows.push(Row { row, unit, ours, peer: theirs[i], peer_name: peer });
                    }
                }
            }
            text.push('\n');
        }
    }
    Ok(publish("net", &rows, Some(text.trim_end()))?)
}

fn find(
    measured: &Measured,
    network: Network,
    who: &str,
    wanted: impl Fn(&Job) -> bool,
) -> Option<Costs> {
    let (_, costs) = measured.iter().find(|(s, _)| s.network == network && s.who == who)?;
    Some(costs.iter().find(|(job, _)| wanted(job))?.1)
}

/// «Exits to user space a frame» stands behind those of a MiB.
fn head(what: &str) -> String {
    let mut text = format!("| {what}: a MiB takes | MiB/s | ÷ cubie's |");
    for (i, counted) in COUNTED.iter().enumerate() {
        let _ = write!(text, " {counted} |");
        text += if i == 2 { " … a frame |" } else { "" };
    }
    format!("{text}\n|---|{}\n", "---:|".repeat(COUNTED.len() + 3))
}

fn line(name: &str, costs: &Costs, ours: &Costs) -> String {
    let speed = 1000.0 / costs[0];
    let mut text = format!("| {name} | {speed:.0} | {:.2} |", ours[0] / costs[0]);
    for (i, cost) in costs.iter().enumerate() {
        let _ = write!(text, " {} |", number(*cost));
        if i == 2 {
            let _ = write!(text, " {} |", number(cost / frames(costs)));
        }
    }
    text + "\n"
}

fn number(value: f64) -> String {
    // A difference may be a hair below zero.
    match value.abs() {
        0.0..0.005 => "0".into(),
        0.005..10.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}
