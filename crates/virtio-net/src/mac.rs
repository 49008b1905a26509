//! Addresses of network cards.

use std::fmt;
use std::str::FromStr;

/// Set in the first byte of an address that somebody other than a manufacturer chose (IEEE 802 §8.2).
const LOCAL: u8 = 0x02;
/// Set in the first byte of an address of several cards.
const GROUP: u8 = 0x01;

/// The address of one network card.
///
/// ```
/// use cubie_virtio_net::Mac;
///
/// let mac: Mac = "02:00:5e:10:00:01".parse()?;
/// assert_eq!(mac.to_string(), "02:00:5e:10:00:01");
/// assert_eq!(Mac::made_from("board one"), Mac::made_from("board one"));
/// # Ok::<(), cubie_virtio_net::MacError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac([u8; 6]);

/// Why a text is not the address of one network card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// Not six pairs of hexadecimal digits.
    #[error("«{0}» is not a MAC address: give six pairs of hex digits, such as 02:00:5e:10:00:01")]
    Form(String),
    /// An address of several cards, or of none.
    #[error(
        "{0} is not the address of one card: its first byte must be even, and it must not be zero"
    )]
    NotOneCard(Mac),
}

impl Mac {
    /// An address that stays the same for the same text, such as a machine's name, and differs with it
    /// (one of 2⁴⁶: two of a thousand machines share theirs with a chance of 1 : 10⁸).
    pub fn made_from(text: &str) -> Self {
        // FNV-1a, 64 bits: it must not change with the version of a library.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let [_, _, first, rest @ ..] = (hash ^ hash >> 48).to_be_bytes();
        let [b, c, d, e, f] = rest;
        Self([first & !GROUP | LOCAL, b, c, d, e, f])
    }

    /// The address with these bytes, if it is one card's.
    pub fn from_bytes(bytes: [u8; 6]) -> Result<Self, MacError> {
        let one_card = bytes[0] & GROUP == 0 && bytes != [0; 6];
        one_card.then_some(Self(bytes)).ok_or(MacError::NotOneCard(Self(bytes)))
    }

    /// The bytes, in the order in which they are sent.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let form = || MacError::Form(text.into());
        let pair = |pair: &str| {
            let digits = pair.len() == 2 && pair.bytes().all(|c| c.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = text.split(':').map(pair).collect();
        Self::from_bytes(bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(form)?)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_address_says_what_a_good_one_looks_like() {
        for text in ["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "02:00:5e:10:00:+1", "02-00"] {
            let error = text.parse::<Mac>().unwrap_err();
            assert!(error.to_string().contains("such as 02:00:5e:10:00:01"), "{text}: {error}");
        }
    }

    #[test]
    fn group_addresses_and_zero_are_nobodys() {
        for text in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"] {
            let error = text.parse::<Mac>().unwrap_err();
            assert!(matches!(error, MacError::NotOneCard(_)), "{text}: {error}");
        }
    }

    #[test]
    fn made_addresses_are_local_and_of_one_card() {
        let mut seen = std::collections::HashSet::new();
        for n in 0..1000 {
            let mac = Mac::made_from(&format!("vm{n}"));
            assert_eq!(mac.bytes()[0] & 3, LOCAL);
            assert!(seen.insert(mac), "vm{n} shares {mac}");
        }
        assert_eq!(Mac::made_from("cubie").to_string(), Mac::made_from("cubie").to_string());
    }
}
