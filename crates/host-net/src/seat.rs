//! Who has set what up: the marks by which our interfaces are known, and the clearing away.

use std::io;
use std::time::Duration;

use crate::HostNetError;
use crate::claim::Claim;
use crate::forwarding::Forwarding;
use crate::ipv6;
use crate::macvtap;
use crate::nat::bridge_name;
use crate::routed::GATEWAY;
use crate::rtnetlink::{LONGEST_ALIAS, Link, Rtnetlink};

/// How many networks of this kind one host can have at a time.
const SEATS: u32 = 64;
const NAME: &str = "cubie-host-net/";
const ACCEPT_RA: &str = "/accept_ra=";
/// Whoever sets up or takes down waits for the others who do, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// The right to change what is ours in this network namespace: one at a time has it.
pub(crate) struct Door {
    #[expect(dead_code, reason = "held")]
    claim: Claim,
    pub(crate) rtnetlink: Rtnetlink,
}

/// A number that one network has as long as it is set up and its process lives.
///
/// What it makes or changes carries the name of this claim as its alias, which everybody sees in
/// `ip link`. So an interface whose mark names a claim that nobody holds was left behind by a process
/// that was killed, and nothing without a mark is ever touched.
#[derive(Debug)]
pub(crate) struct Seat {
    #[expect(dead_code, reason = "held")]
    claim: Claim,
    pub(crate) number: u32,
}

impl Door {
    /// Waits for the others, and clears away what killed ones have left.
    pub(crate) fn open() -> Result<Self, HostNetError> {
        let mut door = Self::enter().map_err(|source| HostNetError::Host {
            what: "wait for other networks that are being set up",
            source,
        })?;
        if let Err(error) = door.clear_orphans() {
            tracing::warn!("networks that killed programs have left stay: {error}");
        }
        Ok(door)
    }

    /// Waits for the others.
    pub(crate) fn enter() -> io::Result<Self> {
        let claim = Claim::wait(&format!("{NAME}door"), PATIENCE)?;
        Ok(Self { claim, rtnetlink: Rtnetlink::open() })
    }

    /// A seat that is free, and for which `fits`.
    pub(crate) fn seat(&self, fits: impl Fn(u32) -> bool) -> Result<Seat, HostNetError> {
        for number in (0..SEATS).filter(|&number| fits(number)) {
            let taken = Claim::take(&claim(number));
            let taken = taken.map_err(|source| HostNetError::Host { what: "find room", source })?;
            if let Some(claim) = taken {
                return Ok(Seat { claim, number });
            }
        }
        let source = io::Error::other(format!("{SEATS} networks of virtual machines are there"));
        Err(HostNetError::Host { what: "find room", source })
    }

    /// The interfaces of this host.
    pub(crate) fn links(&mut self) -> Result<Links, HostNetError> {
        let links = self.rtnetlink.links();
        links.map(Links).map_err(|source| HostNetError::Host { what: "list interfaces", source })
    }

    /// Lets `make` set something up under `seat`, and undoes all of it if that fails.
    pub(crate) fn furnish<T>(
        &mut self,
        seat: Seat,
        make: impl FnOnce(&mut Rtnetlink, &Seat) -> Result<T, HostNetError>,
    ) -> Result<(T, Seat), HostNetError> {
        match make(&mut self.rtnetlink, &seat) {
            Ok(made) => Ok((made, seat)),
            Err(error) => {
                if let Err(error) = self.clear_seat(seat) {
                    tracing::warn!("a network that failed is not taken down whole: {error}");
                }
                Err(error)
            }
        }
    }

    /// Forwarding is as before, if nobody has a seat but `own`.
    fn close_forwarding(&mut self, own: Option<u32>) -> io::Result<()> {
        for number in (0..SEATS).filter(|&number| Some(number) != own) {
            if Claim::take(&claim(number))?.is_none() {
                return Ok(());
            }
        }
        Forwarding::restore(&mut self.rtnetlink)
    }

    fn clear_orphans(&mut self) -> io::Result<()> {
        for link in self.rtnetlink.links()? {
            if let Some(mark) = Mark::of(&link.alias)
                && Claim::take(&claim(mark.seat))?.is_some()
            {
                clear(&mut self.rtnetlink, &link, &mark)?;
            }
        }
        self.close_forwarding(None)
    }

    /// Takes down all that `seat` has set up, and gives it back.
    pub(crate) fn clear_seat(&mut self, seat: Seat) -> io::Result<()> {
        for link in self.rtnetlink.links()? {
            if let Some(mark) = Mark::of(&link.alias)
                && mark.seat == seat.number
            {
                clear(&mut self.rtnetlink, &link, &mark)?;
            }
        }
        // The name may be taken a moment longer than the seat: by a child that this process is about to start.
        self.close_forwarding(Some(seat.number))
    }
}

impl Seat {
    /// Says that `link` is ours, or has something of ours.
    pub(crate) fn mark(&self, rtnetlink: &mut Rtnetlink, link: &Link) -> io::Result<()> {
        Mark { seat: self.number, accept_ra: None, before: &link.alias }.put(rtnetlink, link)
    }

