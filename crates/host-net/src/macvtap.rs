//! A tap on a card of the host's.

use std::fmt;
use std::io;

use crate::seat::{Door, Seat};
use crate::{HostNetError, ipv6, preparation};

/// A tap that shares an interface of the host's, by the kernel's macvtap: the guest is a machine of that
/// interface's network, with an address of its own, as on a bridge, without one. It is gone with this value, and if
/// its process was killed, at the next start.
///
/// The kernel passes on what is for the tap's own hardware address, so that the guest has to have that, and what is for
/// any group, since it does not know which ones the guest has joined. The host itself has no IPv6 there: it would be
/// another machine of the guest's address. It and the guest do not hear each other; guests on the same interface do.
///
/// It says in a few words what it is: `macvtap cubie-macvtap0 on eth0`.
#[derive(Debug)]
pub struct Macvtap {
    name: String,
    parent: String,
    mac: [u8; 6],
    seat: Option<Seat>,
}

impl Macvtap {
    /// Makes one on the interface `parent`, with the hardware address that `mac` has for its name, and brings it
    /// up.
    pub fn make(parent: &str, mac: impl FnOnce(&str) -> [u8; 6]) -> Result<Self, HostNetError> {
        let mut door = Door::open()?;
        let links = door.links()?;
        let below = links.named(parent)?;
        let seat = door.seat(|number| links.named(&name(number)).is_err())?;
        let name = name(seat.number);
        let mac = mac(&name);
        let ((), seat) = door.furnish(seat, |rtnetlink, seat| {
            let mut make = || {
                rtnetlink.make_macvtap(&name, below.index, mac)?;
                let made = rtnetlink.link(&name)?.ok_or(io::ErrorKind::NotFound)?;
                // Between these two calls one that nobody clears away can be left behind, as a bridge can.
                seat.mark(rtnetlink, &made)?;
                ipv6::switch_off(&name)?;
                rtnetlink.bring_up_for_all_groups(made.index)
            };
            make().map_err(|error| {
                let commands = || preparation::macvtap(parent, mac);
                HostNetError::refused("make a macvtap on this interface", error, commands)
            })
        })?;
        Ok(Self { name, parent: parent.into(), mac, seat: Some(seat) })
    }

    /// The interface's name, by which it is opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its hardware address, which has to be the guest's.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }
}

impl fmt::Display for Macvtap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "macvtap {} on {}", self.name, self.parent)
    }
}

impl Drop for Macvtap {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        if let Err(error) = Door::enter().and_then(|mut door| door.clear_seat(seat)) {
            tracing::warn!("«{self}» is taken down at the next start: {error}");
        }
    }
}

/// What the macvtap of a seat is called.
pub(crate) fn name(seat: u32) -> String {
    format!("cubie-macvtap{seat}")
}
