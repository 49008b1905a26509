//! What reports say, by the figures.

use std::time::Duration;

use cubie_hv::Exits;
use cubie_netpath::{Interface, Place, Reading, Report, Setup, Switch};
use cubie_virtio_net::{Effort, Samples, Traffic};
use proptest::prelude::*;

/// A second in which a card on a tap moved 1000 frames of 100 bytes each way, two a batch. A packet costs the
/// guest 1 µs; the worker 3 µs, of which 1 in the host's stack, 1 for interrupts, 0.4 at the rings.
fn reading() -> Reading {
    let traffic = Traffic { frames: 1000, bytes: 100_000, ..Traffic::default() };
    let mut samples = Samples { turns: 10, frames: 20, nanos: 48_000, ..Samples::default() };
    (samples.host, samples.interrupts) = (20_000, 20_000);
    (samples.turn.0[12], samples.call.0[9]) = (10, 20);
    let effort = Effort {
        kicks: Some(400),
        woken_by_kicks: 400,
        chains: 1000,
        batches: 500,
        interrupts: 500,
        samples,
        ..Effort::default()
    };
    let setup = Setup {
        name: "tap cubie0".into(),
        pairs: 1,
        cpus: 2,
        switches: vec![Switch::Vhost, Switch::Queues, Switch::Polling, Switch::Moderation],
        ..Setup::default()
    };
    Reading {
        setup,
        begun: Duration::ZERO,
        elapsed: Duration::from_secs(1),
        receive: traffic,
        transmit: traffic,
        effort: [effort, effort],
        device_exits: Some(0),
        exits: Some(Exits { all: 5000, kernel_mmio: 1800, ..Exits::default() }),
        guest: Some(Duration::from_nanos(2_000_000)),
        workers: Some(Duration::from_nanos(6_000_000)),
        polling: Some(Duration::ZERO),
        kernel: None,
        interface: Some(Interface::default()),
    }
}

