//! Networks.

use std::str::FromStr;

use crate::host_net::HostSide;
use crate::net::Mac;
use crate::user_net::Config;

/// A network: `mode=user` or `mode=tap`, each with its options, or `none`.
///
/// * `mode=user[,hostfwd=FORWARD]…[,restrict][,loopback=off]`
/// * `mode=tap[,tapif=NAME][,mq=PAIRS][,vhost=0|1]`, and what the tap leads to: `bridge=NAME`, `nat[=SUBNET]`
///   or `routed=ADDRESS`
/// * Both take `guest_mac=MAC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkOption {
    /// No network card.
    None,
    /// A card on a tap.
    Tap {
        /// The guest's address; one is made where none is given.
        mac: Option<Mac>,
        /// The cable.
        tap: TapOption,
    },
    /// A card on a network of its own, without privileges.
    User {
        /// The guest's address; one is made where none is given.
        mac: Option<Mac>,
        /// What the guest reaches, and who reaches the guest.
        config: Config,
    },
}

/// A tap, and how it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapOption {
    /// The host's interface; one is made where none is named.
    pub name: Option<String>,
    /// Pairs of queues, each with a thread: 1 to 256.
    pub pairs: usize,
    /// The kernel serves the queues (vhost-net).
    pub vhost: bool,
    /// What it leads to, if the person does not see to that.
    pub side: Option<HostSide>,
}

impl Default for TapOption {
    /// Made, with one pair of queues that this process serves.
    fn default() -> Self {
        Self { name: None, pairs: 1, vhost: false, side: None }
    }
}

const KNOWN: &str = "mode=user with hostfwd=FORWARD, restrict, loopback=off; \
                     mode=tap with tapif=NAME, mq=PAIRS, vhost=0|1, bridge=NAME, nat, nat=SUBNET, \
                     routed=ADDRESS; guest_mac=MAC, trans=mmio";

impl FromStr for NetworkOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let (mut mode, mut mac) = (None, None);
        let (mut tap, mut config) = (None::<TapOption>, None::<Config>);
        for option in text.split(',') {
            let (key, value) = option.split_once('=').map_or((option, None), |(k, v)| (k, Some(v)));
            match (key, value) {
                ("mode", Some(value)) => mode = Some(value),
                ("guest_mac", Some(value)) => {
                    mac = Some(value.parse().map_err(|e| format!("guest_mac: {e}"))?);
                }
                ("trans", Some("mmio")) => {}
                _ if set_tap(&mut tap, key, value)? || set_user(&mut config, key, value)? => {}
                _ => return Err(format!("unknown network option «{option}»: there are {KNOWN}")),
            }
        }
        match (mode, tap, config) {
            (Some("tap"), tap, None) => Ok(Self::Tap { mac, tap: tap.unwrap_or_default() }),
            (Some("user"), None, config) => {
                Ok(Self::User { mac, config: config.unwrap_or_default() })
            }
            (Some("none"), None, None) if mac.is_none() => Ok(Self::None),
            (Some("tap"), ..) => Err("hostfwd, restrict and loopback are for mode=user, not for \
                                      mode=tap"
                .into()),
            (Some("user"), ..) => {
                let what = "tapif, mq, vhost, bridge, nat and routed";
                Err(format!("{what} are for mode=tap, not for mode=user"))
            }
            (Some("none"), ..) => Err("mode=none has no card: leave out all else, or give \
                                       mode=user or mode=tap"
                .into()),
            (Some(other), ..) => {
                Err(format!("unknown mode «{other}»: there are user, tap and none"))
            }
            (None, ..) => Err("a network needs mode=user or mode=tap, or is `none`".into()),
        }
    }
}

