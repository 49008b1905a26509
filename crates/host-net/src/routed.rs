//! A guest at the end of a cable, to which the host sends packets.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::dhcp::{DhcpServer, Terms};
use crate::forwarding::Forwarding;
use crate::host_net::Kind;
use crate::resolvers::resolvers;
use crate::rtnetlink::{Address, Rtnetlink};
use crate::seat::{Door, Links};
use crate::table::Table;
use crate::{HostNet, HostNetError, firewall, preparation};

/// The host's address on each such cable. It is known on the cable only (RFC 3927), so that all cables have
/// the same, and guests need no address beside theirs.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

pub(crate) fn set_up(tap: &str, guest: Ipv4Addr) -> Result<HostNet, HostNetError> {
    if !is_host(guest) {
        return Err(HostNetError::Address(guest));
    }
    let mut door = Door::open()?;
    let links = door.links()?;
    let tap = links.tap(tap)?;
    links.is_free(tap)?;
    let kind = Kind::Routed(guest);
    if is_there(&mut door.rtnetlink, &links, tap.index, guest)? {
        Forwarding::check()?;
        return Ok(HostNet::prepared(kind));
    }
    let seat = door.seat(|_| true)?;
    let ((table, dhcp), seat) = door.furnish(seat, |rtnetlink, seat| {
        let refused = |what| {
            move |error| {
                HostNetError::refused(what, error, || preparation::routed(&tap.name, guest))
            }
        };
        // First, so that the guest is never without it.
        let table = Table::routed(&format!("cubie-routed{}", seat.number), &tap.name, guest);
        let table = table.map_err(refused("filter packets with nftables"))?;
        seat.mark_and_take_no_router(rtnetlink, tap).map_err(refused("make a route to a guest"))?;
        // The kernel makes the route with the address of the cable's other end.
        let cable = Address { link: tap.index, local: GATEWAY, beyond: guest.into() };
        rtnetlink.add_address(&cable).map_err(refused("make a route to a guest"))?;
        Forwarding::need(rtnetlink).map_err(refused("switch forwarding on"))?;
        let dhcp = DhcpServer::start(&tap.name, terms(guest));
        Ok((table, dhcp.map_err(refused("hand addresses out by DHCP"))?))
    })?;
    Ok(HostNet::made(kind, seat, Some(dhcp), Some(table), firewall::commands(&tap.name)))
}

fn terms(guest: Ipv4Addr) -> Terms {
    Terms { router: GATEWAY, netmask: Ipv4Addr::BROADCAST, pool: vec![guest], dns: resolvers() }
}

/// Whether a host can have this address in a network.
pub(crate) fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first < 224 && !address.is_loopback() && !address.is_link_local()
}

/// Whether packets for `guest` go into the tap already; an error if they go elsewhere.
fn is_there(
    rtnetlink: &mut Rtnetlink,
    links: &Links,
    tap: u32,
    guest: Ipv4Addr,
) -> Result<bool, HostNetError> {
    let routes = rtnetlink.routes();
    let routes = routes.map_err(|source| HostNetError::Host { what: "list routes", source })?;
    let way = routes.iter().find(|(route, _)| *route == Ipv4Net::from(guest));
    match way.and_then(|(_, link)| *link) {
        Some(link) if link == tap => Ok(true),
        Some(link) => {
            let interface = links.indexed(link)?.name.clone();
            Err(HostNetError::AddressTaken { address: guest, interface })
        }
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_the_address_of_a_host() {
        for address in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1"] {
            let error = set_up("lo", address.parse().unwrap()).unwrap_err();
            assert!(matches!(error, HostNetError::Address(_)), "{address}: {error}");
        }
    }
}
