//! What does not get through between a guest and the world.

use std::net::{Ipv4Addr, UdpSocket};

use cubie_host_net::HostSide;

use crate::dhcp::lease;
use crate::modes::{DEADLINE, WORLD, configure, nat, set_up, take_down};
use crate::namespace::{Namespace, Network, exists};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 1);

/// A datagram: who sends it, from which of its addresses, and to which.
type Datagram<'a> = (&'a Namespace, Ipv4Addr, Ipv4Addr);

/// Which of these arrives first, if all are sent to one port of `to` (`port`, or any) one after the other.
fn first(to: &Namespace, port: u16, sent: &[Datagram<'_>]) -> usize {
    let socket = to.run(move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    let port = socket.local_addr().unwrap().port();
    for (n, &(from, source, target)) in sent.iter().enumerate() {
        from.run(move || {
            let socket = UdpSocket::bind((source, 0)).unwrap();
            socket.send_to(&[n as u8], (target, port)).unwrap();
        });
    }
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut heard = [0];
    assert_eq!(socket.recv(&mut heard).unwrap(), 1);
    heard[0].into()
}

#[test]
fn what_belongs_to_no_connection_does_not_reach_a_private_guest() {
    let Some(Network { host, guest, world }) = Network::new() else { return };
    if !exists("nft") {
        return eprintln!("skipped: nftables is not installed");
    }
    host.sh("nft 'add table ip raw; add chain ip raw pre { type filter hook prerouting priority -300; }'");
    host.sh("nft add rule ip raw pre udp dport 7000 notrack");
    let network = set_up(&host, nat(None)).unwrap();
    let lease = guest.run(lease);
    configure(&guest, &lease);
    world.sh("ip route add 10.9.8.0/24 via 192.0.2.1");
    let outside = (&world, WORLD, lease.address);
    let inside = (&host, HOST, lease.address);
    assert_eq!(first(&guest, 7000, &[outside, inside]), 1);
    take_down(&host, network);
}

#[test]
fn a_guest_says_who_it_is_and_does_not_reach_what_is_the_hosts_alone() {
    for side in [nat(None), HostSide::Routed(Ipv4Addr::new(10, 1, 2, 3))] {
        let Some(Network { host, guest, world }) = Network::new() else { return };
        // What the kernels would drop by themselves is not what is tested here.
        for namespace in [&host, &world] {
            namespace.sh("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done");
        }
        let metadata = Ipv4Addr::new(169, 254, 169, 254);
        host.sh("ip route add 169.254.169.254 via 192.0.2.2");
        world.sh("ip addr add 169.254.169.254/32 dev eth0");
        let stranger = Ipv4Addr::new(10, 77, 7, 7);
        guest.sh("ip addr add 10.77.7.7/32 dev lo");
        let network = set_up(&host, side).unwrap();
        let lease = guest.run(lease);
        configure(&guest, &lease);
        let lent = (&guest, stranger, WORLD);
        let secret = (&guest, lease.address, metadata);
        let honest = (&guest, lease.address, WORLD);
        assert_eq!(first(&world, 0, &[lent, secret, honest]), 2, "{network}");
        take_down(&host, network);
    }
}
