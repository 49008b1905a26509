//! Each way to set a network up, used and taken down.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cubie_host_net::{HostNet, HostNetError, HostSide};

use crate::dhcp::{Lease, lease};
use crate::namespace::{Namespace, Network, exists};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

pub(crate) fn set_up(host: &Namespace, side: HostSide) -> Result<HostNet, HostNetError> {
    host.run(move || side.set_up("tap0"))
}

pub(crate) fn take_down(host: &Namespace, network: HostNet) {
    host.run(move || drop(network));
}

pub(crate) fn nat(subnet: Option<&str>) -> HostSide {
    HostSide::Nat(subnet.map(|subnet| subnet.parse().unwrap()))
}

/// Tells the guest's kernel what a client has been told.
pub(crate) fn configure(guest: &Namespace, lease: &Lease) {
    let Lease { address, router, netmask } = lease;
    let prefix = u32::from(*netmask).count_ones();
    guest.sh(&format!("ip addr add {address}/{prefix} dev eth0"));
    guest.sh(&format!("ip route add default via {router} dev eth0 onlink"));
}

/// A connection from one namespace to an address of another; who calls, as the called one sees it.
fn call(from: &Namespace, to: &Namespace, address: Ipv4Addr) -> Ipv4Addr {
    let listener = to.run(|| TcpListener::bind("0.0.0.0:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let caller = from.run(move || {
        let mut stream = TcpStream::connect_timeout(&(address, port).into(), DEADLINE)?;
        stream.write_all(b"hello").map(|()| stream)
    });
    let _caller = caller.unwrap();
    let (mut stream, who) = listener.accept().unwrap();
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    match who {
        SocketAddr::V4(who) => *who.ip(),
        SocketAddr::V6(who) => panic!("{who}"),
    }
}

#[test]
fn a_tap_is_part_of_a_public_bridge_as_long_as_it_should_be() {
    let Some(Network { host, guest, world: _world }) = Network::new() else { return };
    host.sh("ip link add br0 type bridge && ip link set br0 up && ip addr add 10.0.0.1/24 dev br0");
    let before = host.state();
    let network = set_up(&host, HostSide::Bridge("br0".into())).unwrap();
    assert_eq!((network.to_string().as_str(), network.bridge()), ("bridge br0", Some("br0")));
    assert_eq!(network.firewall_commands(), [""; 0]);
    assert!(host.sh("ip -o link show tap0").contains("master br0"));
    guest.sh("ip addr add 10.0.0.2/24 dev eth0");
    assert_eq!(call(&guest, &host, Ipv4Addr::new(10, 0, 0, 1)), Ipv4Addr::new(10, 0, 0, 2));
    take_down(&host, network);
    assert_eq!(host.state(), before);
}

#[test]
fn a_bridge_that_is_missing_or_none_is_named_with_the_remedy() {
    let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
    let before = host.state();
    let error = set_up(&host, HostSide::Bridge("br7".into())).unwrap_err().to_string();
    assert!(error.contains("no bridge br7") && error.contains("ip link add br7 type"), "{error}");
    let error = set_up(&host, HostSide::Bridge("uplink".into())).unwrap_err();
    assert!(matches!(&error, HostNetError::NotABridge(name) if name == "uplink"), "{error}");
    host.sh("ip link add br0 type bridge && ip link add br1 type bridge");
    host.sh("ip link set tap0 master br0");
    let error = set_up(&host, HostSide::Bridge("br1".into())).unwrap_err().to_string();
    assert!(error.contains("tap0 is part of br0") && error.contains("nomaster"), "{error}");
    host.sh("ip link delete br0 && ip link delete br1");
    let error = host.run(|| HostSide::Nat(None).set_up("tap7")).unwrap_err().to_string();
    assert_eq!(error, "there is no network interface tap7");
    assert_eq!(host.state(), before);
}

#[test]
fn what_is_given_as_a_tap_and_is_none_is_named_and_left_alone() {
    let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
    host.sh("ip link add br0 type bridge && ip link add virbr0 type bridge");
    host.sh("ip tuntap add dev tun0 mode tun");
    let before = host.state();
    for name in ["virbr0", "tun0", "lo"] {
        let routed = HostSide::Routed(Ipv4Addr::new(10, 1, 2, 3));
        for side in [HostSide::Bridge("br0".into()), nat(None), routed] {
            let error = host.run(move || side.set_up(name)).unwrap_err();
            assert!(matches!(&error, HostNetError::NotATap(given) if given == name), "{error}");
            assert!(error.to_string().contains("`tap`"), "{error}");
        }
    }
    assert_eq!(host.state(), before);
}

