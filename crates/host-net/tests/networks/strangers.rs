//! What does not get through between a guest and the world.

use std::net::{Ipv4Addr, UdpSocket};

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
