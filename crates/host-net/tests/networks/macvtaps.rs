//! Taps on a card of the host's: here the host's end of the cable to the world.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::Instant;

use cubie_host_net::{HostNetError, Macvtap};

use crate::ends::{as_nobody, start_victim};
use crate::modes::DEADLINE;
use crate::namespace::{Namespace, Network};

/// How the tests' own program is told to make one and wait for its end.
const VICTIM: &str = "CUBIE_HOST_NET_MACVTAP_VICTIM";
const MAC: [u8; 6] = [2, 0, 0x5e, 0x10, 0, 1];

fn make(parent: &'static str) -> Result<Macvtap, HostNetError> {
    Macvtap::make(parent, |_| MAC)
}

/// A network whose host can have such taps.
fn network() -> Option<Network> {
    let network = Network::new()?;
    let known =
        "ip link add link uplink name m type macvtap mode bridge && ip link del dev m && echo";
    if network.host.sh(&format!("({known}) 2>/dev/null || true")).is_empty() {
        eprintln!("skipped: no macvtap here");
        return None;
    }
    Some(network)
}

/// It has the tests' address, takes what is for any group, and the host has no IPv6 there.
#[track_caller]
fn is_a_macvtap(host: &Namespace, name: &str) {
    let link = host.sh(&format!("ip -d link show {name}"));
    let mac = "02:00:5e:10:00:01";
    for word in [&format!("{name}@uplink"), "UP", "ALLMULTI", mac, "macvtap mode bridge"] {
        assert!(link.contains(word), "no {word} in {link}");
    }
    let ipv6 = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    assert_eq!(host.sh(&format!("cat {ipv6} 2>/dev/null || echo 1")), "1\n");
}

/// Frames for a group that nobody in the host has joined, as a guest's address that is made up by chance asks for
/// (RFC 4291 §2.7.1).
#[test]
fn frames_for_groups_of_the_guests_own_come_through() {
    let Some(Network { host, guest: _guest, world }) = network() else { return };
    let tap = host.run(|| make("uplink")).unwrap();
    let come = || {
        let seen = host.sh("ip -s link show cubie-macvtap0 | grep -A1 RX: | tail -1");
        seen.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let (before, end) = (come(), Instant::now() + DEADLINE);
    let sends = || {
        let index = nix::net::if_::if_nametoindex("eth0").unwrap();
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff12, 0x3456);
        // Until the world's end has an address, it cannot.
        let socket = UdpSocket::bind("[::]:0").ok();
        socket.map(|socket| socket.send_to(b"whose is it?", SocketAddrV6::new(group, 9, 0, index)))
    };
    while come() == before {
        if world.run(sends).is_none() {
            return eprintln!("skipped: no IPv6 here");
        }
        assert!(Instant::now() < end, "nothing has come");
    }
    host.run(move || drop(tap));
}

#[test]
fn a_macvtap_is_there_with_its_address_as_long_as_it_should_be() {
    let Some(Network { host, guest: _guest, world: _world }) = network() else { return };
    let before = host.state();
    let taps = host.run(|| {
        let second = |name: &str| {
            assert_eq!(name, "cubie-macvtap1");
            [2, 0, 0x5e, 0x10, 0, 2]
        };
        [make("uplink").unwrap(), Macvtap::make("uplink", second).unwrap()]
    });
    assert_eq!(taps[0].to_string(), "macvtap cubie-macvtap0 on uplink");
    assert_eq!((taps[0].name(), taps[0].mac()), ("cubie-macvtap0", MAC));
    is_a_macvtap(&host, "cubie-macvtap0");
    host.run(move || drop(taps));
    assert_eq!(host.state(), before);
}

/// Not a test by itself: makes a macvtap, says so, and waits for its end.
#[test]
fn a_victim_makes_a_macvtap() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let tap = make("uplink").unwrap();
    println!("{tap} is up");
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn what_a_killed_program_leaves_goes_at_the_next_start_and_that_of_a_living_one_stays() {
    let Some(Network { host, guest: _guest, world: _world }) = network() else { return };
    let before = host.state();
    let mut killed =
        start_victim(&host, "macvtaps::a_victim_makes_a_macvtap", (VICTIM, String::new()));
    let up = host.state();
    assert_ne!(up, before);
    let next = host.run(|| make("lo").map(drop)).unwrap_err();
    assert!(matches!(next, HostNetError::Host { .. }), "no macvtap on lo: {next}");
    assert_eq!(host.state(), up, "its program lives");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(host.state(), up, "a killed program clears nothing away");
    let _ = host.run(|| make("lo").map(drop));
    assert_eq!(host.state(), before);
}

#[test]
fn an_interface_of_our_names_that_has_no_mark_stays() {
    let Some(Network { host, guest: _guest, world: _world }) = network() else { return };
    host.sh("ip link add link uplink name cubie-macvtap0 type macvtap mode vepa");
    let before = host.state();
    let tap = host.run(|| make("uplink")).unwrap();
    assert_eq!(tap.name(), "cubie-macvtap1");
    host.run(move || drop(tap));
    assert_eq!(host.state(), before);
}

#[test]
fn what_cannot_be_is_named_and_without_permission_an_administrators_commands() {
    let Some(Network { host, guest: _guest, world: _world }) = network() else { return };
    let before = host.state();
    let error = host.run(|| make("eth7")).unwrap_err();
    assert_eq!(error.to_string(), "there is no network interface eth7");
    let error = as_nobody(&host, || make("uplink")).unwrap_err();
    let HostNetError::NotPermitted { commands, .. } = &error else { panic!("{error}") };
    assert_eq!(host.state(), before);
    // The last one gives the node away, which another namespace's interface may have here.
    commands[..3].iter().for_each(|command| drop(host.sh(command)));
    is_a_macvtap(&host, "macvtap0");
}
