//! What an administrator runs beforehand, for users who are not root and have a tap.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::forwarding::COMMAND as FORWARD;
use crate::nat::{guests, host};
use crate::routed::GATEWAY;

/// A name that nothing made by us has.
const PRIVATE: &str = "natbr0";
const TAP: &str = "macvtap0";

pub(crate) fn bridge(tap: &str, bridge: &str) -> Vec<String> {
    vec![format!("ip link set {tap} master {bridge} up")]
}

pub(crate) fn nat(tap: &str, subnet: Ipv4Net) -> Vec<String> {
    let host = Ipv4Net::new_assert(host(subnet), subnet.prefix_len());
    let guests = guests(subnet);
    let range = [guests.first(), guests.last()].map(|guest| guest.map(Ipv4Addr::to_string));
    let range = range.map(Option::unwrap_or_default).join(",");
    let mut commands = vec![
        format!("ip link add {PRIVATE} type bridge"),
        format!("sysctl -ew net/ipv6/conf/{PRIVATE}/disable_ipv6=1"),
        format!("ip link set {PRIVATE} up"),
        format!("ip addr add {host} dev {PRIVATE}"),
    ];
    commands.extend(bridge(tap, PRIVATE));
    commands.push(FORWARD.into());
    commands.push(format!(
        "nft 'add table ip {PRIVATE}; add chain ip {PRIVATE} out {{ type nat hook postrouting priority \
         100; }}; add rule ip {PRIVATE} out ip saddr {subnet} ip daddr != {subnet} masquerade'"
    ));
    commands.extend(confined(PRIVATE, PRIVATE, subnet));
    commands.push(format!(
        "nft 'add rule ip {PRIVATE} forward iifname != {PRIVATE} oifname {PRIVATE} ct state != \
         {{ established, related }} drop'"
    ));
    commands.push(format!(
        "dnsmasq --interface={PRIVATE} --bind-interfaces --except-interface=lo --dhcp-range={range}"
    ));
    commands
}

pub(crate) fn routed(tap: &str, guest: Ipv4Addr) -> Vec<String> {
    let mut commands = vec![
        format!("sysctl -ew net/ipv6/conf/{tap}/accept_ra=0"),
        format!("ip addr add {GATEWAY} peer {guest} dev {tap} scope link"),
        FORWARD.into(),
    ];
    commands.extend(confined("routed", tap, guest.into()));
    commands
}

pub(crate) fn macvtap(parent: &str, mac: [u8; 6]) -> Vec<String> {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    vec![
        format!("ip link add link {parent} name {TAP} address {mac} type macvtap mode bridge"),
        format!("sysctl -ew net/ipv6/conf/{TAP}/disable_ipv6=1"),
        format!("ip link set {TAP} allmulticast on up"),
        format!("chown $USER /dev/tap$(cat /sys/class/net/{TAP}/ifindex)"),
    ]
}

/// Nothing leaves `interface` but from `inside`, nor for where clouds tell a machine its secrets.
fn confined(table: &str, interface: &str, inside: Ipv4Net) -> [String; 3] {
    let outwards =
        format!("add rule ip {table} forward iifname {interface} oifname != {interface}");
    [
        format!(
            "nft 'add table ip {table}; add chain ip {table} forward {{ type filter hook forward \
             priority 0; }}'"
        ),
        format!("nft '{outwards} ip saddr != {inside} drop'"),
        format!("nft '{outwards} ip daddr 169.254.0.0/16 drop'"),
    ]
}
