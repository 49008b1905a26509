//! Options in the manner of LKVM, as values: for command lines that its users know.
//!
//! LKVM's `trans=mmio` is accepted and means nothing, since there is no other transport.
//!
//! ```
//! use cubie::lkvm::{ByteRate, DiskOption, MemorySize, NetworkOption};
//!
//! let disk: DiskOption = "tools.iso,ro".parse()?;
//! assert!(disk.read_only);
//! let network: NetworkOption = "mode=tap,tapif=tap0,trans=mmio".parse()?;
//! let name = Some("tap0".to_owned());
//! assert_eq!(network, NetworkOption::Tap { name, mac: None, pairs: 1, vhost: false });
//! assert_eq!("2G".parse(), Ok(MemorySize(2 << 30)));
//! assert_eq!("64K".parse::<ByteRate>()?.0.get(), 64 << 10);
//! # Ok::<(), String>(())
//! ```

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;

use crate::net::Mac;

/// A disk: `PATH[,ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOption {
    /// The image or block device.
    pub path: PathBuf,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

impl FromStr for DiskOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let path = parts.next().filter(|path| !path.is_empty()).ok_or("a disk needs a PATH")?;
        let mut disk = Self { path: path.into(), read_only: false };
        for option in parts {
            match option {
                "ro" => disk.read_only = true,
                "trans=mmio" => {}
                _ => return Err(format!("unknown disk option «{option}»: there is `ro`")),
            }
        }
        Ok(disk)
    }
}

/// A network: `mode=tap[,tapif=NAME][,guest_mac=MAC][,mq=PAIRS][,vhost=0|1]`, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkOption {
    /// No network card.
    None,
    /// A card on a tap.
    Tap {
        /// The host's interface; one is made where none is named.
        name: Option<String>,
        /// The guest's address; one is made where none is given.
        mac: Option<Mac>,
        /// Pairs of queues, each with a thread: 1 to 256.
        pairs: usize,
        /// The kernel serves the queues (vhost-net).
        vhost: bool,
    },
}

impl FromStr for NetworkOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let (mut mode, mut name, mut mac, mut mq, mut vhost) = (None, None, None, None, None);
        for option in text.split(',') {
            match option.split_once('=') {
                Some(("mode", value)) => mode = Some(value),
                Some(("tapif", value)) => name = Some(value.to_owned()),
                Some(("guest_mac", value)) => {
                    mac = Some(value.parse().map_err(|e| format!("guest_mac: {e}"))?);
                }
                Some(("mq", value)) => {
                    let pairs = value.parse().ok().filter(|pairs| (1..=256).contains(pairs));
                    mq = Some(pairs.ok_or("mq: give 1 to 256 pairs of queues")?);
                }
                Some(("vhost", "1")) => vhost = Some(true),
                Some(("vhost", "0")) => vhost = Some(false),
                Some(("trans", "mmio")) => {}
                _ => {
                    let known =
                        "mode=tap, tapif=NAME, guest_mac=MAC, mq=PAIRS, vhost=0|1, trans=mmio";
                    return Err(format!("unknown network option «{option}»: there are {known}"));
                }
            }
        }
        match mode {
            Some("tap") => {
                let (pairs, vhost) = (mq.unwrap_or(1), vhost.unwrap_or(false));
                Ok(Self::Tap { name, mac, pairs, vhost })
            }
            Some("none")
                if name.is_some() || mac.is_some() || mq.or(vhost.map(|_| 1)).is_some() =>
            {
                let what = "tapif, guest_mac, mq and vhost";
                Err(format!("mode=none has no card: leave out {what}, or give mode=tap"))
            }
            Some("none") => Ok(Self::None),
            Some(other) => Err(format!("unknown mode «{other}»: there are tap and none")),
            None => Err("a network needs mode=tap, or is `none`".into()),
        }
    }
}

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
        let disk = |text: &str| text.parse::<DiskOption>().unwrap_err();
        let network = |text: &str| text.parse::<NetworkOption>().unwrap_err();
        let memory = |text: &str| text.parse::<MemorySize>().unwrap_err();
        let rate = |text: &str| text.parse::<ByteRate>().unwrap_err();
        assert!(disk(",ro").contains("PATH"));
        assert!(disk("a,rw").contains("«rw»"));
        assert!(network("mode=user").contains("«user»"));
        assert!(network("tapif=x").contains("mode=tap"));
        assert!(network("mode=tap,guest_mac=1").contains("guest_mac"));
        assert!(network("mode=none,tapif=x").contains("leave out tapif"));
        assert!(network("guest_mac=02:00:5e:10:00:01,mode=none").contains("guest_mac"));
        assert!(network("mode=none,mq=2").contains("mq"));
        assert!(network("mode=none,vhost=1").contains("vhost"));
        assert!(network("mode=tap,vhost=on").contains("«vhost=on»: there are mode=tap"));
        for mq in ["0", "257", "-1", ""] {
            assert!(network(&format!("mode=tap,mq={mq}")).contains("1 to 256"));
        }
        assert!(network("mode=tap,mtu=9000").contains("«mtu=9000»"));
        assert!(memory("5T").contains("«T»"));
        assert!(memory("G").contains("number"));
        assert!(memory("99999999999999G").contains("large"));
        assert!(rate("1G").contains("«G»"));
        assert!(rate("0").contains("1 or more"));
        assert!(rate("K").contains("bytes a second"));
        assert!(rate("18446744073709551615K").contains("large"));
    }
}
