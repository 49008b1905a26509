//! A firewall of the host's own that is in the way.

use std::io;

use netlink_bindings::nftables::{Nfgenmsg, Request};
use netlink_socket2::NetlinkSocket;

/// `NF_DROP` of linux/netfilter.h.
const DROP: u32 = 0;
/// Whether packets between the ports of a bridge are asked about too, where there is br_netfilter.
const ASKS_BRIDGES: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// The commands by which an administrator lets packets from and to `interface` through chains that drop
/// what they have no rule for, as Docker makes them: no table of ours could allow it. None where there are
/// no such chains, or nobody may look.
pub(crate) fn commands(interface: &str) -> Vec<String> {
    let chains = dropping_chains().unwrap_or_default();
    let rules = chains.iter().flat_map(|chain| {
        let rule = |side| format!("nft insert rule {chain} {side} {interface} accept");
        ["iifname", "oifname"].map(rule)
    });
    rules.collect()
}

/// As [`commands`], for packets that only pass a bridge.
pub(crate) fn commands_for_bridge(bridge: &str) -> Vec<String> {
    let asks = std::fs::read_to_string(ASKS_BRIDGES).is_ok_and(|asks| asks.trim() == "1");
    if asks { commands(bridge) } else { vec![] }
}

/// Chains that forwarded packets pass and do not survive, as nft names them.
fn dropping_chains() -> io::Result<Vec<String>> {
    let mut socket = NetlinkSocket::new();
    let request = Request::new().op_getchain_dump(&Nfgenmsg::new());
    let mut replies = socket.request(&request)?;
    let mut chains = vec![];
    while let Some((header, attributes)) = replies.recv().transpose()? {
        let family = match i32::from(header.nfgen_family) {
            libc::NFPROTO_IPV4 => "ip",
            libc::NFPROTO_INET => "inet",
            _ => continue,
        };
        let hook = attributes.get_hook().and_then(|hook| hook.get_num());
        let forwards = hook == Ok(libc::NF_INET_FORWARD.cast_unsigned());
        if let (true, Ok(DROP), Ok(table), Ok(name)) =
            (forwards, attributes.get_policy(), attributes.get_table(), attributes.get_name())
        {
            let (table, name) = (table.to_string_lossy(), name.to_string_lossy());
            chains.push(format!("{family} {table} {name}"));
        }
    }
    Ok(chains)
}
