//! Disks.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;

use super::ByteRate;
use crate::blk::{DiskLimits, Serial};
use crate::virtio::RateLimit;

/// A disk: `PATH[,ro][,direct][,wce=off][,queues=N][,serial=NAME][,iops=N[:BURST]][,bw=BYTES[:BURST]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOption {
    /// The image or block device.
    pub path: PathBuf,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Whether it is read and written past the host's page cache.
    pub direct: bool,
    /// Whether a write is answered before it is on stable storage, at first.
    pub writeback: bool,
    /// How many queues it has; one for each CPU of the guest where nothing is said.
    pub queues: Option<usize>,
    /// Its serial number; made from the file's name where none is given.
    pub serial: Option<Serial>,
    /// How much of it the guest gets.
    pub limits: DiskLimits,
}

const KNOWN: &str = "ro, direct, wce=on|off, queues=N, serial=NAME, iops=N or N:BURST, bw=BYTES or \
                     BYTES:BURST, trans=mmio";
/// More queues than this are not given to a disk by itself either.
const MOST_QUEUES: usize = 8;

impl FromStr for DiskOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let path = parts.next().filter(|path| !path.is_empty()).ok_or("a disk needs a PATH")?;
        let mut disk = Self::of(path.into());
        parts.try_for_each(|option| disk.set(option))?;
        Ok(disk)
    }
}

impl DiskOption {
    /// Without options.
    pub fn of(path: PathBuf) -> Self {
        Self {
            path,
            read_only: false,
            direct: false,
            writeback: true,
            queues: None,
            serial: None,
            limits: DiskLimits::default(),
        }
    }

    /// How many queues the disk of a guest with so many CPUs has: one for each, and at most 8, unless it is said.
    pub fn queues(&self, cpus: usize) -> usize {
        self.queues.unwrap_or(cpus.clamp(1, MOST_QUEUES))
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (key, value) = option.split_once('=').map_or((option, None), |(k, v)| (k, Some(v)));
        match (key, value) {
            ("ro", None) => self.read_only = true,
            ("direct", None) => self.direct = true,
            ("trans", Some("mmio")) => {}
            ("wce", Some("on")) => self.writeback = true,
            ("wce", Some("off")) => self.writeback = false,
            ("queues", Some(count)) => {
                let count = count.parse().ok().filter(|count| (1..=MOST_QUEUES).contains(count));
                let wrong = || format!("queues: give 1 to {MOST_QUEUES}");
                self.queues = Some(count.ok_or_else(wrong)?);
            }
            ("serial", Some(name)) => {
                self.serial = Some(name.parse().map_err(|e| format!("serial: {e}"))?);
            }
            ("iops", Some(limit)) => self.limits.operations = Some(rate(key, limit, operations)?),
            ("bw", Some(limit)) => self.limits.bytes = Some(rate(key, limit, bytes)?),
            _ => return Err(format!("unknown disk option «{option}»: there are {KNOWN}")),
        }
        Ok(())
    }
}

/// `RATE[:BURST]`; a second's worth at once where no burst is given.
fn rate(
    key: &str,
    text: &str,
    number: fn(&str) -> Result<NonZeroU64, String>,
) -> Result<RateLimit, String> {
    let (rate, burst) = text.split_once(':').unwrap_or((text, text));
    let number = |text| number(text).map_err(|why| format!("{key}: {why}"));
    Ok(RateLimit { per_second: number(rate)?, burst: number(burst)? })
}

fn operations(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| format!("«{text}»: give operations a second, 1 or more"))
}

fn bytes(text: &str) -> Result<NonZeroU64, String> {
    text.parse::<ByteRate>().map(|rate| rate.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(text: &str) -> DiskOption {
        text.parse().unwrap()
    }

    fn limit(per_second: u64, burst: u64) -> Option<RateLimit> {
        let [per_second, burst] = [per_second, burst].map(|n| NonZeroU64::new(n).unwrap());
        Some(RateLimit { per_second, burst })
    }

    #[test]
    fn a_disk_is_a_path_and_what_is_said_of_it() {
        assert_eq!(disk("a,trans=mmio"), DiskOption::of("a".into()));
        let all = disk("a,ro,direct,wce=off,queues=3,serial=root,iops=100,bw=1M:4M");
        assert!(all.read_only && all.direct && !all.writeback);
        assert_eq!((all.queues, all.serial), (Some(3), Some("root".parse().unwrap())));
        let limits = DiskLimits { operations: limit(100, 100), bytes: limit(1 << 20, 4 << 20) };
        assert_eq!(all.limits, limits);
        assert!(disk("a,wce=off,wce=on").writeback, "the last one counts");
    }

    #[test]
    fn a_disk_has_a_queue_for_each_cpu_up_to_eight_unless_it_is_said() {
        assert_eq!([0, 1, 4, 200].map(|cpus| disk("a").queues(cpus)), [1, 1, 4, 8]);
        assert_eq!(disk("a,queues=2").queues(4), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            (",ro", "PATH"),
            ("a,rw", "«rw»: there are ro, direct"),
            ("a,ro=1", "«ro=1»"),
            ("a,wce=1", "wce=on|off"),
            ("a,queues=0", "queues: give 1 to 8"),
            ("a,queues=9", "queues: give 1 to 8"),
            ("a,serial=two words", "serial: «two words»"),
            ("a,iops=0", "iops: «0»: give operations"),
            ("a,iops=5:", "iops: «»"),
            ("a,bw=1T", "bw: unknown unit «T»"),
            ("a,bw=0", "bw: nothing would ever come"),
        ] {
            let refusal = text.parse::<DiskOption>().unwrap_err();
            assert!(refusal.contains(named), "{refusal}");
        }
    }
}
