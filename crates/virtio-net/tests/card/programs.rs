//! QEMU and passt at the other end of a socket, with their networks for guests without privileges behind them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use cubie_testkit::{Guest, within};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Mac, Net, Socket};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress,
    EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr,
    UdpPacket, UdpRepr,
};

use crate::driver::*;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const GATEWAY: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);

/// A program at the socket's other end, until this value goes.
struct Program(Child);

impl Program {
    fn start(mut command: Command) -> Option<Self> {
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        child
            .inspect_err(|_| eprintln!("skipped: no {:?} here", command.get_program()))
            .ok()
            .map(Self)
    }

    /// A QEMU without a machine: a hub that joins the socket and its own network.
    fn qemu(stream: &str) -> Option<Self> {
        let mut command = Command::new("qemu-system-aarch64");
        command.args(["-M", "none", "-nodefaults", "-display", "none"]);
        command.args(["-netdev", "user,id=slirp", "-netdev", &format!("stream,id=peer,{stream}")]);
        for end in ["slirp", "peer"] {
            command.args(["-netdev", &format!("hubport,hubid=0,id=hub-{end},netdev={end}")]);
        }
        Self::start(command)
    }

    /// A passt that serves one guest.
    fn passt(path: &Path) -> Option<Self> {
        let mut command = Command::new("passt");
        command.args(["--foreground", "--quiet", "--one-off", "--socket"]).arg(path);
        Self::start(command)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn me() -> EthernetAddress {
    EthernetAddress(Mac::made_from("test").bytes())
}

fn ethernet(protocol: EthernetProtocol, len: usize, emit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![0; 14 + len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    let to = EthernetAddress::BROADCAST;
    EthernetRepr { src_addr: me(), dst_addr: to, ethertype: protocol }.emit(&mut frame);
    emit(frame.payload_mut());
    bytes
}

fn dhcp_discover() -> Vec<u8> {
    let dhcp = DhcpRepr {
        message_type: DhcpMessageType::Discover,
        transaction_id: 0x1234,
        secs: 0,
        client_hardware_address: me(),
        client_ip: Ipv4Address::UNSPECIFIED,
        your_ip: Ipv4Address::UNSPECIFIED,
        server_ip: Ipv4Address::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Address::UNSPECIFIED,
        broadcast: true,
        requested_ip: None,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let udp = UdpRepr { src_port: 68, dst_port: 67 };
    let (src_addr, dst_addr) = (Ipv4Address::UNSPECIFIED, Ipv4Address::BROADCAST);
    let payload_len = udp.header_len() + dhcp.buffer_len();
    let ip =
        Ipv4Repr { src_addr, dst_addr, next_header: IpProtocol::Udp, payload_len, hop_limit: 64 };
    let sums = ChecksumCapabilities::default();
    ethernet(EthernetProtocol::Ipv4, ip.buffer_len() + payload_len, |bytes| {
        let mut packet = Ipv4Packet::new_unchecked(bytes);
        ip.emit(&mut packet, &sums);
        let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
        let payload = |bytes: &mut [u8]| {
            dhcp.emit(&mut DhcpPacket::new_unchecked(bytes)).unwrap();
        };
        let (src, dst) = (src_addr.into(), dst_addr.into());
        udp.emit(&mut datagram, &src, &dst, dhcp.buffer_len(), payload, &sums);
    })
}

fn arp_request() -> Vec<u8> {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: me(),
        source_protocol_addr: Ipv4Address::new(10, 0, 2, 15),
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: GATEWAY,
    };
    ethernet(EthernetProtocol::Arp, arp.buffer_len(), |bytes| {
        arp.emit(&mut ArpPacket::new_unchecked(bytes));
    })
}

/// The address that is offered in a frame, if one is.
fn offered(frame: &[u8]) -> Option<Ipv4Address> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let ip = Ipv4Packet::new_checked(frame.payload()).ok()?;
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    let dhcp = DhcpPacket::new_checked(udp.payload()).ok()?;
    let dhcp = DhcpRepr::parse(&dhcp).ok()?;
    (dhcp.message_type == DhcpMessageType::Offer).then_some(dhcp.your_ip)
}

fn is_gateways_answer(frame: &[u8]) -> bool {
    let arp = EthernetFrame::new_checked(frame).ok();
    let arp = arp.as_ref().and_then(|frame| ArpPacket::new_checked(frame.payload()).ok());
    let arp = arp.and_then(|packet| ArpRepr::parse(&packet).ok());
    matches!(arp, Some(ArpRepr::EthernetIpv4 { operation: ArpOperation::Reply, source_protocol_addr, .. })
        if source_protocol_addr == GATEWAY)
}

/// Asks the program's network for an address and for its gateway: the address.
fn asks(socket: Socket, program: Program) -> Ipv4Address {
    let net = Net::new(socket, Mac::made_from("test"));
    let (link, counters) = (net.link(), net.counters());
    let guest = Guest::new();
    let slot = guest.plug(Box::new(net));
    let mut driver = Driver::new(&guest, &slot, Features(0), 1);
    while !link.is_up() {
        std::thread::yield_now();
    }
    let mut address = None;
    let mut ask = |request: &[u8], is_answer: &mut dyn FnMut(&[u8]) -> bool| {
        driver.send(TRANSMIT, request);
        let deadline = Instant::now() + DEADLINE;
        loop {
            // Others speak too.
            let room = driver.room(RECEIVE, 2048);
            if is_answer(&driver.frame(RECEIVE, room)) {
                return;
            }
            assert!(Instant::now() < deadline, "no answer");
        }
    };
    ask(&dhcp_discover(), &mut |frame| {
        address = offered(frame);
        address.is_some()
    });
    ask(&arp_request(), &mut |frame| is_gateways_answer(frame));
    assert_eq!(counters.transmit().drops.total() + counters.receive().drops.total(), 0);
    drop(program);
    while link.is_up() {
        std::thread::yield_now();
    }
    address.expect("one was offered")
}

#[test]
fn qemu_listens_and_its_network_gives_the_guest_an_address() {
    within(DEADLINE, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu");
        let stream = format!("server=on,addr.type=unix,addr.path={}", path.display());
        let Some(qemu) = Program::qemu(&stream) else { return };
        let address = asks(Socket::connect(&path).unwrap(), qemu);
        assert_eq!(address, Ipv4Address::new(10, 0, 2, 15));
    });
}

#[test]
fn qemu_connects_and_its_network_gives_the_guest_an_address() {
    within(DEADLINE, || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cubie");
        let socket = Socket::listen(&path).unwrap();
        let stream = format!("server=off,addr.type=unix,addr.path={}", path.display());
        let Some(qemu) = Program::qemu(&stream) else { return };
        assert_eq!(asks(socket, qemu), Ipv4Address::new(10, 0, 2, 15));
    });
}

#[test]
fn passt_listens_and_gives_the_guest_an_address_of_the_hosts() {
    within(DEADLINE, || {
        let folder = tempfile::tempdir().unwrap();
        // It becomes nobody if it is started by root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let path = folder.path().join("passt");
        let Some(passt) = Program::passt(&path) else { return };
        let address = asks(Socket::connect(&path).unwrap(), passt);
        assert!(!address.is_unspecified());
    });
}
