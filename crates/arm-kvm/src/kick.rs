//! Getting a vCPU out of the guest, without ever losing the wish.
//!
//! Two things together leave no gap (KVM API, `kvm_run.immediate_exit`). The flag makes a `KVM_RUN`
//! that has not begun return at once; the signal interrupts one that has. The kernel looks at the flag
//! first and at pending signals after, the kicker sets the flag first and signals after.
#![expect(unsafe_code, reason = "a flag shared with the kernel, and a signal to one thread")]

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering, fence};
use std::{io, ptr};

use cubie_hv::{HvError, Kick};
use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler, unblock_signal};

/// Gets one vCPU out of the guest. Clones kick the same vCPU, which may be gone already.
#[derive(Clone, Debug)]
pub struct KvmKick(Arc<Door>);

#[derive(Debug)]
struct Door {
    run: RunPage,
    /// The thread that runs the vCPU, 0 when none does.
    thread: AtomicI32,
}

impl KvmKick {
    pub(crate) fn new(vcpu: &VcpuFd) -> Result<Self, HvError> {
        register_signal_handler(SIGRTMIN(), ignore)
            .map_err(|e| HvError::new("handle the signal that kicks vCPUs", e))?;
        Ok(Self(Arc::new(Door {
            run: RunPage::map(vcpu).map_err(|e| HvError::new("map a vCPU's run page", e))?,
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
        self.0.run.immediate_exit().store(0, Ordering::SeqCst);
    }

    /// From now on kicks do nothing: the vCPU goes away.
    pub(crate) fn leave(&self) {
        self.0.thread.store(0, Ordering::SeqCst);
    }
}

impl Kick for KvmKick {
    fn kick(&self) {
        self.0.run.immediate_exit().store(1, Ordering::SeqCst);
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

/// The first page of a vCPU's `kvm_run`, mapped once more: a kick may outlive the vCPU.
#[derive(Debug)]
struct RunPage(NonNull<c_void>);

// SAFETY: only the atomic in the page is ever touched, and the mapping has one owner.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

const RUN_PAGE: usize = 4096;

impl RunPage {
    fn map(vcpu: &VcpuFd) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = vcpu.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page =
            unsafe { libc::mmap(ptr::null_mut(), RUN_PAGE, access, libc::MAP_SHARED, fd, 0) };
        match NonNull::new(page) {
            Some(page) if page.as_ptr() != libc::MAP_FAILED => Ok(Self(page)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the page is mapped as long as `self`, the flag is a byte inside it, and through this
        // mapping nobody accesses it other than atomically.
        unsafe {
            let flag = self.0.byte_add(offset_of!(kvm_run, immediate_exit));
            AtomicU8::from_ptr(flag.cast().as_ptr())
        }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: `map` made this mapping, and no reference into it can be left.
        unsafe { libc::munmap(self.0.as_ptr(), RUN_PAGE) };
    }
}
