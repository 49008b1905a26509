//! The two architectures a guest can have.

use std::fmt;
use std::str::FromStr;

/// What the guest's CPUs run at EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// AArch32: ARMv7-A kernels (a `zImage` or raw `Image`), as on the board.
    Armv7,
    /// AArch64: ARM64 kernels (an `Image`).
    Arm64,
}

impl Arch {
    /// The name that a person gives on a command line: `armv7` or `arm64`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Armv7 => "armv7",
            Self::Arm64 => "arm64",
        }
    }
}

impl FromStr for Arch {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let arch = [Self::Armv7, Self::Arm64].into_iter().find(|arch| arch.name() == name);
        arch.ok_or_else(|| format!("unknown architecture «{name}»: there are armv7 and arm64"))
    }
}

/// The name as prose writes it.
impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Armv7 => "ARMv7",
            Self::Arm64 => "ARM64",
        })
    }
}
