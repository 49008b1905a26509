//! A tap as part of a bridge that the host has already.

use crate::host_net::Kind;
use crate::seat::Door;
use crate::{HostNet, HostNetError, firewall, preparation};

pub(crate) fn set_up(tap: &str, bridge: &str) -> Result<HostNet, HostNetError> {
    let mut door = Door::open()?;
    let links = door.links()?;
    let kind = Kind::Bridge(bridge.into());
    let tap = links.tap(tap)?;
    let found = links.named(bridge).map_err(|_| HostNetError::NoBridge(bridge.into()))?;
    if !found.is_bridge {
        return Err(HostNetError::NotABridge(bridge.into()));
    }
    if !found.is_up {
        tracing::warn!("the bridge is down: have root run `ip link set {bridge} up`");
    }
    if tap.master == Some(found.index) {
        return Ok(HostNet::prepared(kind));
    }
    links.is_free(tap)?;
    let seat = door.seat(|_| true)?;
    let ((), seat) = door.furnish(seat, |rtnetlink, seat| {
        let joined = seat.mark(rtnetlink, tap);
        joined.and_then(|()| rtnetlink.set_master(tap.index, Some(found.index))).map_err(|error| {
            let commands = || preparation::bridge(&tap.name, bridge);
            HostNetError::refused("make a tap part of a bridge", error, commands)
        })
    })?;
    Ok(HostNet::made(kind, seat, None, None, firewall::commands_for_bridge(bridge)))
}
