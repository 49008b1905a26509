//! A hypervisor that plays a script: for tests of machines on hosts without one.

mod delayed;
mod pages;
mod vcpu;

use std::sync::{Arc, Mutex, PoisonError};

use cubie_mmio_bus::RegisterPage;
use cubie_vm_irq::{Interrupt, Spi};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::{Gic, HvError, Start, Vm};
use delayed::Delayed;
use pages::Pages;

pub use pages::PAGE_SIZE;
pub use vcpu::{ScriptedKick, ScriptedVcpu};

/// One thing that the scripted guest does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads `len` bytes (1 to 8) at `address`; what it got is in [`ScriptedVm::seen`]. Where a read-only
    /// page is shown, that answers and no exit happens.
    Read {
        /// Guest-physical address.
        address: u64,
        /// Bytes.
        len: usize,
    },
    /// Writes `data` at `address`. Where an eventfd waits for it, that is raised and no exit happens; where
    /// writes are coalesced, it comes out with the next exit.
    Write {
        /// Guest-physical address.
        address: u64,
        /// Bytes.
        data: Vec<u8>,
    },
    /// Turns the machine off.
    Off,
    /// Asks for a restart.
    Reset,
    /// Crashes.
    Crash,
    /// Waits until it is kicked.
    Sleep,
}

impl Step {
    /// A [`Step::Write`].
    pub fn write(address: u64, data: &[u8]) -> Self {
        Self::Write { address, data: data.to_vec() }
    }
}

#[derive(Default)]
struct World {
    seen: Vec<Vec<u8>>,
    exits: usize,
    offloads: Vec<(u64, Option<u32>, EventFd)>,
    lines: Vec<(Spi, EventFd)>,
    pages: Pages,
}

/// The VM: its first vCPU plays the script, the others sleep.
#[derive(Default)]
pub struct ScriptedVm {
    script: Option<Vec<Step>>,
    world: Arc<Mutex<World>>,
    delayed: Arc<Delayed>,
    without_readonly_pages: bool,
    without_coalescing: bool,
}

impl ScriptedVm {
    /// A VM whose vCPU 0 does `script` and then sleeps.
    pub fn new(script: Vec<Step>) -> Self {
        Self { script: Some(script), ..Self::default() }
    }

    /// The same as a hypervisor that has no read-only pages.
    #[must_use]
    pub fn without_readonly_pages(self) -> Self {
        Self { without_readonly_pages: true, ..self }
    }

    /// The same as a hypervisor that coalesces no writes.
    #[must_use]
    pub fn without_coalescing(self) -> Self {
        Self { without_coalescing: true, ..self }
    }

    /// What each [`Step::Read`] so far has got, in order.
    pub fn seen(&self) -> impl Fn() -> Vec<Vec<u8>> + use<> {
        let world = Arc::clone(&self.world);
        move || lock(&world).seen.clone()
    }

    /// How many exits there were so far, of all vCPUs.
    pub fn exits(&self) -> impl Fn() -> usize + use<> {
        let world = Arc::clone(&self.world);
        move || lock(&world).exits
    }

