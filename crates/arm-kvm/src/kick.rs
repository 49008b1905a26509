//! Getting a vCPU out of the guest, without ever losing the wish.
//!
//! Two things together leave no gap (KVM API, `kvm_run.immediate_exit`). The flag makes a `KVM_RUN`
//! that has not begun return at once; the signal interrupts one that has. The kernel looks at the flag
//! first and at pending signals after, the kicker sets the flag first and signals after.
#![expect(unsafe_code, reason = "a signal to one thread")]

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering, fence};

use cubie_hv::{HvError, Kick};
use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use vm_memory::VolatileMemory;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler, unblock_signal};

use crate::vcpu_page::VcpuPage;

/// Gets one vCPU out of the guest. Clones kick the same vCPU, which may be gone already.
#[derive(Clone, Debug)]
pub struct KvmKick(Arc<Door>);

#[derive(Debug)]
struct Door {
    /// The first page of `kvm_run`.
    run: VcpuPage,
    /// The thread that runs the vCPU, 0 when none does.
    thread: AtomicI32,
}

impl KvmKick {
    pub(crate) fn new(vcpu: &VcpuFd) -> Result<Self, HvError> {
        register_signal_handler(SIGRTMIN(), ignore)
            .map_err(|e| HvError::new("handle the signal that kicks vCPUs", e))?;
        Ok(Self(Arc::new(Door {
            run: VcpuPage::map(vcpu, 0).map_err(|e| HvError::new("map a vCPU's run page", e))?,
            thread: AtomicI32::new(0),
        })))
    }

    /// From now on kicks go to the calling thread. Before every `KVM_RUN`; cheap from the second time on.
    pub(crate) fn enter(&self) {
        thread_local! {
            // SAFETY: gettid has no conditions.
            static THREAD: c_int = unsafe { libc::gettid() };
        }
        let this = THREAD.with(|thread| *thread);
        if self.0.thread.load(Ordering::Relaxed) != this {
            // Fails only for an invalid number.
            let _ = unblock_signal(SIGRTMIN());
            self.0.thread.store(this, Ordering::SeqCst);
            // A kicker that does not see this thread has set the flag before KVM_RUN looks at it.
            fence(Ordering::SeqCst);
        }
    }

    /// Takes the kick back that a `KVM_RUN` has come out for.
    pub(crate) fn take(&self) {
        self.0.immediate_exit().store(0, Ordering::SeqCst);
    }

    /// From now on kicks do nothing: the vCPU goes away.
    pub(crate) fn leave(&self) {
        self.0.thread.store(0, Ordering::SeqCst);
    }
}

impl Door {
    fn immediate_exit(&self) -> &AtomicU8 {
        let flag = offset_of!(kvm_run, immediate_exit);
        self.run.get_atomic_ref(flag).expect("a byte of the page")
    }
}

impl Kick for KvmKick {
    fn kick(&self) {
        self.0.immediate_exit().store(1, Ordering::SeqCst);
        let thread = self.0.thread.load(Ordering::SeqCst);
        if thread != 0 {
            // SAFETY: tgkill takes numbers only, and only threads of this process. One that has ended
            // meanwhile is an error that means «nothing to do»; a new one that got its number finds a
            // handler that does nothing.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGRTMIN()) };
        }
    }
}

/// The handler: its being called is what ends `KVM_RUN`.
extern "C" fn ignore(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}
