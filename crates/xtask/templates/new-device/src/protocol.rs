//! Bytes ↔ values. No I/O: what is here is tested alone.

use cubie_virtio_core::DeviceId;

/// Experiments count down from 65535; OASIS gives out numbers that stay (VIRTIO 1.4 §B.3).
pub(crate) const ID: DeviceId = DeviceId(65535);

/// Index of the only queue.
pub(crate) const REQUESTS: u16 = 0;

/// Configuration space. All fields are little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// The largest amount that one request may add.
    pub(crate) limit: u32,
}

impl Configuration {
    pub(crate) fn to_bytes(self) -> [u8; 4] {
        self.limit.to_le_bytes()
    }
}

/// What the driver asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// How much to add to the total.
    pub(crate) amount: u32,
}

impl Request {
    pub(crate) fn from_bytes(amount: [u8; 4]) -> Self {
        Self { amount: u32::from_le_bytes(amount) }
    }
}

/// What the device answers: a status, and the total if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Added; this is the total.
    Total(u64),
    /// The host failed: nothing was added.
    HostError,
    /// The request makes no sense: nothing was added.
    Refused,
}

impl Answer {
    /// Bytes of an answer.
    pub(crate) const LEN: usize = 12;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let (status, total) = match self {
            Self::Total(total) => (0u32, total),
            Self::HostError => (1, 0),
            Self::Refused => (2, 0),
        };
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&status.to_le_bytes());
        bytes[4..].copy_from_slice(&total.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_little_endian() {
        assert_eq!(Configuration { limit: 0x0102 }.to_bytes(), [2, 1, 0, 0]);
        assert_eq!(Request::from_bytes([2, 1, 0, 0]), Request { amount: 0x0102 });
        let total = Answer::Total(0x0304).to_bytes();
        assert_eq!(total, [0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn each_way_to_end_has_its_status() {
        let status = |answer: Answer| answer.to_bytes()[0];
        let all = [Answer::Total(7), Answer::HostError, Answer::Refused];
        assert_eq!(all.map(status), [0, 1, 2]);
    }
}
