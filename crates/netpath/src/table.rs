//! A report for people.

use std::fmt;

use cubie_virtio_net::Histogram;

use crate::Report;
use crate::number::{each, time, whole};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setup = &self.reading.setup;
        let who = if setup.vhost { "served by the kernel" } else { "served here" };
        let pairs =
            if setup.pairs == 1 { "1 pair".into() } else { format!("{} pairs", setup.pairs) };
        let span = self.reading.span();
        writeln!(f, "network path of {}: {who}, {pairs}, {span}", setup.name)?;
        if let Some(polling) = self.reading.polling.filter(|polling| !polling.is_zero()) {
            let polling = time(polling.as_nanos() as f64);
            writeln!(f, "  its threads have looked for frames in vain for {polling}")?;
        }
        if self.hops.is_empty() {
            return writeln!(f, "  no packet has passed");
        }
        self.ways(f)?;
        self.road(f)?;
        self.conclusion(f)
    }
}

impl Report {
    /// What went each way, and what that took.
    fn ways(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reading = &self.reading;
        let (frames, bytes) = (reading.frames(), reading.bytes());
        line(f, "", ["to the guest".into(), "from the guest".into()])?;
        line(f, "frames", frames.map(whole))?;
        line(f, "bytes a frame", [0, 1].map(|way| ratio(bytes[way], frames[way], 0)))?;
        let efforts = &reading.effort;
        let kicks = [0, 1].map(|way| efforts[way].kicks.map_or("–".into(), whole));
        line(f, "kicks of the driver", kicks)?;
        if !setup_seen(self) {
            return self.drops(f);
        }
        let of = |what: &dyn Fn(usize) -> String| [what(0), what(1)];
        line(
            f,
            "chains without a kick",
            of(&|way| {
                let effort = &efforts[way];
                effort
                    .kicks
                    .map_or("–".into(), |kicks| whole(effort.chains.saturating_sub(kicks)))
            }),
        )?;
        line(f, "wake-ups by kicks", of(&|way| whole(efforts[way].woken_by_kicks)))?;
        line(
            f,
            "wake-ups by the host",
            of(&|way| match way {
                0 => whole(efforts[0].woken_by_host),
                _ => "–".into(),
            }),
        )?;
        line(f, "chains a frame", of(&|way| ratio(efforts[way].chains, frames[way], 2)))?;
        line(f, "frames a batch", of(&|way| ratio(frames[way], efforts[way].batches, 1)))?;
        line(f, "interrupts", of(&|way| whole(efforts[way].interrupts)))?;
        line(f, "interrupts saved", of(&|way| whole(efforts[way].suppressed())))?;
        line(f, "calls for nothing", of(&|way| whole(efforts[way].empty_calls)))?;
        line(f, "bytes copied here", of(&|way| whole(efforts[way].copied)))?;
        line(f, "waited for buffers", of(&|way| whole(efforts[way].held + efforts[way].starved)))?;
        let turn = |way: usize| quantiles(&efforts[way].samples.turn);
        line(f, "wake-up to interrupt", of(&turn))?;
        line(f, "a call of the host", of(&|way| quantiles(&efforts[way].samples.call)))?;
        self.drops(f)
    }

    /// What did not pass, and why: only what happened.
    fn drops(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reading = &self.reading;
        let drops = [reading.receive.drops, reading.transmit.drops];
        let host = reading.interface.unwrap_or_default();
        for (why, counts) in [
            ("impossible length", drops.map(|drops| drops.length)),
            ("header not agreed on", drops.map(|drops| drops.header)),
            ("refused by the host", drops.map(|drops| drops.refused)),
            ("filtered", drops.map(|drops| drops.filtered)),
            ("pair not in use", drops.map(|drops| drops.inactive)),
            ("link down", drops.map(|drops| drops.link_down)),
            ("by the host's interface", [host.receive_drops, host.transmit_drops]),
        ] {
            if counts != [0, 0] {
                line(f, &format!("dropped, {why}"), counts.map(whole))?;
            }
        }
        Ok(())
    }

    /// The hops, each with its cost.
    fn road(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n  {:<14}{:>12}{:>9}   a packet", "hop", "a packet", "part")?;
        for hop in &self.hops {
            let nanos = hop.nanos.map_or("–".into(), time);
            let part =
                self.share(hop).map_or(String::new(), |part| format!("{:.0} %", 100.0 * part));
            let events = hop.events.iter().map(|(what, many)| format!("{many:.2} {what}"));
            let events = events.collect::<Vec<_>>().join(", ");
            let row = format!("  {:<14}{nanos:>12}{part:>9}   {events}", hop.place.name());
            writeln!(f, "{}", row.trim_end())?;
        }
        Ok(())
    }

    fn conclusion(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(dearest) = self.dearest() {
            let part = 100.0 * self.share(dearest).unwrap_or_default();
            writeln!(
                f,
                "\n  The dearest hop: {}, {part:.0} % of {}.",
                dearest.place.name(),
                time(self.cost())
            )?;
        } else {
            writeln!(f, "\n  No hop's cost is known.")?;
        }
        match self.advice.split_first() {
            None if !self.is_timed() => {
                writeln!(f, "  Too little was timed to say what would help: let more packets pass.")
            }
            None => writeln!(f, "  No switch would help much."),
            Some((first, rest)) => {
                writeln!(f, "  What would help: {first}")?;
                rest.iter().try_for_each(|next| writeln!(f, "  And then: {next}"))
            }
        }
    }
}

/// Whether this process sees what happens.
fn setup_seen(report: &Report) -> bool {
    !report.reading.setup.vhost
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, [receive, transmit]: [String; 2]) -> fmt::Result {
    writeln!(f, "  {what:<32}{receive:>24}{transmit:>24}")
}

fn ratio(many: u64, of: u64, digits: usize) -> String {
    each(many, of).map_or("–".into(), |ratio| format!("{ratio:.digits$}"))
}

/// What half of the times, and nearly all, lie below.
fn quantiles(times: &Histogram) -> String {
    match (times.below(0.5), times.below(0.99)) {
        (Some(half), Some(most)) => format!("< {}, < {}", time(half as f64), time(most as f64)),
        _ => "–".into(),
    }
}
