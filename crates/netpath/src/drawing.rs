//! The road, drawn.

use std::fmt::Write;

use crate::Report;
use crate::hop::{Hop, Place};
use crate::number::{time, whole};

const BOX: [usize; 2] = [150, 110];
const GAP: usize = 26;
const MARGIN: usize = 20;
const TOP: usize = 70;

/// An SVG of the whole report.
pub(crate) fn draw(report: &Report) -> String {
    let width = (2 * MARGIN + report.hops.len() * (BOX[0] + GAP)).max(700);
    let height = TOP + BOX[1] + 90 + 20 * report.advice.len();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    title(&mut svg, report);
    for (at, hop) in report.hops.iter().enumerate() {
        let x = MARGIN + at * (BOX[0] + GAP);
        if at > 0 {
            arrow(&mut svg, x);
        }
        station(&mut svg, report, hop, x);
    }
    conclusion(&mut svg, report);
    svg + "</svg>\n"
}

fn title(svg: &mut String, report: &Report) {
    let reading = &report.reading;
    let [receive, transmit] = reading.frames().map(whole);
    let name = &reading.setup.name;
    text(svg, [MARGIN, 28], 16, "bold", &format!("Network path of {name}"));
    let span = reading.span();
    let frames = format!("{receive} frames to the guest, {transmit} from it, in {span}");
    text(svg, [MARGIN, 48], 12, "normal", &frames);
}

/// A hop: the redder, the dearer.
fn station(svg: &mut String, report: &Report, hop: &Hop, x: usize) {
    let share = report.share(hop);
    let pale = 255 - (share.unwrap_or_default() * 160.0) as u8;
    let fill = if share.is_some() { format!("rgb(255,{pale},{pale})") } else { "#f0f0f0".into() };
    let (dearest, [width, height]) = (report.is_dearest(hop.place), BOX);
    let (border, thick) = if dearest { ("#b00000", 3) } else { ("#606060", 1) };
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{fill}\" \
         stroke=\"{border}\" stroke-width=\"{thick}\"/>"
    );
    text(svg, [x + 8, TOP + 20], 13, "bold", hop.place.name());
    let cost = match (hop.nanos, share) {
        (Some(nanos), Some(share)) => format!("{}, {:.0} %", time(nanos), 100.0 * share),
        (Some(nanos), None) => time(nanos),
        _ => "not timed".into(),
    };
    text(svg, [x + 8, TOP + 38], 12, "normal", &cost);
    for (line, (what, many)) in hop.events.iter().enumerate() {
        text(
            svg,
            [x + 8, TOP + 56 + 14 * line],
            10,
            "normal",
            &format!("{many:.2} {}", short(hop.place, what)),
        );
    }
}

/// What fits into a box.
fn short(place: Place, what: &str) -> &str {
    match (place, what) {
        (Place::Exits, "for registers, to user space") => "to user space",
        (Place::Exits, "all, in the kernel") => "MMIO in the kernel",
        (Place::Exits, "all") => "exits of any kind",
        _ => what,
    }
}

fn arrow(svg: &mut String, x: usize) {
    let (from, to, y) = (x - GAP + 3, x - 4, TOP + BOX[1] / 2);
    let _ = writeln!(
        svg,
        "<path d=\"M{from} {y} H{to} M{} {} L{to} {y} L{} {}\" stroke=\"#606060\" fill=\"none\"/>",
        to - 6,
        y - 5,
        to - 6,
        y + 5
    );
}

fn conclusion(svg: &mut String, report: &Report) {
    let y = TOP + BOX[1] + 34;
    let dearest = match report.dearest() {
        Some(hop) => format!(
            "The dearest hop: {}. The road costs {} a packet.",
            hop.place.name(),
            time(report.cost())
        ),
        None if report.hops.is_empty() => "No packet has passed.".into(),
        None => "No hop's cost is known.".into(),
    };
    text(svg, [MARGIN, y], 13, "bold", &dearest);
    for (line, advice) in report.advice.iter().enumerate() {
        let first = if line == 0 { "What would help: " } else { "And then: " };
        text(svg, [MARGIN, y + 22 + 20 * line], 12, "normal", &format!("{first}{advice}"));
    }
}

fn text(svg: &mut String, [x, y]: [usize; 2], size: usize, weight: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // What XML has no way to say at all, such as a control character in a name.
    let words: String = words
        .chars()
        .filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}'))
        .collect();
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" font-weight=\"{weight}\">{words}</text>"
    );
}
