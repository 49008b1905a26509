//! A card in a snapshot: what it was made with, its link, and what the driver has asked for. All fields are
//! little endian.

use cubie_virtio_core::RestoreError;

use crate::Mac;
use crate::link::Link;
use crate::settings::Settings;

const VERSION: u8 = 2;

/// What a card was made with that the driver has learned, beside features and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) mac: Mac,
    pub(crate) mtu: Option<u16>,
}

/// The bytes of a card that is stopped.
pub(crate) fn save(made: Made, link: &Link, settings: &Settings) -> Vec<u8> {
    let Made { mac, mtu } = made;
    let mut saved = vec![VERSION];
    saved.extend(mac.bytes());
    saved.extend(mtu.unwrap_or(0).to_le_bytes());
    saved.push(link.save());
    settings.save(&mut saved);
    saved
}

/// What the driver has asked for, of a card that was made as `made`, and its link; for a card with `pairs`.
pub(crate) fn restored(
    saved: &[u8],
    made: Made,
    pairs: usize,
) -> Result<(u8, Settings), RestoreError> {
    let refused = |why: String| RestoreError::Refused(why);
    let foreign = || refused("these are no settings of such a card".into());
    let mut rest = saved.strip_prefix(&[VERSION]).ok_or_else(foreign)?;
    let mut head = || {
        let mac = Mac::from_bytes(take(&mut rest)?).ok()?;
        let mtu = Some(u16::from_le_bytes(take(&mut rest)?)).filter(|mtu| *mtu != 0);
        Some((Made { mac, mtu }, take(&mut rest)?))
    };
    let (saved, [link]) = head().ok_or_else(foreign)?;
    if saved.mac != made.mac {
        let (saved, here) = (saved.mac, made.mac);
        return Err(refused(format!(
            "the card's address was {saved}, and is {here}: give that one"
        )));
    }
    if saved.mtu != made.mtu {
        let (saved, here) = (saved.mtu, made.mtu);
        return Err(refused(format!(
            "the card's MTU was {saved:?}, and is {here:?}: give that one"
        )));
    }
    let settings = Settings::restored(&mut rest, pairs).filter(|_| rest.is_empty());
    Ok((link, settings.ok_or_else(foreign)?))
}

/// The next `N` bytes, which are gone from `rest` then.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cubie_virtio_core::{Config, Features};

    use crate::coalescing::{Moderation, Those};
    use crate::protocol::{CTRL_RX, CTRL_VLAN, Command, MQ, RxMode, VQ_NOTF_COAL};
    use crate::settings::Limits;

    fn made() -> Made {
        Made { mac: Mac::made_from("test"), mtu: Some(1500) }
    }

    /// All that a driver can ask for has been asked for.
    fn settings() -> Settings {
        let features = MQ.with(CTRL_RX).with(CTRL_VLAN).with(VQ_NOTF_COAL);
        let limits = Limits { features, pairs: 3, in_reset: vec![] };
        let commands = [
            Command::Pairs(3),
            Command::Receive(RxMode::AllMulticast, true),
            Command::Addresses(vec![[2; 6], [4; 6]], vec![[3; 6]]),
            Command::Vlan(4095, true),
            Command::Coalesce(Those::One(5), Moderation { packets: 8, usecs: 50 }),
        ];
        let new = Settings::new(made().mac, features);
        commands
            .into_iter()
            .fold(new, |settings, command| settings.after(command, &limits).unwrap())
    }

    #[test]
    fn a_card_takes_what_another_one_saved_and_nothing_else() {
        let link = Link::new(Config::new([0; 32]));
        for settings in [settings(), Settings::new(made().mac, Features(0))] {
            let saved = save(made(), &link, &settings);
            assert_eq!(restored(&saved, made(), 3), Ok((link.save(), settings)));
            for len in 0..saved.len() {
                restored(&saved[..len], made(), 3).unwrap_err();
            }
            restored(&[&saved[..], &[0]].concat(), made(), 3).unwrap_err();
        }
        let saved = save(made(), &link, &settings());
        restored(&saved, made(), 2).expect_err("more pairs than the card has");
    }

    #[test]
    fn a_card_that_was_made_otherwise_says_how() {
        let saved = save(made(), &Link::new(Config::new([0; 32])), &settings());
        for (made, words) in [
            (Made { mac: Mac::made_from("other"), ..made() }, "the card's address was"),
            (Made { mtu: None, ..made() }, "the card's MTU was Some(1500), and is None: give that"),
        ] {
            let error = restored(&saved, made, 3).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
