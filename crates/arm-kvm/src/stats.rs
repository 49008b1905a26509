//! KVM's binary statistics of a vCPU (KVM API 4.133).
#![expect(unsafe_code, reason = "kvm-ioctls has no call for KVM_GET_STATS_FD")]

use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cubie_hv::{ExitCounter, Exits, HvError};
use kvm_bindings::KVMIO;
use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl;
use vmm_sys_util::ioctl_io_nr;

ioctl_io_nr!(KVM_GET_STATS_FD, KVMIO, 0xce);

/// Bytes of `struct kvm_stats_header`, and of `struct kvm_stats_desc` before its name.
const HEADER: usize = 24;
const DESC: usize = 16;
/// More statistics, and longer names, than any kernel has.
const MOST: u32 = 1024;

/// What is looked for, by the names that KVM gives on ARM (Linux, arch/arm64/kvm/guest.c). The last two are
/// one figure here.
const NAMES: [&str; 5] =
    ["exits", "mmio_exit_user", "mmio_exit_kernel", "wfi_exit_stat", "wfe_exit_stat"];

/// A vCPU's statistics, as long as it is there, and then those of its end.
#[derive(Debug)]
pub(crate) struct VcpuStats(Mutex<State>);

#[derive(Debug)]
enum State {
    Open(File),
    Closed(Exits),
}

impl VcpuStats {
    pub(crate) fn open(vcpu: &VcpuFd) -> Result<Self, HvError> {
        // SAFETY: the call takes no argument.
        let fd = unsafe { ioctl(vcpu, KVM_GET_STATS_FD()) };
        if fd < 0 {
            let (what, error) = ("count a vCPU's exits", io::Error::last_os_error());
            return Err(match error.raw_os_error() {
                // Linux 5.13 and earlier.
                Some(libc::EINVAL | libc::ENOTTY) => HvError::unsupported(what),
                _ => HvError::new(what, error),
            });
        }
        // SAFETY: the call has returned a new file, which nobody else knows of.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(Self(Mutex::new(State::Open(file))))
    }

    /// The vCPU is about to go: its file must not be there longer, since Linux 6.4 and earlier free the machine
    /// under it.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        if let State::Open(file) = &*state {
            *state = State::Closed(read(file).unwrap_or_default());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ExitCounter for VcpuStats {
    fn exits(&self) -> Result<Exits, HvError> {
        match &*self.lock() {
            State::Open(file) => {
                read(file).map_err(|error| HvError::new("read a vCPU's exits", error))
            }
            State::Closed(exits) => Ok(*exits),
        }
    }
}

/// Looks all of them up each time: they are asked for seldom, and most machines end without.
fn read(file: &File) -> io::Result<Exits> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let word = |bytes: &[u8], at: usize| {
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let [name_size, count, descs, data] = [4, 8, 16, 20].map(|at| word(&header, at));
    if name_size > MOST || count > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut values = [0; NAMES.len()];
    let mut desc = vec![0; DESC + name_size as usize];
    for nth in 0..u64::from(count) {
        let at = u64::from(descs) + nth * desc.len() as u64;
        file.read_exact_at(&mut desc, at)?;
        let name = desc[DESC..].split(|byte| *byte == 0).next().unwrap_or_default();
        if let Some(wanted) = NAMES.iter().position(|wanted| wanted.as_bytes() == name) {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, u64::from(data) + u64::from(word(&desc, 8)))?;
            values[wanted] = u64::from_ne_bytes(bytes);
        }
    }
    let [all, user_mmio, kernel_mmio, wfi, wfe] = values;
    Ok(Exits { all, user_mmio, kernel_mmio, idle: wfi + wfe })
}
