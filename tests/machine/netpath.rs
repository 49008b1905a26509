//! What a packet costs on its way: what `--netpath` says of real guests.

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::{fs, thread};

use serde_json::Value;

use crate::vm::{ARM64, ARMV7, Vm, arg, host};

/// Echo requests of the guest, one after the other.
const PINGS: u64 = 300;
/// Bytes that it sends over TCP.
const LEN: usize = 1 << 20;

/// What is said of a guest that pings its host and sends it something.
fn told(arch: &str, tap: &str, more: &str, address: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let options = format!("--netpath={} -n mode=tap,tapif={tap}{more}", arg(folder.path()));
    let mut vm = Vm::boot(arch, &options);
    host(&format!("ip addr add {address}.1/24 dev {tap} && ip link set {tap} up"));
    vm.run(&format!("ip addr add {address}.2/24 dev eth0 && ip link set eth0 up"));
    vm.run(&format!("ping -q -A -c {PINGS} {address}.1"));
    let listener = TcpListener::bind(format!("{address}.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiver = thread::spawn(move || {
        let mut bytes = vec![];
        listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
        bytes.len()
    });
    vm.run(&format!("head -c {LEN} /dev/zero | nc {address}.1 {port}"));
    assert_eq!(receiver.join().unwrap(), LEN);
    vm.power_off();
    let json = read(folder.path(), "netpath.json");
    eprintln!("{}", read(folder.path(), "netpath.txt"));
    let report: Value = serde_json::from_str(&json).unwrap();
    let report = report[0].clone();
    let dearest = report["dearest"].as_str().expect("a hop is the dearest");
    let drawing = read(folder.path(), "netpath.svg");
    assert!(drawing.contains(&format!("The dearest hop: {dearest}.")), "{drawing}");
    report
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

#[track_caller]
fn number(report: &Value, path: &str) -> u64 {
    let number = report.pointer(path).and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("no number at {path}: {report:#}"))
}

/// Nanoseconds a packet at this hop.
#[track_caller]
fn cost(report: &Value, place: &str) -> f64 {
    let hops = report["hops"].as_array().unwrap();
    let hop = hops.iter().find(|hop| hop["place"] == place).expect(place);
    hop["nanos"].as_f64().unwrap_or_else(|| panic!("{place} has no cost: {report:#}"))
}

fn is_told_as_it_was(arch: &str, tap: &str) {
    let report = told(arch, tap, "", "10.81.0");
    for way in ["receive", "transmit"] {
        let of = |what: &str| number(&report, &format!("/{way}/{what}"));
        assert!(of("frames") >= PINGS, "{way}: {report:#}");
        let [chains, batches] = [of("chains"), of("batches")];
        assert!(of("kicks") <= chains && batches <= chains, "{way}: {report:#}");
        assert!(of("interrupts") <= batches && of("samples/turns") > 0, "{way}: {report:#}");
    }
    assert!(number(&report, "/transmit/kicks") > 0 && number(&report, "/receive/interrupts") > 0);
    assert!(number(&report, "/transmit/bytes") >= LEN as u64);
    // Those of the card's set-up, and none for a packet.
    let packets = number(&report, "/frames/receive") + number(&report, "/frames/transmit");
    let exits = number(&report, "/exits_to_user_space");
    assert!(exits < 60 && packets >= 2 * PINGS, "{exits} exits, {packets} packets");
    assert!(number(&report, "/exits/all") > number(&report, "/exits/user_mmio"));
    for place in ["guest", "rings", "host's stack", "interrupts"] {
        assert!(cost(&report, place) > 0.0, "{place}: {report:#}");
    }
}

#[test]
fn the_road_of_an_armv7_guests_packets_is_told_as_it_was() {
    is_told_as_it_was(ARMV7, "cubie20");
}

#[test]
fn the_road_of_an_arm64_guests_packets_is_told_as_it_was() {
    is_told_as_it_was(ARM64, "cubie21");
}

#[test]
fn what_the_kernel_moves_is_told_by_the_tap_and_the_kernels_thread() {
    let report = told(ARM64, "cubie22", ",vhost=1", "10.82.0");
    assert_eq!(number(&report, "/receive/frames"), 0, "none of them was seen here");
    for way in ["receive", "transmit"] {
        assert!(number(&report, &format!("/frames/{way}")) >= PINGS, "{way}: {report:#}");
    }
    assert!(number(&report, "/transmit/kicks") > 0, "{report:#}");
    assert!(cost(&report, "vhost") > 0.0 && cost(&report, "guest") > 0.0);
    let advice = report["advice"].as_array().unwrap();
    assert!(advice.iter().all(|advice| advice["switch"] != "vhost"), "it is on: {report:#}");
}
