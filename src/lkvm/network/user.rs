//! Options of `mode=user`.

use crate::user_net::Config;

/// Takes an option over, if it is one of networks without privileges.
pub(super) fn set(config: &mut Config, key: &str, value: Option<&str>) -> Result<bool, String> {
    match (key, value) {
        ("hostfwd", Some(forward)) => {
            config.forwards.push(forward.parse().map_err(|e| format!("hostfwd: {e}"))?);
        }
        ("loopback", Some("off")) => config.host_loopback = false,
        ("restrict", None) => config.restrict = true,
        _ => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_its_own_has_ports_that_lead_in() {
        let mut config = Config::default();
        for (key, value) in [
            ("hostfwd", Some("tcp::8022-:22")),
            ("restrict", None),
            ("hostfwd", Some("udp:[::1]:53-:53")),
            ("loopback", Some("off")),
        ] {
            assert_eq!(set(&mut config, key, value), Ok(true));
        }
        let forwards: Vec<_> = config.forwards.iter().map(ToString::to_string).collect();
        assert_eq!(forwards, ["tcp:127.0.0.1:8022-10.0.2.15:22", "udp:[::1]:53-10.0.2.15:53"]);
        assert!(config.restrict && !config.host_loopback);
    }
}
