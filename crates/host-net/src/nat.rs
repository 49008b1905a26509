//! A private bridge of our own, behind the host's address.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::dhcp::{DhcpServer, Terms};
use crate::forwarding::Forwarding;
use crate::host_net::Kind;
use crate::resolvers::resolvers;
use crate::routed::is_host;
use crate::rtnetlink::{Address, Link, Rtnetlink};
use crate::seat::{Door, Seat};
use crate::table::Table;
use crate::{HostNet, HostNetError, firewall, ipv6, preparation};

/// Most guests that one network gets addresses for.
const MOST_GUESTS: usize = 253;
const SMALLEST: u8 = 30;
const LARGEST: u8 = 8;

/// The networks that are looked at where none is named: 10.9.8.0/24 to 10.9.255.0/24.
fn defaults() -> impl Iterator<Item = Ipv4Net> {
    (8..=255).map(|third| Ipv4Net::new_assert(Ipv4Addr::new(10, 9, third, 0), 24))
}

/// The first of them.
pub(crate) const FIRST: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 9, 8, 0), 24);

/// The host's address in `subnet`: the first.
pub(crate) fn host(subnet: Ipv4Net) -> Ipv4Addr {
    subnet.hosts().next().unwrap_or(subnet.addr())
}

/// The guests' addresses: all others, up to a bound.
pub(crate) fn guests(subnet: Ipv4Net) -> Vec<Ipv4Addr> {
    subnet.hosts().skip(1).take(MOST_GUESTS).collect()
}

pub(crate) fn set_up(tap: &str, subnet: Option<Ipv4Net>) -> Result<HostNet, HostNetError> {
    let subnet = subnet.map(checked).transpose()?;
    let mut door = Door::open()?;
    let links = door.links()?;
    let tap = links.tap(tap)?;
    if let Some(master) = tap.master {
        return prepared(&mut door.rtnetlink, links.indexed(master)?, subnet);
    }
    let subnet = choose(&mut door.rtnetlink, subnet)?;
    let seat = door.seat(|number| links.named(&bridge_name(number)).is_err())?;
    let bridge = bridge_name(seat.number);
    let ((table, dhcp), seat) = door.furnish(seat, |rtnetlink, seat| {
        let refused = |what| {
            move |error| {
                let commands = || preparation::nat(&tap.name, subnet);
                HostNetError::refused(what, error, commands)
            }
        };
        // First, so that no guest is without it.
        let table = Table::private(&bridge, subnet);
        let table = table.map_err(refused("translate addresses with nftables"))?;
        make_bridge(rtnetlink, seat, tap, subnet).map_err(refused("make a private bridge"))?;
        Forwarding::need(rtnetlink).map_err(refused("switch forwarding on"))?;
        let dhcp = DhcpServer::start(&bridge, terms(subnet));
        Ok((table, dhcp.map_err(refused("hand addresses out by DHCP"))?))
    })?;
    let firewall = firewall::commands(&bridge);
    let kind = Kind::Nat { subnet, bridge };
    Ok(HostNet::made(kind, seat, Some(dhcp), Some(table), firewall))
}

/// What the bridge of a seat is called.
pub(crate) fn bridge_name(seat: u32) -> String {
    format!("cubie-nat{seat}")
}

/// The bridge with the host's address, and the tap as its part.
fn make_bridge(
    rtnetlink: &mut Rtnetlink,
    seat: &Seat,
    tap: &Link,
    subnet: Ipv4Net,
) -> std::io::Result<()> {
    let name = bridge_name(seat.number);
    // An address of its own, since a bridge without one changes it with its parts.
    let mac = [0x02, b'c', b'u', b'b', b'i', seat.number as u8];
    rtnetlink.make_bridge(&name, mac)?;
    let bridge = rtnetlink.link(&name)?.ok_or(std::io::ErrorKind::NotFound)?;
    // Between these two calls a bridge that nobody clears away can be left behind: the kernel takes no
    // alias for an interface that it makes.
    seat.mark(rtnetlink, &bridge)?;
    let beyond = Ipv4Net::new_assert(host(subnet), subnet.prefix_len());
    rtnetlink.add_address(&Address { link: bridge.index, local: beyond.addr(), beyond })?;
    ipv6::switch_off(&name)?;
    rtnetlink.bring_up(bridge.index)?;
    seat.mark(rtnetlink, tap)?;
    rtnetlink.set_master(tap.index, Some(bridge.index))
}

