//! What kind of machine a lab is, and QEMU's command line for it.

use anyhow::{Context, Result, bail};
use std::env;
use std::ffi::OsString;
use std::path::Path;

/// Version of the interrupt controller, of the lab and so of the guests that KVM can run in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Gic {
    /// GICv2; guests get a vGICv2.
    #[default]
    V2,
    /// GICv3 with ITS; guests get a vGICv3 only, since QEMU's has no GICV.
    V3,
}

impl Gic {
    /// 2 or 3.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Gic::V2 => 2,
            Gic::V3 => 3,
        }
    }
}

impl std::str::FromStr for Gic {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Gic> {
        match text {
            "2" => Ok(Gic::V2),
            "3" => Ok(Gic::V3),
            _ => bail!("GIC version «{text}»: this must be 2 or 3"),
        }
    }
}

/// The lab's hardware. Each different machine is a lab of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Interrupt controller.
    pub gic: Gic,
    /// QEMU's name of the CPU model. The models cortex-a53 and cortex-a57 can run 32-bit guests.
    pub cpu: String,
    /// Number of CPUs; with `icount` it is always 1.
    pub cpus: u8,
    /// Memory in MiB.
    pub memory: u32,
    /// Count instructions instead of time: one nanosecond each, whatever else the outer machine does.
    pub icount: bool,
}

impl Default for Machine {
    fn default() -> Machine {
        let cpu = String::from("cortex-a57");
        Machine { gic: Gic::default(), cpu, cpus: 2, memory: 3072, icount: false }
    }
}

impl Machine {
    /// The default machine as changed by `ARMLAB_GIC`, `ARMLAB_CPU`, `ARMLAB_CPUS`, `ARMLAB_MEM` (MiB) and
    /// `ARMLAB_ICOUNT` (1).
    ///
    /// # Errors
    /// When one of them has no valid value.
    pub fn from_env() -> Result<Machine> {
        let machine = Machine::default();
        Ok(Machine {
            gic: variable("ARMLAB_GIC")?.unwrap_or(machine.gic),
            cpu: variable("ARMLAB_CPU")?.unwrap_or(machine.cpu),
            cpus: variable("ARMLAB_CPUS")?.unwrap_or(machine.cpus),
            memory: variable("ARMLAB_MEM")?.unwrap_or(machine.memory),
            icount: variable::<u8>("ARMLAB_ICOUNT")?.is_some_and(|flag| flag != 0),
        })
    }

    /// A name for people and for a folder, without what is as usual: `gic2`, `gic3-icount`.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = format!("gic{}", self.gic.number());
        let usual = Machine::default();
        if self.cpu != usual.cpu {
            name += &format!("-{}", self.cpu);
        }
        if self.cpus != usual.cpus && !self.icount {
            name += &format!("-{}cpus", self.cpus);
        }
        if self.memory != usual.memory {
            name += &format!("-{}M", self.memory);
        }
        if self.icount {
            name += "-icount";
        }
        name
    }

    /// The arguments of `qemu-system-aarch64`. The serial console is standard output; `port` on the outer
    /// machine's loopback leads to the agent.
    pub(crate) fn qemu_arguments(&self, kernel: &Path, initrd: &Path, port: u16) -> Vec<OsString> {
        let machine = format!("virt,virtualization=on,gic-version={}", self.gic.number());
        let cpus = if self.icount { 1 } else { self.cpus }.to_string();
        let memory = self.memory.to_string();
        let agent = crate::wire::PORT;
        let network = format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:{agent}");
        let mut arguments: Vec<OsString> = [
            ["-machine", &machine],
            ["-cpu", &self.cpu],
            ["-smp", &cpus],
            ["-m", &memory],
            ["-append", KERNEL_PARAMETERS],
            // Inodes of several file systems below / are kept apart by QEMU (multidevs).
            ["-fsdev", "local,id=root,path=/,security_model=none,multidevs=remap"],
            ["-device", "virtio-9p-device,fsdev=root,mount_tag=root"],
            ["-netdev", &network],
            ["-device", "virtio-net-device,netdev=net"],
            ["-device", "virtio-rng-device"],
            ["-global", "virtio-mmio.force-legacy=false"],
            ["-serial", "stdio"],
            ["-display", "none"],
        ]
        .iter()
        .flatten()
        .map(OsString::from)
        .collect();
        arguments.extend([OsString::from("-nodefaults"), OsString::from("-no-reboot")]);
        if self.icount {
            arguments.extend(["-icount", "shift=0,sleep=off"].map(OsString::from));
        }
        for (option, file) in [("-kernel", kernel), ("-initrd", initrd)] {
            arguments.extend([OsString::from(option), file.into()]);
        }
        arguments
    }
}

/// A panic ends the machine (`-no-reboot`), so that whoever waits for it hears of it at once.
const KERNEL_PARAMETERS: &str = "console=ttyAMA0 loglevel=4 panic=-1 apparmor=0 audit=0";

/// The value of an environment variable; unset and empty are the same.
pub(crate) fn variable<T: std::str::FromStr>(name: &str) -> Result<Option<T>>
where
    T::Err: Into<anyhow::Error>,
{
    let Some(text) = env::var_os(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let text = text.to_str().with_context(|| format!("{name} is not UTF-8"))?;
    let value = text.parse().map_err(Into::into);
    value.map(Some).with_context(|| format!("the environment variable {name}={text}"))
}