/// Takes an option of taps over, if it is one.
fn set_tap(tap: &mut Option<TapOption>, key: &str, value: Option<&str>) -> Result<bool, String> {
    let mut known = tap.clone().unwrap_or_default();
    match (key, value) {
        ("tapif", Some(name)) => known.name = Some(name.to_owned()),
        ("mq", Some(pairs)) => {
            let pairs = pairs.parse().ok().filter(|pairs| (1..=256).contains(pairs));
            known.pairs = pairs.ok_or("mq: give 1 to 256 pairs of queues")?;
        }
        ("vhost", Some("0")) => known.vhost = false,
        ("vhost", Some("1")) => known.vhost = true,
        _ => match host_side(key, value)? {
            Some(side) if known.side.is_none() => known.side = Some(side),
            Some(_) => return Err("bridge, nat and routed exclude each other: give one".into()),
            None => return Ok(false),
        },
    }
    *tap = Some(known);
    Ok(true)
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

/// Takes an option of networks without privileges over, if it is one.
fn set_user(config: &mut Option<Config>, key: &str, value: Option<&str>) -> Result<bool, String> {
    let mut known = config.clone().unwrap_or_default();
    match (key, value) {
        ("hostfwd", Some(forward)) => {
            known.forwards.push(forward.parse().map_err(|e| format!("hostfwd: {e}"))?);
        }
        ("loopback", Some("off")) => known.host_loopback = false,
        ("restrict", None) => known.restrict = true,
        _ => return Ok(false),
    }
    *config = Some(known);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<NetworkOption>().unwrap_err()
    }

    #[test]
    fn a_network_of_its_own_has_ports_that_lead_in() {
        let text = "mode=user,hostfwd=tcp::8022-:22,restrict,hostfwd=udp:[::1]:53-:53,loopback=off";
        let Ok(NetworkOption::User { config, mac: None }) = text.parse() else { panic!("{text}") };
        let forwards: Vec<_> = config.forwards.iter().map(ToString::to_string).collect();
        assert_eq!(forwards, ["tcp:127.0.0.1:8022-10.0.2.15:22", "udp:[::1]:53-10.0.2.15:53"]);
        assert!(config.restrict && !config.host_loopback);
    }

    #[test]
    fn a_tap_is_served_here_or_by_the_kernel() {
        let served = |text: &str| match text.parse() {
            Ok(NetworkOption::Tap { tap, .. }) => (tap.pairs, tap.vhost),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(served("mode=tap"), (1, false));
        assert_eq!(served("vhost=1,mode=tap,mq=4"), (4, true));
        assert_eq!(served("mode=tap,vhost=0"), (1, false));
    }

    #[test]
    fn what_a_tap_leads_to_is_one_option() {
        let side = |text: &str| match format!("mode=tap,{text}").parse() {
            Ok(NetworkOption::Tap { tap, .. }) => tap.side,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(side("tapif=tap0"), None);
        assert_eq!(side("bridge=br0"), Some(HostSide::Bridge("br0".into())));
        assert_eq!(side("nat,tapif=tap0"), Some(HostSide::Nat(None)));
        assert_eq!(side("nat=10.1.2.0/24"), Some(HostSide::Nat("10.1.2.0/24".parse().ok())));
        assert_eq!(side("routed=10.1.2.3"), Some(HostSide::Routed([10, 1, 2, 3].into())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refusal("mode=tap,bridge=").contains("such as br0"));
        assert!(refusal("mode=tap,bridge").contains("bridge=NAME"));
        assert!(refusal("mode=tap,nat=10.1.2.0").contains("10.1.2.0/24"));
        assert!(refusal("mode=tap,routed=guest").contains("10.1.2.3"));
        for side in ["bridge=br0", "nat", "routed=10.1.2.3"] {
            assert!(refusal(&format!("mode=tap,nat,{side}")).contains("exclude each other"));
        }
        assert!(refusal("mode=bridge").contains("«bridge»"));
        assert!(refusal("mode=user,hostfwd=8022").contains("hostfwd"));
        assert!(refusal("tapif=x").contains("mode=tap"));
        assert!(refusal("mode=tap,guest_mac=1").contains("guest_mac"));
        assert!(refusal("mode=tap,vhost=on").contains("«vhost=on»: there are mode=user"));
        assert!(refusal("mode=tap,mtu=9000").contains("«mtu=9000»"));
        for mq in ["0", "257", "-1", ""] {
            assert!(refusal(&format!("mode=tap,mq={mq}")).contains("1 to 256"));
        }
        for option in ["tapif=x", "mq=1", "vhost=0", "bridge=br0", "nat", "routed=10.1.2.3"] {
            assert!(refusal(&format!("mode=user,{option}")).contains("for mode=tap"));
            assert!(refusal(&format!("mode=none,{option}")).contains("leave out"));
        }
        for option in ["hostfwd=tcp::8022-:22", "restrict", "loopback=off"] {
            assert!(refusal(&format!("mode=tap,{option}")).contains("for mode=user"));
            assert!(refusal(&format!("mode=none,{option}")).contains("leave out"));
        }
        assert!(refusal("guest_mac=02:00:5e:10:00:01,mode=none").contains("no card"));
    }
}
