//! Options in the manner of LKVM, as values: for command lines that its users know.
//!
//! LKVM's `trans=mmio` is accepted and means nothing, since there is no other transport.
//!
//! ```
//! use cubie::lkvm::{ByteRate, DiskOption, MemorySize, NetworkMode, NetworkOption};
//!
//! let disk: DiskOption = "tools.iso,ro".parse()?;
//! assert!(disk.read_only);
//! let network: NetworkOption = "mode=tap,tapif=tap0,trans=mmio".parse()?;
//! let NetworkMode::Tap(tap) = network.mode else { panic!("no tap") };
//! assert_eq!(tap.name.as_deref(), Some("tap0"));
//! assert_eq!("2G".parse(), Ok(MemorySize(2 << 30)));
//! assert_eq!("64K".parse::<ByteRate>()?.0.get(), 64 << 10);
//! # Ok::<(), String>(())
//! ```

mod disk;
mod network;
mod vhost_user;

use std::num::NonZeroU64;
use std::str::FromStr;

pub use disk::DiskOption;
pub use network::{CaptureOption, NetworkMode, NetworkOption, SocketOption, TapOption};
pub use vhost_user::VhostUserOption;

/// A size of memory in bytes, written in MiB or with a unit: `512`, `512M`, `2G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySize(pub u64);

impl FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, unit) = with_unit(text);
        let shift = match unit {
            "" | "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            unit => return Err(format!("unknown unit «{unit}»: give MiB, or 512M, or 2G")),
        };
        let number: u64 = digits.parse().map_err(|_| "give a number of MiB, such as 512")?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| "too large".into())
    }
}

/// A rate in bytes a second, written so or with a unit: `1000`, `64K`, `1M`. LKVM has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRate(pub NonZeroU64);

impl FromStr for ByteRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, unit) = with_unit(text);
        let shift = match unit {
            "" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            unit => return Err(format!("unknown unit «{unit}»: give bytes, or 64K, or 1M")),
        };
        let number: u64 = digits.parse().map_err(|_| "give bytes a second, such as 64K")?;
        let bytes = number.checked_mul(1 << shift).ok_or("too large")?;
        let none = "nothing would ever come: give 1 or more";
        NonZeroU64::new(bytes).map(Self).ok_or_else(|| none.into())
    }
}

/// A number's digits, and what is behind them.
fn with_unit(text: &str) -> (&str, &str) {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    text.split_at(digits.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let memory = |text: &str| text.parse::<MemorySize>().unwrap_err();
        let rate = |text: &str| text.parse::<ByteRate>().unwrap_err();
        assert!(memory("5T").contains("«T»"));
        assert!(memory("G").contains("number"));
        assert!(memory("99999999999999G").contains("large"));
        assert!(rate("1G").contains("«G»"));
        assert!(rate("0").contains("1 or more"));
        assert!(rate("K").contains("bytes a second"));
        assert!(rate("18446744073709551615K").contains("large"));
    }
}
