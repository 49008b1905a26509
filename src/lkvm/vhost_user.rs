//! Devices that vhost-user daemons serve.

use std::path::PathBuf;
use std::str::FromStr;

use crate::net::Mac;
use crate::vhost_user::DaemonKind;

/// A device behind a socket: `type=TYPE,socket=PATH[,queues=N][,tag=NAME][,guest_mac=MAC]`. LKVM has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhostUserOption {
    /// What the daemon serves.
    pub kind: DaemonKind,
    /// Where it listens.
    pub socket: PathBuf,
}

const TYPES: &str = "net, blk, console, rng, fs";
const KNOWN: &str =
    "type=TYPE, socket=PATH, queues=N for blk and fs, tag=NAME for fs, guest_mac=MAC for net";
/// More queues than this no daemon is asked for.
const MOST_QUEUES: u16 = 64;
/// Bytes of a folder's name (VIRTIO 1.4 §5.11.4).
const LONGEST_TAG: usize = 36;

impl FromStr for VhostUserOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = |key: &str| {
            let values = text.split(',').rev().filter_map(|option| option.split_once('='));
            values.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
        };
        let name = value("type").ok_or_else(|| format!("give type=TYPE: there are {TYPES}"))?;
        let mut kind = kind(name)?;
        let socket = value("socket").filter(|path| !path.is_empty());
        let socket = socket.ok_or("give socket=PATH, where the daemon listens")?.into();
        text.split(',').try_for_each(|option| set(&mut kind, name, option))?;
        match &kind {
            DaemonKind::Fs { tag, .. } if tag.is_empty() => {
                Err("type=fs: give tag=NAME, by which the guest mounts the folder".into())
            }
            _ => Ok(Self { kind, socket }),
        }
    }
}

fn kind(name: &str) -> Result<DaemonKind, String> {
    Ok(match name {
        "net" => DaemonKind::Net { mac: None },
        "blk" => DaemonKind::Block { queues: 1 },
        "console" => DaemonKind::Console,
        "rng" => DaemonKind::Rng,
        "fs" => DaemonKind::Fs { tag: String::new(), queues: 1 },
        _ => return Err(format!("unknown type «{name}»: there are {TYPES}")),
    })
}

fn set(kind: &mut DaemonKind, name: &str, option: &str) -> Result<(), String> {
    let (key, value) = option.split_once('=').unwrap_or((option, ""));
    match (key, kind) {
        ("type" | "socket", _) => {}
        ("trans", _) if value == "mmio" => {}
        ("queues", DaemonKind::Block { queues } | DaemonKind::Fs { queues, .. }) => {
            let count = value.parse().ok().filter(|count| (1..=MOST_QUEUES).contains(count));
            *queues = count.ok_or_else(|| format!("queues: give 1 to {MOST_QUEUES}"))?;
        }
        ("tag", DaemonKind::Fs { tag, .. }) => {
            if !(1..=LONGEST_TAG).contains(&value.len()) {
                return Err(format!("tag: give 1 to {LONGEST_TAG} bytes"));
            }
            *tag = value.into();
        }
        ("guest_mac", DaemonKind::Net { mac }) => {
            let address: Mac = value.parse().map_err(|error| format!("guest_mac: {error}"))?;
            *mac = Some(address.bytes());
        }
        ("queues" | "tag" | "guest_mac", _) => return Err(format!("{key} is not for type={name}")),
        _ => return Err(format!("unknown option «{option}»: there are {KNOWN}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(text: &str) -> VhostUserOption {
        text.parse().unwrap()
    }

    #[test]
    fn a_device_is_a_type_and_a_socket_and_what_is_said_of_it() {
        let disk = option("type=blk,socket=/run/disk,queues=2,trans=mmio");
        assert_eq!(disk.socket, PathBuf::from("/run/disk"));
        assert_eq!(disk.kind, DaemonKind::Block { queues: 2 });
        let folder = DaemonKind::Fs { tag: "home".into(), queues: 1 };
        assert_eq!(option("socket=a,tag=home,type=fs").kind, folder);
        let card = DaemonKind::Net { mac: Some([2, 0, 0, 0, 0, 1]) };
        assert_eq!(option("type=net,socket=a,guest_mac=02:00:00:00:00:01").kind, card);
        assert_eq!(option("type=rng,socket=a").kind, DaemonKind::Rng);
        assert_eq!(option("type=console,socket=a").kind, DaemonKind::Console);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refusal = |text: &str| text.parse::<VhostUserOption>().unwrap_err();
        assert!(refusal("socket=a").contains("give type=TYPE"));
        assert!(refusal("type=gpu,socket=a").contains("«gpu»: there are net, blk"));
        assert!(refusal("type=blk").contains("give socket=PATH"));
        assert!(refusal("type=blk,socket=").contains("give socket=PATH"));
        assert!(refusal("type=blk,socket=a,queues=0").contains("give 1 to 64"));
        assert!(refusal("type=net,socket=a,queues=2").contains("queues is not for type=net"));
        assert!(refusal("type=fs,socket=a").contains("give tag=NAME"));
        assert!(refusal(&format!("type=fs,socket=a,tag={}", "x".repeat(37))).contains("36 bytes"));
        assert!(refusal("type=net,socket=a,guest_mac=1").contains("guest_mac"));
        assert!(refusal("type=rng,socket=a,fast").contains("«fast»"));
    }
}