#[test]
fn a_private_guest_gets_an_address_and_leaves_under_its_hosts() {
    let Some(Network { host, guest, world }) = Network::new() else { return };
    let before = host.state();
    let network = set_up(&host, nat(None)).unwrap();
    assert_eq!(network.to_string(), "NAT 10.9.8.0/24 on cubie-nat0");
    assert!(host.sh("ip -o link show tap0").contains("master cubie-nat0"));
    if exists("nft") {
        let table = host.sh("nft list table ip cubie-nat0");
        assert!(
            table.contains("ip saddr 10.9.8.0/24 ip daddr != 10.9.8.0/24 masquerade"),
            "{table}"
        );
        assert!(
            table.contains("iifname != \"cubie-nat0\" oifname \"cubie-nat0\" ct state"),
            "{table}"
        );
    }
    let lease = guest.run(lease);
    let expected: [Ipv4Addr; 3] =
        ["10.9.8.2", "10.9.8.1", "255.255.255.0"].map(|a| a.parse().unwrap());
    assert_eq!([lease.address, lease.router, lease.netmask], expected);
    configure(&guest, &lease);
    assert_eq!(call(&guest, &world, WORLD), Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(call(&guest, &host, lease.router), lease.address);
    assert_eq!(call(&host, &guest, lease.address), lease.router);
    // Nobody outside comes in, not even one who knows the way.
    world.sh("ip route add 10.9.8.0/24 via 192.0.2.1");
    let address = lease.address;
    let listener = guest.run(|| TcpListener::bind("0.0.0.0:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let refused = world.run(move || {
        TcpStream::connect_timeout(&(address, port).into(), Duration::from_millis(300))
    });
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    take_down(&host, network);
    assert_eq!(host.state(), before);
}

#[test]
fn a_routed_guest_is_reached_from_the_world_under_its_own_address() {
    let Some(Network { host, guest, world }) = Network::new() else { return };
    let before = host.state();
    let address = Ipv4Addr::new(10, 1, 2, 3);
    let network = set_up(&host, HostSide::Routed(address)).unwrap();
    assert_eq!((network.to_string().as_str(), network.bridge()), ("routed 10.1.2.3", None));
    let lease = guest.run(lease);
    assert_eq!((lease.address, lease.netmask), (address, Ipv4Addr::BROADCAST));
    configure(&guest, &lease);
    world.sh("ip route add 10.1.2.3 via 192.0.2.1");
    assert_eq!(call(&world, &guest, address), WORLD);
    assert_eq!(call(&guest, &world, WORLD), address);
    // As the documentation has it for guests without DHCP.
    guest.sh("ip addr flush dev eth0");
    guest.sh(
        "ip addr add 10.1.2.3 peer 169.254.1.1 dev eth0 && ip route add default via 169.254.1.1",
    );
    assert_eq!(call(&guest, &world, WORLD), address);
    take_down(&host, network);
    assert_eq!(host.state(), before);
}

#[test]
fn a_guest_does_not_become_the_hosts_router_by_ipv6() {
    let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
    let conf = "/proc/sys/net/ipv6/conf";
    if !std::path::Path::new(conf).exists() {
        return eprintln!("skipped: no IPv6 here");
    }
    let network = set_up(&host, nat(None)).unwrap();
    assert_eq!(host.sh(&format!("cat {conf}/cubie-nat0/disable_ipv6")), "1\n");
    assert_eq!(host.sh("ip -6 address show dev cubie-nat0"), "");
    take_down(&host, network);
    // The tap is somebody's, and so is what is said about it.
    for takes in ["0", "1", "2"] {
        host.sh(&format!("echo {takes} >{conf}/tap0/accept_ra && ip link set tap0 alias 'a b'"));
        host.sh("ip -6 address replace fd00::1/64 dev tap0 nodad");
        let before = host.state();
        let network = set_up(&host, HostSide::Routed(Ipv4Addr::new(10, 1, 2, 3))).unwrap();
        assert_eq!(host.sh(&format!("cat {conf}/tap0/accept_ra")), "0\n");
        take_down(&host, network);
        assert_eq!(host.state(), before);
        assert!(host.sh("ip -6 address show dev tap0").contains("fd00::1/64"));
    }
}

#[test]
fn a_subnet_may_be_chosen_but_not_one_that_the_host_reaches_otherwise() {
    let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
    host.sh("ip route add 10.9.8.128/25 via 192.0.2.2 && ip route add 10.20.0.0/16 via 192.0.2.2");
    let before = host.state();
    let network = set_up(&host, nat(Some("10.1.2.0/24"))).unwrap();
    assert_eq!(network.subnet(), "10.1.2.0/24".parse().ok());
    take_down(&host, network);
    let network = set_up(&host, nat(None)).unwrap();
    assert_eq!(network.subnet(), "10.9.9.0/24".parse().ok());
    take_down(&host, network);
    for (subnet, route) in [("10.20.30.0/24", "10.20.0.0/16"), ("10.9.0.0/16", "10.9.8.128/25")] {
        let error = set_up(&host, nat(Some(subnet))).unwrap_err().to_string();
        assert!(error.contains(subnet) && error.contains(route), "{error}");
    }
    assert_eq!(host.state(), before);
}

#[test]
fn two_networks_do_not_tear_each_other_down() {
    let Some(Network { host, guest, world }) = Network::new() else { return };
    let before = host.state();
    let Some(second) = Namespace::new() else { return };
    host.connect("tap1", &second, "eth0");
    let one = set_up(&host, nat(None)).unwrap();
    let other = host.run(|| HostSide::Nat(None).set_up("tap1")).unwrap();
    assert_eq!(other.to_string(), "NAT 10.9.9.0/24 on cubie-nat1");
    configure(&guest, &guest.run(lease));
    configure(&second, &second.run(lease));
    call(&guest, &world, WORLD);
    take_down(&host, one);
    assert_eq!(call(&second, &world, WORLD), Ipv4Addr::new(192, 0, 2, 1));
    take_down(&host, other);
    host.sh("ip link delete tap1");
    assert_eq!(host.state(), before);
}

#[test]
fn a_second_guest_joins_the_first_ones_private_network_by_its_bridge() {
    let Some(Network { host, guest, world }) = Network::new() else { return };
    let Some(second) = Namespace::new() else { return };
    host.connect("tap1", &second, "eth0");
    let network = set_up(&host, nat(None)).unwrap();
    let bridge = HostSide::Bridge(network.bridge().unwrap().into());
    let joined = host.run(move || bridge.set_up("tap1")).unwrap();
    let one = guest.run(lease);
    configure(&guest, &one);
    // Of another card, the server would hand another address out: one is enough to talk.
    second.sh("ip addr add 10.9.8.77/24 dev eth0 && ip route add default via 10.9.8.1");
    assert_eq!(call(&second, &guest, one.address), Ipv4Addr::new(10, 9, 8, 77));
    call(&second, &world, WORLD);
    host.run(move || drop((joined, network)));
}

#[test]
fn forwarding_that_was_on_stays_on_and_an_alias_comes_back() {
    let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
    host.sh("echo 1 >/proc/sys/net/ipv4/ip_forward; ip link set tap0 alias 'the blue cable'");
    let before = host.state();
    let network = set_up(&host, nat(None)).unwrap();
    assert!(host.sh("ip link show tap0").contains("alias cubie-host-net/0 the blue cable"));
    take_down(&host, network);
    assert_eq!(host.state(), before);
}

#[test]
fn a_host_takes_redirects_afterwards_if_it_did_before() {
    let Some(Network { host, guest: _guest, world: _world }) = Network::new() else { return };
    for takes in ["0", "1"] {
        host.sh(&format!("echo {takes} >/proc/sys/net/ipv4/conf/all/accept_redirects"));
        let before = host.state();
        let network = set_up(&host, nat(None)).unwrap();
        assert_eq!(host.sh("cat /proc/sys/net/ipv4/conf/all/accept_redirects"), "0\n");
        take_down(&host, network);
        assert_eq!(host.state(), before);
    }
}

#[test]
fn a_firewall_that_drops_all_it_does_not_know_is_told_of_with_the_remedy() {
    let Some(Network { host, guest, world }) = Network::new() else { return };
    if !exists("nft") {
        return eprintln!("skipped: nftables is not installed");
    }
    host.sh("nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'");
    let network = set_up(&host, nat(None)).unwrap();
    configure(&guest, &guest.run(lease));
    let commands = network.firewall_commands();
    assert_eq!(commands[0], "nft insert rule ip filter FORWARD iifname cubie-nat0 accept");
    for command in commands {
        host.sh(command);
    }
    call(&guest, &world, WORLD);
    take_down(&host, network);
}
