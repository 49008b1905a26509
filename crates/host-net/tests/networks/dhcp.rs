//! A client, as far as a guest's is tested.

use std::ffi::OsString;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};

/// What a client has been told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) router: Ipv4Addr,
    pub(crate) netmask: Ipv4Addr,
}

/// Asks on `eth0` until there is a lease.
pub(crate) fn lease() -> Lease {
    let socket = open();
    let (offer, server) = ask(&socket, DhcpMessageType::Discover, None);
    let (lease, _) = ask(&socket, DhcpMessageType::Request, Some((offer.address, server)));
    assert_eq!(lease, offer);
    lease
}

fn open() -> UdpSocket {
    let kind = (AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC);
    let fd = socket(kind.0, kind.1, kind.2, None).unwrap();
    setsockopt(&fd, sockopt::BindToDevice, &OsString::from("eth0")).unwrap();
    setsockopt(&fd, sockopt::Broadcast, &true).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 68)).unwrap();
    let socket = UdpSocket::from(fd);
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket
}

fn ask(
    socket: &UdpSocket,
    kind: DhcpMessageType,
    taken: Option<(Ipv4Addr, Ipv4Addr)>,
) -> (Lease, Ipv4Addr) {
    let question = DhcpRepr {
        message_type: kind,
        transaction_id: 0x5eed,
        secs: 0,
        client_hardware_address: EthernetAddress([2, 0, 0, 0, 0, 7]),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: true,
        requested_ip: taken.map(|(address, _)| address),
        server_identifier: taken.map(|(_, server)| server),
        router: None,
        subnet_mask: None,
        client_identifier: None,
        parameter_request_list: Some(&[1, 3, 6]),
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut bytes = vec![0; question.buffer_len()];
    question.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
    // Packets may get lost while a cable comes up.
    for _ in 0..20 {
        socket.send_to(&bytes, (Ipv4Addr::BROADCAST, 67)).unwrap();
        let mut answer = [0; 1500];
        let Ok(len) = socket.recv(&mut answer) else { continue };
        let packet = DhcpPacket::new_checked(&answer[..len]).unwrap();
        let told = DhcpRepr::parse(&packet).unwrap();
        let (router, netmask) = (told.router.unwrap(), told.subnet_mask.unwrap());
        return (Lease { address: told.your_ip, router, netmask }, told.server_identifier.unwrap());
    }
    panic!("no answer to {kind:?}");
}
