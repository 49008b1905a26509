//! Options of `mode=socket`.

use std::path::PathBuf;

/// A stream socket to another program: `socket=PATH[,listen]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOption {
    /// Where it is.
    pub path: PathBuf,
    /// The other program connects to it, instead of the other way round.
    pub listen: bool,
}

impl SocketOption {
    /// Takes an option over, if it is one of sockets.
    pub(super) fn set(&mut self, key: &str, value: Option<&str>) -> Result<bool, String> {
        match (key, value) {
            ("socket", Some(path)) => self.path = path.into(),
            ("listen", None) => self.listen = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether what was taken over makes sense as a whole.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.path.as_os_str().is_empty() {
            true => Err("mode=socket leads to another program: give socket=PATH".into()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lkvm::{NetworkMode, NetworkOption};

    #[test]
    fn a_socket_has_a_path_and_one_side_listens() {
        for listen in [false, true] {
            let text = format!("mode=socket,socket=/run/a{}", if listen { ",listen" } else { "" });
            let path = "/run/a".into();
            let mode = NetworkMode::Socket(SocketOption { path, listen });
            assert_eq!(text.parse(), Ok(NetworkOption::of(mode)));
        }
        for (text, word) in [
            ("mode=socket,listen", "give socket=PATH"),
            ("mode=socket,socket=", "give socket=PATH"),
            ("mode=socket,socket", "unknown network option «socket»"),
            ("mode=user,listen", "listen is for mode=socket, not for mode=user"),
        ] {
            let error = text.parse::<NetworkOption>().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