    /// The eventfd behind a wired SPI, to count its interrupts.
    pub fn line(&self, spi: Spi) -> Option<EventFd> {
        let world = lock(&self.world);
        world.lines.iter().find(|(s, _)| *s == spi).and_then(|(_, fd)| fd.try_clone().ok())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clone(fd: &EventFd) -> Result<EventFd, HvError> {
    fd.try_clone().map_err(|e| HvError::new("copy an eventfd", e))
}

impl Vm for ScriptedVm {
    type Vcpu = ScriptedVcpu;

    fn ipa_bits(&self) -> u32 {
        40
    }

    fn map_memory(&mut self, _memory: &GuestMemoryMmap) -> Result<(), HvError> {
        Ok(())
    }

    fn create_vcpu(&mut self, index: u8, _start: Start) -> Result<ScriptedVcpu, HvError> {
        let script = if index == 0 { self.script.take().unwrap_or_default() } else { vec![] };
        Ok(ScriptedVcpu::new(script, Arc::clone(&self.world), Arc::clone(&self.delayed)))
    }

    fn start_interrupts(&mut self) -> Result<(), HvError> {
        Ok(())
    }

    fn gic(&self) -> Gic {
        Gic::V2 { distributor: 0x01c8_1000, cpu_interface: 0x01c8_2000 }
    }

    fn wire_spi(&self, spi: Spi) -> Result<Interrupt, HvError> {
        let line = EventFd::new(EFD_NONBLOCK).map_err(|e| HvError::new("make an eventfd", e))?;
        lock(&self.world).lines.push((spi, clone(&line)?));
        Ok(Interrupt::new(line))
    }

    fn offload_write(&self, at: u64, value: Option<u32>, fd: &EventFd) -> Result<(), HvError> {
        lock(&self.world).offloads.push((at, value, clone(fd)?));
        Ok(())
    }

    fn coalesce_writes(&self, address: u64, len: u64) -> Result<(), HvError> {
        let what = format!("coalesce writes to {len} bytes at {address:#x}");
        if self.without_coalescing {
            return Err(HvError::unsupported(what));
        }
        self.delayed.cover(address, len).map_err(|kind| HvError::new(what, kind))
    }

    fn map_readonly_page(&self, address: u64) -> Result<Arc<dyn RegisterPage>, HvError> {
        let what = format!("map a read-only page at {address:#x}");
        if self.without_readonly_pages {
            return Err(HvError::unsupported(what));
        }
        let page = lock(&self.world).pages.map(address).map_err(|kind| HvError::new(what, kind))?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Exit, Kick, Vcpu};
    use std::time::{Duration, Instant};

    fn vcpu(script: Vec<Step>) -> (ScriptedVm, ScriptedVcpu) {
        let mut vm = ScriptedVm::new(script);
        let vcpu = vm.create_vcpu(0, Start::Off).unwrap();
        (vm, vcpu)
    }

    /// Runs where no writes are coalesced.
    fn run(vcpu: &mut ScriptedVcpu) -> Exit<'_> {
        vcpu.run(&mut |address, _| panic!("a late store to {address:#x}")).unwrap()
    }

    fn load(address: u64, len: usize) -> Step {
        Step::Read { address, len }
    }

    #[test]
    fn what_the_reader_got_is_kept() {
        let (vm, mut vcpu) = vcpu(vec![load(8, 2), Step::Off]);
        let seen = vm.seen();
        let Exit::Read { data, .. } = run(&mut vcpu) else { panic!("a read comes first") };
        data.copy_from_slice(&[1, 2]);
        assert_eq!(run(&mut vcpu), Exit::Off);
        assert_eq!(seen(), [vec![1, 2]]);
    }

    #[test]
    fn an_offloaded_write_raises_its_eventfd_and_does_not_exit() {
        let (vm, mut vcpu) = vcpu(vec![Step::write(16, &7u32.to_le_bytes()), Step::Off]);
        let fd = EventFd::new(0).unwrap();
        vm.offload_write(16, Some(7), &fd).unwrap();
        assert_eq!(run(&mut vcpu), Exit::Off);
        assert_eq!(fd.read().unwrap(), 1);
    }

    #[test]
    fn a_kick_before_the_run_is_not_lost() {
        let (_vm, mut vcpu) = vcpu(vec![]);
        vcpu.kick().kick();
        assert_eq!(run(&mut vcpu), Exit::Kicked);
    }

    #[test]
    fn loads_from_a_page_do_not_exit_and_stores_do() {
        let script = vec![load(0x1006, 4), Step::write(0x1000, &[1]), load(0x1ffc, 8), Step::Off];
        let (vm, mut vcpu) = vcpu(script);
        let page = vm.map_readonly_page(0x1000).unwrap();
        page.store(4, &[0x0403_0201, 0x0807_0605]);
        assert_eq!(run(&mut vcpu), Exit::Write { address: 0x1000, data: &[1] });
        assert_eq!(vm.seen()(), [[3, 4, 5, 6]]);
        let beyond = run(&mut vcpu);
        assert!(matches!(beyond, Exit::Read { address: 0x1ffc, .. }), "it leaves the page");
    }

    #[test]
    fn loads_exit_while_the_page_is_hidden_and_after_it_is_dropped() {
        let load = load(0x1000, 4);
        let stored = Step::write(0x2000, &[1]);
        let (vm, mut vcpu) = vcpu(vec![load.clone(), load.clone(), stored, load]);
        let page = vm.map_readonly_page(0x1000).unwrap();
        page.hide().unwrap();
        assert!(matches!(run(&mut vcpu), Exit::Read { .. }));
        page.show().unwrap();
        assert!(matches!(run(&mut vcpu), Exit::Write { .. }));
        drop(page);
        assert!(matches!(run(&mut vcpu), Exit::Read { .. }));
    }

    #[test]
    fn a_hypervisor_without_pages_says_so() {
        let vm = ScriptedVm::new(vec![]).without_readonly_pages();
        let error = vm.map_readonly_page(0x1000).err().unwrap();
        assert!(error.is_unsupported(), "{error}");
        assert_eq!(error.to_string(), "map a read-only page at 0x1000: unsupported");
    }

    fn coalescing(script: Vec<Step>) -> (ScriptedVm, ScriptedVcpu) {
        let (vm, vcpu) = vcpu(script);
        vm.coalesce_writes(0x1080, 8).unwrap();
        (vm, vcpu)
    }

    #[test]
    fn coalesced_writes_come_out_in_order_before_the_next_exit() {
        let write = |at: u64| Step::write(at, &[at as u8]);
        let script = [0x1084, 0x1080, 0x1084, 0x1070].map(write);
        let (vm, mut vcpu) = coalescing(script.into());
        let mut late = vec![];
        let exit = vcpu.run(&mut |at, data| late.push((at, data.to_vec()))).unwrap();
        assert_eq!(exit, Exit::Write { address: 0x1070, data: &[0x70] });
        assert_eq!(late, [0x1084, 0x1080, 0x1084].map(|at: u64| (at, vec![at as u8])));
        assert_eq!(vm.exits()(), 1);
    }

    #[test]
    fn coalesced_writes_come_out_with_another_vcpus_exit_too() {
        let (mut vm, mut vcpu) = coalescing(vec![Step::write(0x1080, &[1]), Step::Sleep]);
        let mut other = vm.create_vcpu(1, Start::Off).unwrap();
        let (kick, end) = (vcpu.kick(), Instant::now() + Duration::from_secs(20));
        std::thread::scope(|scope| {
            scope.spawn(move || assert_eq!(run(&mut vcpu), Exit::Kicked));
            let mut late = 0;
            while late == 0 && Instant::now() < end {
                other.kick().kick();
                assert_eq!(other.run(&mut |_, _| late += 1).unwrap(), Exit::Kicked);
            }
            kick.kick();
            assert_eq!(late, 1);
        });
    }

    #[test]
    fn a_hypervisor_that_coalesces_nothing_says_so() {
        let vm = ScriptedVm::new(vec![]).without_coalescing();
        let error = vm.coalesce_writes(0x1080, 8).unwrap_err();
        assert!(error.is_unsupported(), "{error}");
    }
}
