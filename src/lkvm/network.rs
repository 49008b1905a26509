//! Networks.

mod capture;
mod mode;
mod socket;
mod tap;
mod user;

use std::str::FromStr;

use crate::net::Mac;

pub use capture::CaptureOption;
pub use mode::NetworkMode;
pub use socket::SocketOption;
pub use tap::TapOption;

/// A network: `mode=MODE` with its options, or `none`. All cards take `guest_mac=MAC` and
/// `pcap=FILE[,snaplen=BYTES]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkOption {
    /// What the card is on.
    pub mode: NetworkMode,
    /// The guest's address; one is made where none is given.
    pub mac: Option<Mac>,
    /// What passes is written down.
    pub capture: Option<CaptureOption>,
}

const KNOWN: &str = "mode=user with hostfwd=FORWARD, restrict, loopback=off; \
                     mode=tap with tapif=NAME, macvtap=CARD, mq=PAIRS, vhost=0|1, poll=USECS, bridge=NAME, nat, nat=SUBNET, \
                     routed=ADDRESS; mode=socket with socket=PATH, listen; mode=null; guest_mac=MAC, pcap=FILE, snaplen=BYTES, trans=mmio";

impl FromStr for NetworkOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::of(NetworkMode::None));
        }
        let named = text.split(',').rev().find_map(|option| option.strip_prefix("mode="));
        let name = named.ok_or("a network needs mode=user or mode=tap, or is `none`")?;
        let mode = NetworkMode::named(name).ok_or_else(|| {
            format!("unknown mode «{name}»: there are {}", NetworkMode::NAMES.join(", "))
        })?;
        let mut network = Self::of(mode);
        text.split(',').try_for_each(|option| network.set(option))?;
        network.check()?;
        Ok(network)
    }
}

impl NetworkOption {
    /// Without options.
    pub fn of(mode: NetworkMode) -> Self {
        Self { mode, mac: None, capture: None }
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (key, value) = option.split_once('=').map_or((option, None), |(k, v)| (k, Some(v)));
        match (key, value) {
            ("mode", Some(_)) | ("trans", Some("mmio")) => {}
            _ if self.mode == NetworkMode::None => {
                return Err(
                    "mode=none has no card: leave out all else, or give another mode, such \
                            as mode=user"
                        .into(),
                );
            }
            ("guest_mac", Some(mac)) => {
                self.mac = Some(mac.parse().map_err(|e| format!("guest_mac: {e}"))?);
            }
            _ if CaptureOption::set(&mut self.capture, key, value)? => {}
            _ if self.mode.set(key, value)? => {}
            _ => {
                return Err(match NetworkMode::whose(key, value) {
                    Some(other) => {
                        format!("{key} is for mode={other}, not for mode={}", self.mode.name())
                    }
                    None => format!("unknown network option «{option}»: there are {KNOWN}"),
                });
            }
        }
        Ok(())
    }

    /// Whether all options together make sense.
    fn check(&self) -> Result<(), String> {
        self.mode.check()?;
        let Some(capture) = &self.capture else { return Ok(()) };
        if matches!(&self.mode, NetworkMode::Tap(tap) if tap.vhost) {
            return Err(
                "with vhost=1 the kernel moves the frames, and pcap would see none: leave \
                        out one of them"
                    .into(),
            );
        }
        capture.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<NetworkOption>().unwrap_err()
    }

    #[test]
    fn a_mode_may_be_named_anywhere_and_has_its_options() {
        let network: NetworkOption = "mq=4,mode=tap,guest_mac=02:00:5e:10:00:01".parse().unwrap();
        assert_eq!(network.mac.unwrap().to_string(), "02:00:5e:10:00:01");
        let NetworkMode::Tap(tap) = network.mode else { panic!("no tap") };
        assert_eq!(tap, TapOption { pairs: 4, ..TapOption::default() });
        let network: NetworkOption = "mode=user,restrict,trans=mmio".parse().unwrap();
        assert!(matches!(network.mode, NetworkMode::User(config) if config.restrict));
        for none in ["none", "mode=none", "mode=none,trans=mmio"] {
            assert_eq!(none.parse(), Ok(NetworkOption::of(NetworkMode::None)));
        }
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
        for option in
            ["tapif=x", "mq=1", "vhost=0", "poll=50", "bridge=br0", "nat", "routed=10.1.2.3"]
        {
            assert!(refusal(&format!("mode=user,{option}")).contains("for mode=tap"));
            assert!(refusal(&format!("mode=none,{option}")).contains("leave out"));
        }
        assert!(refusal("mode=null,mq=2").contains("for mode=tap"));
        for option in ["hostfwd=tcp::8022-:22", "restrict", "loopback=off"] {
            assert!(refusal(&format!("mode=tap,{option}")).contains("for mode=user"));
            assert!(refusal(&format!("mode=none,{option}")).contains("leave out"));
        }
        assert!(refusal("guest_mac=02:00:5e:10:00:01,mode=none").contains("no card"));
    }
}
