//! What a card is on.

use super::{SocketOption, TapOption, user};
use crate::user_net::Config;

/// What a card is on: `mode=…`, with the options that are of this mode alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// There is no card.
    None,
    /// A tap: `[tapif=NAME|macvtap=CARD][,mq=PAIRS][,vhost=0|1][,poll=USECS]`, and what it leads to: `bridge=NAME`,
    /// `nat[=SUBNET]` or `routed=ADDRESS`.
    Tap(TapOption),
    /// A cable that goes nowhere.
    Null,
    /// A stream socket to another program: `socket=PATH[,listen]`.
    Socket(SocketOption),
    /// A network of its own, without privileges: `[hostfwd=FORWARD]…[,restrict][,loopback=off]`.
    User(Config),
}

impl NetworkMode {
    /// As they are called.
    pub(super) const NAMES: [&str; 5] = ["user", "tap", "socket", "null", "none"];

    /// The mode of this name, without options.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "tap" => Some(Self::Tap(TapOption::default())),
            "user" => Some(Self::User(Config::default())),
            "socket" => Some(Self::Socket(SocketOption::default())),
            "null" => Some(Self::Null),
            _ => None,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tap(_) => "tap",
            Self::User(_) => "user",
            Self::Socket(_) => "socket",
            Self::Null => "null",
        }
    }

    /// Takes an option over, if it is one of this mode.
    pub(super) fn set(&mut self, key: &str, value: Option<&str>) -> Result<bool, String> {
        match self {
            Self::Tap(tap) => tap.set(key, value),
            Self::User(config) => user::set(config, key, value),
            Self::Socket(socket) => socket.set(key, value),
            Self::None | Self::Null => Ok(false),
        }
    }

    /// Whether the options of this mode make sense together.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Tap(tap) => tap.check(),
            Self::Socket(socket) => socket.check(),
            _ => Ok(()),
        }
    }

    /// The name of the mode that the option is for, if there is one.
    pub(super) fn whose(key: &str, value: Option<&str>) -> Option<&'static str> {
        Self::NAMES.into_iter().find(|name| {
            let set = Self::named(name).map(|mut mode| mode.set(key, value));
            !matches!(set, None | Some(Ok(false)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_their_options_are_known_by_name() {
        for name in NetworkMode::NAMES {
            assert_eq!(NetworkMode::named(name).map(|mode| mode.name()), Some(name));
        }
        assert_eq!(NetworkMode::named("pigeon"), None);
        assert_eq!(NetworkMode::whose("restrict", None), Some("user"));
        assert_eq!(NetworkMode::whose("mq", Some("none at all")), Some("tap"));
        assert_eq!(NetworkMode::whose("colour", Some("red")), None);
    }
}
