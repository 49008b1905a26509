//! The register file as drivers reach it: by trapped accesses, or with reads from a page.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cubie_mmio_bus::{MemoryPage, MmioDevice};
use cubie_virtio_core::{MmioTransport, VirtioDevice};
use virtio_bindings::virtio_mmio::VIRTIO_MMIO_CONFIG;

use crate::session::Journal;

/// Bytes of a page of registers.
pub(crate) const PAGE: usize = 4096;

/// The device's threads change the registers first and the page right after: a page that is behind for
/// longer is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// The register file that a slot shares with its latest transport; empty in the hands of an earlier one,
/// and once the device is unplugged.
#[derive(Clone)]
pub(crate) struct Registers(Arc<Mutex<Option<File>>>);

struct File {
    transport: MmioTransport,
    /// Where reads come from, unless they are trapped.
    page: Option<Arc<MemoryPage>>,
    /// Where a driver's accesses are written down.
    journal: Option<Journal>,
}

impl Registers {
    pub(crate) fn new(
        transport: MmioTransport,
        page: Option<Arc<MemoryPage>>,
        journal: Option<Journal>,
    ) -> Self {
        let file = File { transport, page, journal };
        Self(Arc::new(Mutex::new(Some(file))))
    }

    /// The same registers for another driver: these are empty from now on.
    pub(crate) fn hand_over(&self) -> Self {
        Self(Arc::new(Mutex::new(lock(&self.0).take())))
    }

    /// Stops the device and takes it out, if it is still there.
    pub(crate) fn unplug(&self) -> Option<Box<dyn VirtioDevice>> {
        lock(&self.0).take().map(|file| file.transport.unplug())
    }

    /// Where the accesses of this driver are written down, if they are.
    pub(crate) fn journal(&self) -> Option<Journal> {
        lock(&self.0).as_ref().and_then(|file| file.journal.clone())
    }

    /// The 32-bit register at `offset`, as somebody reads it who is no driver.
    pub(crate) fn look(&self, offset: u64) -> u32 {
        let mut word = [0; 4];
        if let Some(file) = &mut *lock(&self.0) {
            file.read(offset, &mut word);
        }
        u32::from_le_bytes(word)
    }

    /// What `change` does with the transport and its page.
    ///
    /// # Panics
    /// When the device was unplugged.
    pub(crate) fn with<R>(
        &self,
        change: impl FnOnce(&mut MmioTransport, &mut Option<Arc<MemoryPage>>) -> R,
    ) -> R {
        let file = &mut *lock(&self.0);
        let File { transport, page, journal: _ } = file.as_mut().expect("a device in the slot");
        change(transport, page)
    }

    /// The 32-bit register at `offset`.
    pub(crate) fn read(&self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.read_bytes(offset, &mut word);
        u32::from_le_bytes(word)
    }

    /// Writes the 32-bit register at `offset`.
    pub(crate) fn write(&self, offset: u64, value: u32) {
        self.write_bytes(offset, &value.to_le_bytes());
    }

    /// One load of `data.len()` bytes.
    pub(crate) fn read_bytes(&self, offset: u64, data: &mut [u8]) {
        match &mut *lock(&self.0) {
            Some(file) => {
                file.read(offset, data);
                if let Some(journal) = &file.journal {
                    journal.loaded(offset, data);
                }
            }
            None => data.fill(0),
        }
    }

    /// One store of `data.len()` bytes.
    pub(crate) fn write_bytes(&self, offset: u64, data: &[u8]) {
        if let Some(file) = &mut *lock(&self.0) {
            if let Some(journal) = &file.journal {
                journal.stores(offset, data);
            }
            file.transport.write(offset, data);
        }
    }
}

impl File {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let Some(seen) = self.load(offset, data.len()) else {
            return self.transport.read(offset, data);
        };
        self.compare(offset, seen, data);
        data.copy_from_slice(&seen[..data.len()]);
    }

    /// The first `len` bytes of this are what the guest reads in the page. `None` when it traps, or when
    /// the load is none that a driver may do (VIRTIO 1.4 §4.2.2.2).
    fn load(&self, offset: u64, len: usize) -> Option<[u8; 4]> {
        let page = self.page.as_ref().filter(|page| page.is_shown())?;
        let within = offset as usize % 4;
        let proper = within + len <= 4 && (len == 4 || offset >= VIRTIO_MMIO_CONFIG.into());
        if !proper || offset as usize >= PAGE {
            return None;
        }
        let mut word = page.load(offset as usize - within).to_le_bytes();
        word.rotate_left(within);
        Some(word)
    }

    /// Compares what is in the page with what a trapped read answers, into `answer`.
    fn compare(&mut self, offset: u64, mut seen: [u8; 4], answer: &mut [u8]) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.transport.read(offset, answer);
            let seen = &mut seen[..answer.len()];
            if seen == answer {
                return;
            }
            assert!(
                Instant::now() < end,
                "register {offset:#x} reads as {seen:x?} in the page and {answer:x?} when trapped"
            );
            std::thread::yield_now();
            match self.load(offset, answer.len()) {
                Some(now) => seen.copy_from_slice(&now[..seen.len()]),
                None => return,
            }
        }
    }
}

/// A test that panics with a register in hand still drops its driver.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cubie_mmio_bus::RegisterPage;
    use cubie_virtio_core::{Config, DeviceId, Features, QueueState, Queues, StartError};
    use cubie_vm_irq::Interrupt;
    use vm_memory::{GuestAddress, GuestMemoryMmap};

    struct Nothing(Config);
    impl VirtioDevice for Nothing {
        fn id(&self) -> DeviceId {
            DeviceId(42)
        }
        fn features(&self) -> Features {
            Features::default()
        }
        fn queue_sizes(&self) -> &[u16] {
            &[]
        }
        fn config(&self) -> &Config {
            &self.0
        }
        fn start(&mut self, _: Features, _: Queues) -> Result<(), StartError> {
            Ok(())
        }
        fn stop(&mut self) -> Vec<QueueState> {
            vec![]
        }
    }

    fn registers() -> (Registers, Arc<MemoryPage>) {
        let device = Box::new(Nothing(Config::new([1, 2, 3, 4, 5, 6])));
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let page = Arc::new(MemoryPage::new(PAGE));
        let transport = MmioTransport::new(device, Arc::new(memory), Interrupt::silent()).unwrap();
        (Registers::new(transport.with_page(page.clone()), Some(page.clone()), None), page)
    }

    fn byte(registers: &Registers, offset: u64) -> u8 {
        let mut byte = [0];
        registers.read_bytes(offset, &mut byte);
        byte[0]
    }

    #[test]
    fn a_byte_of_a_word_in_the_page_is_the_right_one() {
        let (registers, _) = registers();
        assert_eq!([0x100, 0x101, 0x103, 0x105].map(|at| byte(&registers, at)), [1, 2, 4, 6]);
        assert_eq!(registers.read(0x102), 0x0605_0403, "a load across two words traps");
    }

    #[test]
    #[should_panic(expected = "register 0x8 reads as [2b, 0, 0, 0] in the page and [2a, 0, 0, 0]")]
    fn a_page_that_stays_wrong_ends_the_test() {
        let (registers, page) = registers();
        page.store(8, &[43]);
        registers.read(8);
    }

    #[test]
    fn a_hidden_page_is_not_read() {
        let (registers, page) = registers();
        page.store(8, &[43]);
        page.hide().unwrap();
        assert_eq!(registers.read(8), 42);
    }
}
