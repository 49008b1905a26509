//! Options of `mode=tap`.

use std::time::Duration;

use crate::host_net::HostSide;

/// A tap, and how it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapOption {
    /// The host's interface; one is made where none is named.
    pub name: Option<String>,
    /// A card of the host's that a macvtap is made on, instead of a tap.
    pub macvtap: Option<String>,
    /// Pairs of queues, each with a thread: 1 to 256.
    pub pairs: usize,
    /// The kernel serves the queues (vhost-net).
    pub vhost: bool,
    /// For how long each thread looks for frames by itself before it sleeps, if it does.
    pub poll: Option<Duration>,
    /// What it leads to, if the person does not see to that.
    pub side: Option<HostSide>,
}

impl Default for TapOption {
    /// Made, with one pair of queues that this process serves.
    fn default() -> Self {
        Self { name: None, macvtap: None, pairs: 1, vhost: false, poll: None, side: None }
    }
}

impl TapOption {
    /// Takes an option over, if it is one of taps.
    pub(super) fn set(&mut self, key: &str, value: Option<&str>) -> Result<bool, String> {
        match (key, value) {
            ("tapif", Some(name)) => self.name = Some(name.to_owned()),
            ("macvtap", Some(parent)) => self.macvtap = Some(parent.to_owned()),
            ("mq", Some(pairs)) => {
                let pairs = pairs.parse().ok().filter(|pairs| (1..=256).contains(pairs));
                self.pairs = pairs.ok_or("mq: give 1 to 256 pairs of queues")?;
            }
            ("vhost", Some("0")) => self.vhost = false,
            ("vhost", Some("1")) => self.vhost = true,
            ("poll", Some(usecs)) => {
                let usecs = usecs.parse().ok().filter(|usecs| (1..=10_000).contains(usecs));
                let usecs = usecs.ok_or("poll: give 1 to 10000 microseconds, such as 50")?;
                self.poll = Some(Duration::from_micros(usecs));
            }
            _ => match host_side(key, value)? {
                Some(side) if self.side.is_none() => self.side = Some(side),
                Some(_) => return Err("bridge, nat and routed exclude each other: give one".into()),
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// Whether all of them make sense together.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.vhost && self.poll.is_some() {
            return Err(
                "with vhost=1 the kernel moves the frames, and poll would find none: leave \
                        out one of them"
                    .into(),
            );
        }
        match &self.macvtap {
            Some(_) if self.name.is_some() || self.side.is_some() => Err(
                "a macvtap is made, and leads to its card's network: leave out tapif, bridge, nat \
                     and routed, or macvtap"
                    .into(),
            ),
            Some(parent) if parent.is_empty() => {
                Err("macvtap: give the name of a card of the host's, such as eth0".into())
            }
            _ => Ok(()),
        }
    }
}

/// What the option wants the host to do, if it is about that.
fn host_side(key: &str, value: Option<&str>) -> Result<Option<HostSide>, String> {
    Ok(Some(match (key, value) {
        ("bridge", Some("")) => return Err("bridge: give the bridge's name, such as br0".into()),
        ("bridge", Some(bridge)) => HostSide::Bridge(bridge.into()),
        ("nat", None) => HostSide::Nat(None),
        ("nat", Some(subnet)) => {
            let subnet = subnet.parse().map_err(|_| "nat: give a network, such as 10.1.2.0/24")?;
            HostSide::Nat(Some(subnet))
        }
        ("routed", Some(guest)) => {
            let guest = guest.parse();
            let wanted = "routed: give the guest's address, such as 10.1.2.3";
            HostSide::Routed(guest.map_err(|_| wanted)?)
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(text: &str) -> TapOption {
        let mut tap = TapOption::default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').map_or((option, None), |(k, v)| (k, Some(v)));
            assert_eq!(tap.set(key, value), Ok(true), "{option}");
        }
        tap
    }

    #[test]
    fn a_tap_is_served_here_or_by_the_kernel() {
        let served = |text| (tap(text).pairs, tap(text).vhost);
        assert_eq!(served(""), (1, false));
        assert_eq!(served("vhost=1,mq=4"), (4, true));
        assert_eq!(served("vhost=0"), (1, false));
    }

    #[test]
    fn a_tap_is_looked_at_for_so_many_microseconds() {
        assert_eq!(tap("poll=50").poll, Some(Duration::from_micros(50)));
        assert_eq!((tap("").poll, tap("poll=50").check()), (None, Ok(())));
        for poll in ["0", "10001", "-1", "50us", ""] {
            let error = TapOption::default().set("poll", Some(poll)).unwrap_err();
            assert!(error.contains("1 to 10000 microseconds"), "{error}");
        }
        assert!(tap("poll=50,vhost=1").check().unwrap_err().contains("leave out one"));
    }

    #[test]
    fn a_macvtap_is_made_on_a_card_and_leads_to_its_network() {
        assert_eq!(tap("macvtap=eth0,mq=2").macvtap.as_deref(), Some("eth0"));
        assert_eq!(tap("macvtap=eth0,vhost=1").check(), Ok(()));
        assert!(tap("macvtap=").check().unwrap_err().contains("such as eth0"));
        for other in ["tapif=tap0", "bridge=br0", "nat", "routed=10.1.2.3"] {
            let error = tap(&format!("macvtap=eth0,{other}")).check().unwrap_err();
            assert!(error.contains("leave out tapif"), "{error}");
        }
    }

    #[test]
    fn what_a_tap_leads_to_is_one_option() {
        assert_eq!(tap("tapif=tap0").side, None);
        assert_eq!(tap("bridge=br0").side, Some(HostSide::Bridge("br0".into())));
        assert_eq!(tap("nat,tapif=tap0").side, Some(HostSide::Nat(None)));
        assert_eq!(tap("nat=10.1.2.0/24").side, Some(HostSide::Nat("10.1.2.0/24".parse().ok())));
        assert_eq!(tap("routed=10.1.2.3").side, Some(HostSide::Routed([10, 1, 2, 3].into())));
    }
}
