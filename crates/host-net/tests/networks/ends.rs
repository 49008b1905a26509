//! Networks of programs that were killed, and of people who are not root.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use cubie_host_net::{HostNetError, HostSide};

use crate::namespace::{Namespace, Network, exists};

/// How the tests' own program is told to be such a program.
const VICTIM: &str = "CUBIE_HOST_NET_VICTIM";

fn sides() -> [HostSide; 3] {
    let guest = [10, 1, 2, 3].into();
    [HostSide::Bridge("br0".into()), HostSide::Nat(None), HostSide::Routed(guest)]
}

/// Not a test by itself: sets a network up, says so, and waits for its end.
#[test]
fn a_victim_sets_a_network_up() {
    let Some(side) = std::env::var_os(VICTIM) else { return };
    let side: usize = side.to_str().unwrap().parse().unwrap();
    let network = sides()[side].set_up("tap0").unwrap();
    println!("{network} is up");
    std::io::stdin().lines().for_each(drop);
}

/// Another process with a network.
fn victim(host: &Namespace, side: usize) -> Child {
    start_victim(host, "ends::a_victim_sets_a_network_up", (VICTIM, side.to_string()))
}

/// The tests' own program as another process, which runs one test to set something up. It is told so by a variable.
pub(crate) fn start_victim(
    host: &Namespace,
    test: &'static str,
    told: (&'static str, String),
) -> Child {
    host.run(move || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]);
        command.env(told.0, told.1).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let up = lines.map(Result::unwrap).find(|line| line.ends_with("is up"));
        assert!(up.is_some(), "{test}: nothing comes up");
        child
    })
}

#[test]
fn what_a_killed_program_leaves_is_cleared_away_at_the_next_start() {
    for side in 0..sides().len() {
        let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
        host.sh("ip link add br0 type bridge && ip link set br0 up");
        let Some(second) = Namespace::new() else { return };
        host.connect("tap1", &second, "eth0");
        host.sh("echo 0 >/proc/sys/net/ipv4/conf/all/accept_redirects");
        let before = host.state();
        let mut killed = victim(&host, side);
        let up = host.state();
        assert_ne!(up, before);
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert_ne!(host.state(), before, "a killed program clears nothing away");
        let next = host.run(|| HostSide::Nat(None).set_up("tap1")).unwrap();
        assert_eq!(next.to_string(), "NAT 10.9.8.0/24 on cubie-nat0", "{:?}", sides()[side]);
        host.run(move || drop(next));
        assert_eq!(host.state(), before, "{:?}", sides()[side]);
    }
}

#[test]
fn what_a_living_program_has_made_stays() {
    let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
    let Some(second) = Namespace::new() else { return };
    host.connect("tap1", &second, "eth0");
    let before = host.state();
    let mut living = victim(&host, 1);
    let up = host.state();
    let next = host.run(|| HostSide::Nat(None).set_up("tap1")).unwrap();
    assert_eq!(next.to_string(), "NAT 10.9.9.0/24 on cubie-nat1");
    host.run(move || drop(next));
    assert_eq!(host.state(), up);
    drop(living.stdin.take());
    assert!(living.wait().unwrap().success());
    assert_eq!(host.state(), before);
}

#[test]
fn a_tap_of_a_living_program_is_refused() {
    for side in 0..sides().len() {
        let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
        host.sh("ip link add br0 type bridge && ip link set br0 up");
        let before = host.state();
        let mut living = victim(&host, side);
        let up = host.state();
        for second in sides() {
            let error = host.run(move || second.set_up("tap0")).unwrap_err();
            let HostNetError::TapTaken { tap, mark } = &error else { panic!("{error}") };
            assert_eq!((tap.as_str(), mark.as_str()), ("tap0", "cubie-host-net/0"));
        }
        assert_eq!(host.state(), up);
        drop(living.stdin.take());
        assert!(living.wait().unwrap().success());
        assert_eq!(host.state(), before);
    }
}

