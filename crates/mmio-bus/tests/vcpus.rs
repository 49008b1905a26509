//! What vCPU threads may rely on while devices are slow, come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cubie_mmio_bus::{Bus, MmioDevice};

const DEADLINE: Duration = Duration::from_secs(30);

/// Answers zeros at once.
struct Quick;

impl MmioDevice for Quick {
    fn read(&mut self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }
    fn write(&mut self, _: u64, _: &[u8]) {}
}

fn quick() -> Arc<Mutex<Quick>> {
    Arc::new(Mutex::new(Quick))
}

/// A store says that it has begun, and ends when it is told to.
struct Slow {
    begun: Sender<()>,
    end: Receiver<()>,
    ended: bool,
}

impl MmioDevice for Slow {
    fn read(&mut self, _: u64, _: &mut [u8]) {}
    fn write(&mut self, _: u64, _: &[u8]) {
        self.begun.send(()).unwrap();
        self.end.recv_timeout(DEADLINE).expect("the others go on while this one waits");
        self.ended = true;
    }
}

/// A slow device, what it says, and how it is told.
fn slow() -> (Arc<Mutex<Slow>>, Receiver<()>, Sender<()>) {
    let ((begun, begins), (ends, end)) = (channel(), channel());
    (Arc::new(Mutex::new(Slow { begun, end, ended: false })), begins, ends)
}

#[test]
fn a_slow_device_holds_up_neither_other_devices_nor_their_coming_and_going() {
    let bus = Bus::new();
    let (device, begins, ends) = slow();
    bus.insert(0x1000, 0x100, device).unwrap();
    bus.insert(0x2000, 0x100, quick()).unwrap();
    thread::scope(|scope| {
        let access = scope.spawn(|| bus.write(0x1000, &[0]));
        begins.recv_timeout(DEADLINE).unwrap();
        assert!(bus.read(0x2000, &mut [0; 4]));
        bus.insert(0, 0x100, quick()).unwrap();
        assert!(bus.write(0, &[0]));
        assert!(bus.remove(0x2000).is_some());
        assert!(!bus.read(0x2000, &mut [0; 4]));
        ends.send(()).unwrap();
        assert!(access.join().unwrap());
    });
}

#[test]
fn a_device_is_removed_after_the_access_that_has_begun() {
    let bus = Bus::new();
    let (device, begins, ends) = slow();
    bus.insert(0x1000, 0x100, Arc::clone(&device) as _).unwrap();
    let (removing, removes) = channel();
    thread::scope(|scope| {
        scope.spawn(|| bus.write(0x1000, &[0]));
        begins.recv_timeout(DEADLINE).unwrap();
        let bus = &bus;
        scope.spawn(move || {
            removing.send("begins").unwrap();
            assert!(bus.remove(0x1000).is_some());
            removing.send("is done").unwrap();
        });
        assert_eq!(removes.recv_timeout(DEADLINE), Ok("begins"));
        let early = removes.recv_timeout(Duration::from_millis(50));
        assert_eq!(early, Err(RecvTimeoutError::Timeout), "the device is in an access");
        ends.send(()).unwrap();
        assert_eq!(removes.recv_timeout(DEADLINE), Ok("is done"));
        let device = Arc::into_inner(device).expect("the bus has let go");
        assert!(device.into_inner().unwrap().ended);
    });
}

/// Lives at one base for a while, says when it is met, and is not to be met elsewhere or later.
struct Visitor {
    base: u64,
    met: Sender<()>,
    left: Arc<AtomicBool>,
}

impl MmioDevice for Visitor {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        // Nobody listens any more once it has been met.
        let _ = self.met.send(());
        assert!(!self.left.load(Ordering::SeqCst), "met after it has left");
        data.copy_from_slice(&(self.base + offset).to_le_bytes());
    }
    fn write(&mut self, _: u64, _: &[u8]) {}
}

/// A device comes to `base`, is met by some vCPU, and leaves.
fn visit(bus: &Bus, base: u64) {
    let (left, (met, meets)) = (Arc::new(AtomicBool::new(false)), channel());
    let visitor = Visitor { base, met, left: Arc::clone(&left) };
    bus.insert(base, 0x100, Arc::new(Mutex::new(visitor))).unwrap();
    meets.recv_timeout(DEADLINE).expect("vCPUs look everywhere");
    let mut visitor = bus.remove(base).unwrap();
    left.store(true, Ordering::SeqCst);
    assert!(Arc::get_mut(&mut visitor).is_some(), "the bus has let go");
}

#[test]
fn devices_that_come_and_go_are_met_at_their_own_addresses_or_not_at_all() {
    const ROUNDS: usize = 2_000;
    const BASES: [u64; 3] = [0x1000, 0x3000, 0x1100];
    let bus = Bus::new();
    bus.insert(0x2000, 0x100, quick()).unwrap();
    let done = AtomicBool::new(false);
    let vcpu = || {
        while !done.load(Ordering::SeqCst) {
            for address in BASES.map(|base| base + 0x10) {
                let mut data = [0; 8];
                if bus.read(address, &mut data) {
                    assert_eq!(u64::from_le_bytes(data), address);
                }
            }
            assert!(bus.read(0x2010, &mut [0; 8]), "nobody removes this one");
        }
    };
    let vcpus = thread::scope(|scope| {
        let vcpus = [scope.spawn(vcpu), scope.spawn(vcpu)];
        let visits = scope.spawn(|| (0..ROUNDS).for_each(|n| visit(&bus, BASES[n % BASES.len()])));
        let visits = visits.join();
        done.store(true, Ordering::SeqCst);
        vcpus.map(|vcpu| vcpu.join()).into_iter().chain([visits]).all(|ended| ended.is_ok())
    });
    assert!(vcpus, "a thread panicked");
}

#[test]
fn an_access_allocates_nothing() {
    let bus = Bus::new();
    (0..100).for_each(|n| bus.insert(n * 0x10, 0x10, quick()).unwrap());
    let counted = allocation_counter::measure(|| {
        assert!(bus.read(0, &mut [0; 4]));
        assert!(bus.write(99 * 0x10, &[0]));
        assert!(!bus.write(0x1000, &[0]));
    });
    assert_eq!(counted.count_total, 0);
}
