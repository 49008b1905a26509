//! A report for machines.

use std::time::Duration;

use cubie_virtio_net::{Effort, Histogram, Traffic};
use serde_json::{Value, json};

use crate::Report;

pub(crate) fn object(report: &Report) -> Value {
    let reading = &report.reading;
    let setup = &reading.setup;
    let [receive, transmit] = reading.effort;
    let hops = report.hops.iter().map(|hop| {
        let events: serde_json::Map<_, _> =
            hop.events.iter().map(|(what, many)| ((*what).into(), (*many).into())).collect();
        json!({ "place": hop.place.name(), "nanos": hop.nanos, "events": events })
    });
    let hops: Vec<_> = hops.collect();
    let advice = report.advice.iter().map(|advice| {
        json!({ "switch": advice.switch.name(), "gain_nanos": advice.gain, "why": advice.why })
    });
    json!({
        "card": setup.name,
        "vhost": setup.vhost,
        "pairs": setup.pairs,
        "cpus": setup.cpus,
        "registers": if setup.trapped { "trapped" } else { "page" },
        "begun_seconds": reading.begun.as_secs_f64(),
        "seconds": reading.elapsed.as_secs_f64(),
        "frames": { "receive": reading.frames()[0], "transmit": reading.frames()[1] },
        "bytes": { "receive": reading.bytes()[0], "transmit": reading.bytes()[1] },
        "receive": way(&reading.receive, &receive),
        "transmit": way(&reading.transmit, &transmit),
        "exits_to_user_space": reading.device_exits,
        "exits": reading.exits.map(|exits| json!({
            "all": exits.all,
            "user_mmio": exits.user_mmio,
            "kernel_mmio": exits.kernel_mmio,
            "idle": exits.idle,
        })),
        "thread_nanos": {
            "guest": reading.guest.map(nanos),
            "workers": reading.workers.map(nanos),
            "polling": reading.polling.map(nanos),
            "vhost": reading.kernel.map(nanos),
        },
        "interface": reading.interface.map(|interface| json!({
            "receive_drops": interface.receive_drops,
            "transmit_drops": interface.transmit_drops,
        })),
        "hops": hops,
        "nanos_a_packet": report.cost(),
        "dearest": report.dearest().map(|hop| hop.place.name()),
        "advice": advice.collect::<Vec<_>>(),
    })
}

fn way(traffic: &Traffic, effort: &Effort) -> Value {
    let drops = &traffic.drops;
    let samples = &effort.samples;
    json!({
        "frames": traffic.frames,
        "bytes": traffic.bytes,
        "drops": {
            "length": drops.length,
            "header": drops.header,
            "refused": drops.refused,
            "filtered": drops.filtered,
            "inactive": drops.inactive,
            "link_down": drops.link_down,
        },
        "kicks": effort.kicks,
        "woken_by_kicks": effort.woken_by_kicks,
        "woken_by_host": effort.woken_by_host,
        "own_kicks": effort.own_kicks,
        "chains": effort.chains,
        "batches": effort.batches,
        "interrupts": effort.interrupts,
        "interrupts_suppressed": effort.suppressed(),
        "empty_calls": effort.empty_calls,
        "held": effort.held,
        "starved": effort.starved,
        "bytes_copied": effort.copied,
        "samples": {
            "turns": samples.turns,
            "frames": samples.frames,
            "nanos": samples.nanos,
            "host_nanos": samples.host,
            "interrupts_nanos": samples.interrupts,
            "turn": histogram(&samples.turn),
            "call": histogram(&samples.call),
        },
    })
}

/// Counts by the power of two, in nanoseconds, that each time is at least.
fn histogram(times: &Histogram) -> Value {
    let counts = times.0.iter().enumerate().filter(|(_, count)| **count > 0);
    counts.map(|(bucket, count)| ((1u64 << bucket).to_string(), Value::from(*count))).collect()
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