#[test]
fn what_has_no_mark_is_not_touched() {
    let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
    // The names are ours, and nothing else.
    host.sh("ip link add cubie-nat0 type bridge && ip link set cubie-nat0 alias cubie-host-net/x");
    host.sh("ip link add cubie-nat1 type bridge && ip link set cubie-nat1 up");
    let before = host.state();
    let network = host.run(|| HostSide::Nat(None).set_up("tap0")).unwrap();
    assert_eq!(network.bridge(), Some("cubie-nat2"));
    host.run(move || drop(network));
    assert_eq!(host.state(), before);
}

#[test]
fn a_bridge_that_is_not_ours_survives_a_mark() {
    let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
    host.sh(
        "ip link add virbr0 type bridge && ip link set virbr0 alias 'cubie-host-net/5 homemade'",
    );
    let network = host.run(|| HostSide::Nat(None).set_up("tap0")).unwrap();
    host.run(move || drop(network));
    assert!(host.sh("ip link show virbr0").contains("alias homemade"));
}

/// Does something as nobody in a namespace.
pub(crate) fn as_nobody<T: Send + 'static>(
    host: &Namespace,
    task: impl FnOnce() -> T + Send + 'static,
) -> T {
    host.run(|| {
        let nobody = rustix::process::Uid::from_raw(65534);
        // A thread inherits the namespace, and takes its user along when it ends.
        let thread = std::thread::spawn(move || {
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            task()
        });
        thread.join().unwrap()
    })
}

#[test]
fn without_permission_the_commands_for_an_administrator_are_told() {
    let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
    host.sh("ip link add br0 type bridge && ip link set br0 up");
    let before = host.state();
    let errors = as_nobody(&host, || sides().map(|side| (side.set_up("tap0"), side)));
    for (error, side) in errors {
        let error = error.unwrap_err();
        let HostNetError::NotPermitted { commands, .. } = &error else { panic!("{error}") };
        assert_eq!(*commands, side.preparation("tap0"));
        assert!(error.to_string().contains(&commands[0]), "{error}");
    }
    assert_eq!(host.state(), before);
}

#[test]
fn what_an_administrator_has_prepared_is_used_and_left_as_it_is() {
    for side in sides() {
        let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
        host.sh("ip link add br0 type bridge && ip link set br0 up && ip link delete tap0");
        host.sh("ip tuntap add dev tap0 mode tap user 65534 && ip link set tap0 up");
        for command in side.preparation("tap0") {
            let tool = command.split(' ').next().unwrap().to_owned();
            // A server for DHCP goes on by itself, and is not what is tested here.
            if tool != "dnsmasq" && exists(&tool) {
                host.sh(&command);
            }
        }
        let before = host.state();
        let name = side.to_owned();
        let network = as_nobody(&host, move || {
            let network = side.set_up("tap0").unwrap();
            assert!(network.is_prepared());
            network.to_string()
        });
        assert!(!network.is_empty(), "{name:?}");
        assert_eq!(host.state(), before);
    }
}

#[test]
fn what_an_administrator_has_forgotten_is_named() {
    let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
    host.sh("ip link add natbr0 type bridge && ip link set tap0 master natbr0");
    let side = || HostSide::Nat("10.1.2.0/24".parse().ok());
    let error = host.run(move || side().set_up("tap0")).unwrap_err().to_string();
    assert!(error.contains("natbr0 has no address in 10.1.2.0/24"), "{error}");
    host.sh("ip addr add 10.1.2.1/24 dev natbr0");
    let error = host.run(move || side().set_up("tap0")).unwrap_err().to_string();
    assert!(error.contains("does not forward") && error.contains("sysctl -w"), "{error}");
    host.sh("echo 1 >/proc/sys/net/ipv4/ip_forward");
    assert!(host.run(move || side().set_up("tap0")).unwrap().is_prepared());
}
