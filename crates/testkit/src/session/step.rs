//! What a driver and a device do to each other, step by step.

use std::fmt::Write;

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are shown in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// As a string of two hexadecimal digits for each.
impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = self.0.iter().fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        });
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let wrong = || D::Error::invalid_value(Unexpected::Str(&digits), &"pairs of hex digits");
        let nibbles = digits.chars().map(|digit| digit.to_digit(16).map(|value| value as u8));
        let nibbles: Vec<u8> = nibbles.collect::<Option<_>>().ok_or_else(wrong)?;
        let (pairs, rest) = nibbles.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(wrong());
        }
        Ok(Self(pairs.iter().map(|[high, low]| high << 4 | low).collect()))
    }
}

/// Bytes and where they lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) at: u64,
    pub(crate) bytes: Bytes,
}

/// A buffer of a chain: with the bytes that the device may read, or for it to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lent {
    pub(crate) at: u64,
    pub(crate) len: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) readable: Option<Bytes>,
}

/// A chain as the device finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chain {
    /// Its first descriptor in a split ring, its buffer id in a packed one.
    pub(crate) id: u16,
    /// Its descriptors and tables of them, the first one first.
    pub(crate) descriptors: Vec<Piece>,
    pub(crate) buffers: Vec<Lent>,
}

impl Chain {
    /// Bytes for the device to write.
    pub(crate) fn room(&self) -> u32 {
        self.writable().fold(0, |sum, buffer| sum.saturating_add(buffer.len))
    }

    /// The buffers that the device may write.
    pub(crate) fn writable(&self) -> impl Iterator<Item = &Lent> {
        self.buffers.iter().filter(|buffer| buffer.readable.is_none())
    }
}

/// All that happens is put as what the driver does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    /// A load from the registers, and the answer.
    Load { at: u64, bytes: Bytes },
    /// A store to them.
    Store { at: u64, bytes: Bytes },
    /// The driver has made chains available, or changed its own part of the ring otherwise: the bytes
    /// that are new there, counted from its beginning.
    Lend { queue: u32, area: Vec<Piece>, chains: Vec<Chain> },
    /// The driver takes back a chain that the device has finished with. What the device wrote is counted
    /// from the first writable byte of the chain; behind the first `written` bytes, it is what has changed.
    Take { queue: u32, id: u16, written: u32, wrote: Vec<Piece> },
    /// It takes back one that had gone through the ring before anybody could look.
    Missed { queue: u32, id: u16 },
    /// The driver takes the interrupt.
    Interrupt,
    /// The configuration space has changed by the time of the next step.
    Config { bytes: Bytes },
    /// What the test had to say.
    Note { text: String },
}