    /// As [`Seat::mark`], and the host takes no router at `link` any more: the mark says whether it did.
    pub(crate) fn mark_and_take_no_router(
        &self,
        rtnetlink: &mut Rtnetlink,
        link: &Link,
    ) -> io::Result<()> {
        let took = ipv6::takes_routers(&link.name)?;
        let accept_ra = took.as_deref().filter(|&took| took != "0");
        Mark { seat: self.number, accept_ra, before: &link.alias }.put(rtnetlink, link)?;
        ipv6::take_routers(&link.name, "0")
    }
}

/// Interfaces as they were a moment ago.
pub(crate) struct Links(Vec<Link>);

impl Links {
    pub(crate) fn named(&self, name: &str) -> Result<&Link, HostNetError> {
        let found = self.0.iter().find(|link| link.name == name);
        found.ok_or_else(|| HostNetError::NoInterface(name.into()))
    }

    pub(crate) fn indexed(&self, index: u32) -> Result<&Link, HostNetError> {
        let found = self.0.iter().find(|link| link.index == index);
        found.ok_or_else(|| HostNetError::NoInterface(format!("number {index}")))
    }

    /// An error if it is no tap, since what is done with a guest's cable must not happen to a card of the host's;
    /// or if somebody who lives has set a network up for it.
    pub(crate) fn tap(&self, name: &str) -> Result<&Link, HostNetError> {
        let link = self.named(name)?;
        if !link.is_tap {
            return Err(HostNetError::NotATap(name.into()));
        }
        let Some(mark) = Mark::of(&link.alias).map(|mark| claim(mark.seat)) else {
            return Ok(link);
        };
        match Claim::take(&mark) {
            Ok(Some(_orphan)) => Ok(link),
            Ok(None) => Err(HostNetError::TapTaken { tap: name.into(), mark }),
            Err(source) => Err(HostNetError::Host { what: "ask whose a tap is", source }),
        }
    }

    /// An error if the tap is part of something.
    pub(crate) fn is_free(&self, tap: &Link) -> Result<(), HostNetError> {
        let Some(master) = tap.master else { return Ok(()) };
        let bridge = self.indexed(master)?.name.clone();
        Err(HostNetError::InAnother { tap: tap.name.clone(), bridge })
    }
}

fn claim(seat: u32) -> String {
    format!("{NAME}{seat}")
}

/// An alias that says whose an interface is: `cubie-host-net/SEAT`, and `/accept_ra=N` if that was changed.
#[derive(Debug, PartialEq, Eq)]
struct Mark<'a> {
    seat: u32,
    /// Whether the host took routers at the interface before.
    accept_ra: Option<&'a str>,
    /// The alias before.
    before: &'a str,
}

impl<'a> Mark<'a> {
    fn of(alias: &'a str) -> Option<Self> {
        let (ours, before) = alias.split_once(' ').unwrap_or((alias, ""));
        let ours = ours.strip_prefix(NAME)?;
        let (seat, accept_ra) = match ours.split_once(ACCEPT_RA) {
            Some((seat, accept_ra)) => (seat, Some(accept_ra)),
            None => (ours, None),
        };
        let seat = seat.parse().ok().filter(|&seat| seat < SEATS)?;
        Some(Self { seat, accept_ra, before })
    }

    fn put(&self, rtnetlink: &mut Rtnetlink, link: &Link) -> io::Result<()> {
        let accept_ra = self.accept_ra.map(|was| format!("{ACCEPT_RA}{was}")).unwrap_or_default();
        let mut alias = format!("{}{accept_ra} {}", claim(self.seat), self.before);
        alias.truncate(alias.floor_char_boundary(LONGEST_ALIAS));
        rtnetlink.set_alias(link.index, alias.trim_end())
    }
}

/// A bridge or a macvtap with a mark and the name that goes with it was made; anything else was there, or goes by itself,
/// and lends itself only.
fn clear(rtnetlink: &mut Rtnetlink, link: &Link, mark: &Mark<'_>) -> io::Result<()> {
    let made = (link.is_bridge && link.name == bridge_name(mark.seat))
        || (link.is_macvtap && link.name == macvtap::name(mark.seat));
    if made {
        return rtnetlink.delete(link.index);
    }
    let links = rtnetlink.addresses()?;
    for address in links.iter().filter(|a| a.link == link.index && a.local == GATEWAY) {
        rtnetlink.delete_address(address)?;
    }
    if link.master.is_some() {
        rtnetlink.set_master(link.index, None)?;
    }
    if let Some(accept_ra) = mark.accept_ra {
        ipv6::take_routers(&link.name, accept_ra)?;
    }
    rtnetlink.set_alias(link.index, mark.before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_a_seat_and_keeps_what_was_there() {
        let mark = |seat, accept_ra, before| Some(Mark { seat, accept_ra, before });
        assert_eq!(Mark::of("cubie-host-net/7"), mark(7, None, ""));
        assert_eq!(Mark::of("cubie-host-net/63 the blue cable"), mark(63, None, "the blue cable"));
        assert_eq!(Mark::of("cubie-host-net/0/accept_ra=2 a b"), mark(0, Some("2"), "a b"));
        for alias in ["", "uplink", "cubie-host-net/", "cubie-host-net/64", "cubie-host-net/x 1"] {
            assert_eq!(Mark::of(alias), None, "{alias}");
        }
    }
}