fn hop(report: &Report, place: Place) -> (Option<f64>, Vec<(&'static str, f64)>) {
    let hop = report.hops.iter().find(|hop| hop.place == place).expect("a hop");
    (hop.nanos, hop.events.clone())
}

fn switches(reading: &Reading) -> Vec<Switch> {
    Report::of(reading).advice.iter().map(|advice| advice.switch).collect()
}

#[test]
fn the_workers_time_is_split_as_it_was_sampled() {
    let report = Report::of(&reading());
    let cost = |place| hop(&report, place).0;
    assert_eq!(cost(Place::Guest), Some(1000.0));
    assert_eq!(cost(Place::Host), Some(1000.0));
    assert_eq!(cost(Place::Interrupts), Some(1000.0));
    assert_eq!(cost(Place::Rings), Some(400.0));
    assert_eq!(cost(Place::Waking), Some(600.0), "what is left of 3 µs");
    assert_eq!((cost(Place::Exits), cost(Place::Interface)), (None, None), "nobody times these");
    assert_eq!(report.cost(), 4000.0);
    assert_eq!(hop(&report, Place::Host).1, [("calls", 1.0), ("for nothing", 0.0)]);
    let exits = hop(&report, Place::Exits).1;
    assert_eq!(exits[..2], [("kicks", 0.4), ("for registers, to user space", 0.0)]);
}

#[test]
fn frames_that_were_dropped_took_a_call_where_the_host_saw_them() {
    let mut reading = reading();
    (reading.receive.drops.filtered, reading.receive.drops.length) = (100, 100);
    (reading.transmit.drops.refused, reading.transmit.drops.header) = (200, 500);
    let report = Report::of(&reading);
    assert_eq!(hop(&report, Place::Host).1[0], ("calls", 1.2), "none for a malformed frame");
}

#[test]
fn looking_in_vain_is_no_cost_of_a_packet_and_no_reason_for_more_threads() {
    let usual = Report::of(&reading());
    let mut polling = reading();
    // The rest of the second.
    polling.polling = Some(Duration::from_nanos(994_000_000));
    polling.workers = Some(Duration::from_secs(1));
    let report = Report::of(&polling);
    assert_eq!((&report.hops, &report.advice), (&usual.hops, &usual.advice));
    assert!(report.to_string().contains("looked for frames in vain for 994.0 ms"), "{report}");
    assert!(!usual.to_string().contains("in vain"));
}

#[test]
fn what_nobody_has_measured_is_blank() {
    let unknown =
        Reading { guest: None, workers: None, exits: None, device_exits: None, ..reading() };
    let mut unsampled = unknown.clone();
    unsampled.effort.iter_mut().for_each(|effort| effort.samples = Samples::default());
    for (reading, known) in [(&unknown, true), (&unsampled, false)] {
        let report = Report::of(reading);
        assert_eq!((hop(&report, Place::Guest).0, hop(&report, Place::Waking).0), (None, None));
        assert_eq!(report.dearest().is_some(), known);
        assert_eq!(report.to_string().contains("Too little was timed"), !known);
    }
    assert!(Report::of(&unsampled).to_string().contains("No hop's cost is known"));
    let json: serde_json::Value = serde_json::from_str(&Report::of(&unsampled).json()).unwrap();
    assert!(json["thread_nanos"]["guest"].is_null() && json["dearest"].is_null());
}

#[test]
fn the_dearest_hop_is_the_one_that_costs_the_most() {
    let mut reading = reading();
    reading.guest = Some(Duration::from_nanos(9_000_000));
    assert_eq!(Report::of(&reading).dearest().unwrap().place, Place::Guest);
    reading.workers = Some(Duration::from_nanos(40_000_000));
    assert_eq!(Report::of(&reading).dearest().unwrap().place, Place::Waking);
    let text = Report::of(&reading).to_string();
    assert!(text.contains("The dearest hop: waking"), "{text}");
}

#[test]
fn a_switch_is_named_if_the_figures_speak_for_it_and_no_longer_when_it_is_on() {
    let usual = reading();
    // Rings, interrupts and waking; three quarters of the interrupts; waking.
    assert_eq!(switches(&usual), [Switch::Vhost, Switch::Moderation, Switch::Polling]);
    for (on, left) in [
        (Switch::Vhost, [Switch::Moderation, Switch::Polling]),
        (Switch::Moderation, [Switch::Vhost, Switch::Polling]),
        (Switch::Polling, [Switch::Vhost, Switch::Moderation]),
    ] {
        let mut reading = usual.clone();
        reading.setup.switches.retain(|switch| *switch != on);
        assert_eq!(switches(&reading), left);
    }

    let mut moderated = usual.clone();
    moderated.effort.iter_mut().for_each(|effort| effort.interrupts = 50);
    assert!(!switches(&moderated).contains(&Switch::Moderation), "one for 20 frames");

    // Nearly all of a second is the worker's, and there is another CPU.
    let mut busy = usual.clone();
    busy.workers = Some(Duration::from_nanos(900_000_000));
    assert!(switches(&busy).contains(&Switch::Queues));
    // The guest is in all figures since its boot, and says nothing about the rest.
    let booted = Reading { guest: Some(Duration::from_secs(5)), ..busy.clone() };
    assert_eq!(switches(&booted), switches(&busy));
    busy.setup.pairs = 2;
    assert!(!switches(&busy).contains(&Switch::Queues));
}

#[test]
fn frames_that_were_cut_speak_for_offloads_the_most() {
    let mut bulk = reading();
    (bulk.transmit.bytes, bulk.receive.frames) = (1000 * 1514, 100);
    assert!(!switches(&bulk).contains(&Switch::Offloads), "there are some already");
    bulk.setup.switches = vec![Switch::Offloads];
    let report = Report::of(&bulk);
    let first = &report.advice[0];
    assert_eq!(first.switch, Switch::Offloads);
    assert!(first.why.contains("of 1514 bytes") && first.why.contains("mode=tap"), "{first}");
    bulk.transmit.bytes = 1000 * 30_000;
    assert!(!switches(&bulk).contains(&Switch::Offloads), "they are long already");
}

#[test]
fn exits_to_user_space_speak_for_a_page_of_registers() {
    let mut trapped = reading();
    trapped.device_exits = Some(4000);
    assert!(!switches(&trapped).contains(&Switch::Page), "there is one");
    trapped.setup.switches.push(Switch::Page);
    let report = Report::of(&trapped);
    let page = report.advice.iter().find(|advice| advice.switch == Switch::Page).unwrap();
    assert_eq!(page.gain, 800.0, "four fifths of what the guest's threads cost");
    assert!(page.why.contains("2.00 exits"), "{page}");
    trapped.device_exits = Some(0);
    assert!(!switches(&trapped).contains(&Switch::Page));
}

#[test]
fn the_kernels_card_has_its_frames_from_the_interface_and_blanks_elsewhere() {
    let mut vhost = reading();
    (vhost.receive, vhost.transmit) = Default::default();
    vhost.effort = [Effort { kicks: Some(50), ..Effort::default() }; 2];
    vhost.setup.vhost = true;
    vhost.setup.switches.clear();
    let (received, sent) = ([500, 5000], [1500, 15_000]);
    vhost.interface = Some(Interface { received, sent, receive_drops: 20, transmit_drops: 0 });
    vhost.kernel = Some(Duration::from_nanos(8_000_000));
    let report = Report::of(&vhost);
    assert_eq!(report.reading.frames(), [500, 1500]);
    assert_eq!(hop(&report, Place::Kernel).0, Some(4000.0));
    assert!(report.hops.iter().all(|hop| hop.place != Place::Rings));
    assert_eq!(hop(&report, Place::Interface).1, [("drops", 0.01)]);
    let text = report.to_string();
    assert!(text.contains("served by the kernel") && text.contains("host's interface"), "{text}");
    assert!(!text.contains("wake-ups"), "nobody has seen any: {text}");
}

#[test]
fn the_difference_of_two_readings_is_a_reading() {
    let (one, mut both) = (reading(), reading());
    both.receive.frames += 7;
    both.effort[0].kicks = Some(450);
    both.elapsed += Duration::from_secs(2);
    both.guest = Some(Duration::from_nanos(3_000_000));
    let since = both.since(&one);
    assert_eq!((since.receive.frames, since.transmit.frames), (7, 0));
    assert_eq!((since.effort[0].kicks, since.elapsed), (Some(50), Duration::from_secs(2)));
    assert_eq!(since.guest, Some(Duration::from_nanos(1_000_000)));
    assert_eq!(since.setup, one.setup);
    for (reading, span) in [
        (&one, "1.0 s since the start"),
        (&both, "3.0 s since the start"),
        (&since, "2.0 s, from 1.0 s after the start"),
    ] {
        let report = Report::of(reading);
        assert!(report.to_string().contains(span) && report.svg().contains(span), "{report}");
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["begun_seconds"], reading.begun.as_secs_f64());
    }
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let number = prop_oneof![Just(0u64), 0u64..10_000_000];
    (prop::collection::vec(number, 20), any::<[bool; 6]>(), ".{0,12}").prop_map(|(n, on, name)| {
        let mut reading = reading();
        let setup = &mut reading.setup;
        setup.name = name;
        (setup.vhost, setup.trapped) = (on[0], on[1]);
        for (on, switch) in [(on[2], Switch::Offloads), (on[3], Switch::Page)] {
            setup.switches.extend(on.then_some(switch));
        }
        (reading.receive.frames, reading.receive.bytes) = (n[0], n[1]);
        (reading.transmit.frames, reading.transmit.bytes) = (n[2], n[3]);
        reading.transmit.drops.refused = n[4];
        for (effort, n) in reading.effort.iter_mut().zip([&n[5..10], &n[10..15]]) {
            effort.samples.frames = n[0];
            (effort.samples.nanos, effort.samples.host) = (n[1], n[2]);
            (effort.interrupts, effort.batches) = (n[3], n[4]);
        }
        reading.workers = on[4].then_some(Duration::from_nanos(n[15]));
        reading.exits = on[5].then_some(Exits { all: n[17], ..Exits::default() });
        reading.device_exits = Some(n[18]);
        reading.elapsed = Duration::from_nanos(n[19]);
        reading.polling = Some(Duration::from_nanos(n[16]));
        reading
    })
}

proptest! {
    #[test]
    fn whatever_the_figures_all_is_well_formed_and_finite(reading in any_reading()) {
        let report = Report::of(&reading);
        let svg = report.svg();
        let drawing = roxmltree::Document::parse(&svg);
        prop_assert!(drawing.is_ok(), "{drawing:?}: {svg}");
        let drawing = drawing.unwrap();
        let words: Vec<_> = drawing.descendants().filter_map(|node| node.text()).collect();
        for hop in &report.hops {
            prop_assert!(words.contains(&hop.place.name()), "{words:?}");
        }
        serde_json::from_str::<serde_json::Value>(&report.json()).unwrap();
        let figures = Report { reading: Reading { setup: Setup::default(), ..reading }, ..report.clone() };
        for text in [figures.to_string(), figures.svg()] {
            prop_assert!(!text.contains("NaN") && !text.contains("inf "), "{text}");
        }
        let gains: Vec<_> = report.advice.iter().map(|advice| advice.gain).collect();
        prop_assert!(gains.is_sorted_by(|one, other| one >= other), "{gains:?}");
        prop_assert!(gains.iter().all(|gain| *gain <= report.cost()), "{gains:?}");
    }
}