fn terms(subnet: Ipv4Net) -> Terms {
    let (router, netmask) = (host(subnet), subnet.netmask());
    Terms { router, netmask, pool: guests(subnet), dns: resolvers() }
}

/// A network with room for a host and a guest.
fn checked(given: Ipv4Net) -> Result<Ipv4Net, HostNetError> {
    let length = given.prefix_len().clamp(LARGEST, SMALLEST);
    let fitting = Ipv4Net::new_assert(given.addr(), length).trunc();
    match given {
        _ if !is_host(fitting.addr()) => Err(HostNetError::Subnet { given, fitting: FIRST }),
        given if given == fitting => Ok(given),
        _ => Err(HostNetError::Subnet { given, fitting }),
    }
}

/// The network that was asked for, or the first default one, that this host does not reach otherwise.
fn choose(rtnetlink: &mut Rtnetlink, subnet: Option<Ipv4Net>) -> Result<Ipv4Net, HostNetError> {
    let routes = rtnetlink.routes();
    let routes = routes.map_err(|source| HostNetError::Host { what: "list routes", source })?;
    let overlaps = |subnet: &Ipv4Net| {
        let meets = |route: &Ipv4Net| route.contains(subnet) || subnet.contains(route);
        routes.iter().map(|(route, _)| *route).find(meets)
    };
    let Some(subnet) = subnet else {
        let free = defaults().find(|subnet| overlaps(subnet).is_none());
        return free.ok_or(HostNetError::NoFreeSubnet);
    };
    match overlaps(&subnet) {
        Some(route) => Err(HostNetError::Overlap { subnet, route }),
        None => Ok(subnet),
    }
}

/// An administrator has made the tap part of a bridge: it needs an address, and the host must forward.
fn prepared(
    rtnetlink: &mut Rtnetlink,
    bridge: &Link,
    subnet: Option<Ipv4Net>,
) -> Result<HostNet, HostNetError> {
    let addresses = rtnetlink.addresses();
    let addresses =
        addresses.map_err(|source| HostNetError::Host { what: "list addresses", source })?;
    let of_bridge = addresses.iter().filter(|address| address.link == bridge.index);
    let mut networks = of_bridge.map(|address| address.beyond.trunc());
    let network = networks.find(|network| subnet.is_none_or(|subnet| subnet == *network));
    let Some(network) = network else {
        let wanted = subnet.unwrap_or(FIRST);
        let host = Ipv4Net::new_assert(host(wanted), wanted.prefix_len());
        let (name, missing) = (&bridge.name, format!("{} has no address in {wanted}", bridge.name));
        let command = format!("ip addr add {host} dev {name}");
        return Err(HostNetError::NotPrepared { missing, command });
    };
    Forwarding::check()?;
    Ok(HostNet::prepared(Kind::Nat { subnet: network, bridge: bridge.name.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_host_has_the_first_address_and_guests_the_others() {
        assert_eq!(host(net("10.1.2.0/24")), Ipv4Addr::new(10, 1, 2, 1));
        let guests = guests(net("10.1.2.0/24"));
        assert_eq!(guests.first(), Some(&Ipv4Addr::new(10, 1, 2, 2)));
        assert_eq!((guests.last(), guests.len()), (Some(&Ipv4Addr::new(10, 1, 2, 254)), 253));
        assert_eq!(super::guests(net("10.1.2.4/30")), [Ipv4Addr::new(10, 1, 2, 6)]);
        assert_eq!(super::guests(net("10.0.0.0/8")).len(), 253);
    }

    #[test]
    fn what_is_no_network_for_guests_is_refused_with_one_that_is() {
        let refused = |text: &str| match checked(net(text)) {
            Err(HostNetError::Subnet { fitting, .. }) => fitting.to_string(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(refused("10.1.2.3/24"), "10.1.2.0/24");
        assert_eq!(refused("10.1.2.0/31"), "10.1.2.0/30");
        assert_eq!(refused("10.0.0.0/7"), "10.0.0.0/8");
        for no_hosts in ["127.0.0.0/24", "224.0.0.0/24", "0.0.0.0/8", "255.255.255.0/24"] {
            assert_eq!(refused(no_hosts), "10.9.8.0/24");
        }
        assert!(checked(net("192.168.7.0/24")).is_ok() && checked(net("10.1.2.4/30")).is_ok());
    }
}
