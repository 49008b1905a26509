//! Any driver in front of the register file, and in front of a model of the standard; the device is saved
//! and restored now and then.

mod event;
mod model;

use std::sync::{Arc, Mutex};

use cubie_mmio_bus::MmioDevice;
use cubie_virtio_core::{
    Config, DeviceId, Features, Interface, MmioTransport, QueueState, Queues, SharedMemory,
    StartError, VirtioDevice,
};
use cubie_virtq::QueueError;
use cubie_vm_irq::Interrupt;
use event::{Event, event};
use model::{MAX, Model, REGION, Served, Version};
use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestMemoryMmap};

const CONFIG: u64 = 0x100;
const LEN: usize = 6;

/// What the device has been told.
#[derive(Debug, Default)]
struct Told {
    serving: Option<(u64, [Served; 2])>,
    interrupt: Option<Interrupt>,
    /// The latest write to the configuration space.
    written: Option<(usize, Vec<u8>)>,
}

/// A device that cannot do without queue 0, and gets one chain further until it is stopped.
struct Probe(Config, Arc<Mutex<Told>>, [SharedMemory; 1]);

impl VirtioDevice for Probe {
    fn id(&self) -> DeviceId {
        DeviceId(42)
    }
    fn features(&self) -> Features {
        Features::bit(5).with(Features::bit(50))
    }
    fn queue_sizes(&self) -> &[u16] {
        const { &[MAX[0] as u16, MAX[1] as u16] }
    }
    fn config(&self) -> &Config {
        &self.0
    }
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.1.lock().unwrap().written = Some((offset, data.to_vec()));
    }
    fn shared_memory(&self) -> &[SharedMemory] {
        &self.2
    }
    fn start(&mut self, features: Features, mut queues: Queues) -> Result<(), StartError> {
        let mut told = self.1.lock().unwrap();
        assert!(told.serving.is_none(), "start and stop alternate");
        let mut serving = [Served::Absent; 2];
        for (index, served) in (0..).zip(&mut serving) {
            if let Some(queue) = queues.take_resources(index) {
                let fresh = QueueState::fresh(features).next_avail;
                let (params, state) = (queue.params, queue.state);
                let place = [params.size.into(), params.desc, params.driver, params.device];
                *served = Served::At(place, state.next_avail - fresh);
                if params.size == 0 {
                    let source = QueueError::Size(0);
                    return Err(StartError::Queue { index, source });
                }
                told.interrupt = Some(queue.interrupt);
                continue;
            }
            match queues.take(index) {
                Ok(idle) => {
                    assert_eq!(idle.state(), QueueState::fresh(features));
                    *served = Served::Idle;
                }
                Err(_) if index == 1 => {}
                Err(error) => return Err(error),
            }
        }
        told.serving = Some((features.0, serving));
        Ok(())
    }
    fn stop(&mut self) -> Vec<QueueState> {
        let Some((features, serving)) = self.1.lock().unwrap().serving.take() else {
            return vec![];
        };
        let fresh = QueueState::fresh(Features(features));
        let stopped = serving.map(|served| match served {
            Served::At(_, stops) => {
                QueueState { next_avail: fresh.next_avail + stops + 1, ..fresh }
            }
            Served::Idle | Served::Absent => fresh,
        });
        stopped.into()
    }
}

struct Bench {
    registers: MmioTransport,
    config: Config,
    told: Arc<Mutex<Told>>,
    model: Model,
}

/// A transport with a new device in it.
fn plug(version: Version, told: &Arc<Mutex<Told>>) -> (MmioTransport, Config) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let config = Config::new([0; LEN]);
    let (id, base, len) = REGION;
    let region = SharedMemory { id: id as u8, base: GuestAddress(base), len };
    let probe = Box::new(Probe(config.clone(), told.clone(), [region]));
    let interface = match version {
        Version::Modern => Interface::Modern,
        Version::Legacy => Interface::Legacy,
    };
    let rings = Features::RING.with(Features::PACKED).with(Features::NOTIFICATION_DATA);
    let registers = MmioTransport::new(probe, Arc::new(memory), Interrupt::silent()).unwrap();
    (registers.with_interface(interface).with_rings(rings), config)
}

impl Bench {
    fn new(version: Version) -> Self {
        let told = Arc::<Mutex<Told>>::default();
        let (registers, config) = plug(version, &told);
        let model = Model::new(version, config.generation());
        Self { registers, config, told, model }
    }

    /// A driver sees nothing of it: the device is started once more, and kicked.
    fn go_on(&mut self) {
        self.registers.resume().unwrap();
        self.model.resumed();
    }

    fn set(&mut self, register: u32, value: u32) {
        self.registers.write(register.into(), &value.to_le_bytes());
        self.model.write(register, value);
    }

    fn set_all(&mut self, values: &[(u32, u32)]) {
        values.iter().for_each(|(register, value)| self.set(*register, *value));
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Set(register, value) => self.set(*register, *value),
            Event::Write(at, bytes) => self.write(*at, bytes),
            Event::Negotiate(features) => {
                let (low, high) = (*features as u32, (features >> 32) as u32);
                self.set_all(&[(0x70, 0), (0x70, 1), (0x70, 3), (0x24, 0), (0x20, low)]);
                self.set_all(&[(0x24, 1), (0x20, high), (0x70, 11)]);
            }
            Event::SetUp(queue, size) => {
                self.set_all(&[
                    (0x30, *queue),
                    (0x38, *size),
                    (0x80, 0x1000),
                    (0x94, 1),
                    (0x44, 1),
                ]);
                self.set_all(&[(0x3c, 64), (0x40, 5)]);
            }
            Event::Ready => {
                let status = self.model.read(0x70) | 4;
                self.set(0x70, status);
            }
            Event::TakeBack(queue) => self.set_all(&[(0x30, *queue), (0x40, 0), (0xc0, 1)]),
            Event::Change(to) => {
                self.config.update(|bytes| bytes.fill(*to));
                self.model.generation += 1;
                self.model.config_changed();
            }
            Event::UsedBuffers => {
                let told = self.told.lock().unwrap();
                let running = told.serving.is_some();
                told.interrupt.iter().filter(|_| running).for_each(Interrupt::trigger);
                if told.interrupt.is_some() {
                    self.model.used_buffers();
                }
            }
            Event::Read(at, len) => {
                let mut bytes = vec![0xee; *len];
                self.registers.read(*at, &mut bytes);
                assert_eq!(bytes, self.expected(*at, *len), "{len} bytes at {at:#x}");
            }
            Event::Save => {
                self.registers.save();
                self.go_on();
            }
            Event::Move => {
                let state = self.registers.save();
                (self.registers, self.config) = plug(self.model.version, &self.told);
                self.told.lock().unwrap().interrupt = None; // it was the old one's
                self.registers.restore(&state).unwrap();
                self.go_on();
            }
        }
    }

    /// Words reach registers, and bytes the device if they fall into its configuration space.
    fn write(&mut self, at: u64, bytes: &[u8]) {
        self.told.lock().unwrap().written = None;
        self.registers.write(at, bytes);
        let written = self.told.lock().unwrap().written.take();
        let inside = at.checked_sub(CONFIG).filter(|offset| *offset < LEN as u64);
        let expected = inside.map(|offset| {
            let offset = offset as usize;
            (offset, bytes[..bytes.len().min(LEN - offset)].to_vec())
        });
        assert_eq!(written, expected);
        if let Ok(word) = bytes.try_into()
            && at.is_multiple_of(4)
            && at < CONFIG
        {
            self.model.write(at as u32, u32::from_le_bytes(word));
        }
    }

    fn expected(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        if at >= CONFIG {
            self.config.read((at - CONFIG) as usize, &mut bytes);
        } else if len == 4 && at.is_multiple_of(4) {
            bytes = self.model.read(at as u32).to_le_bytes().into();
        }
        bytes
    }

    /// All that can be seen is as the model says.
    fn check(&mut self) {
        for register in (0..0x100).step_by(4) {
            let mut word = [0xee; 4];
            self.registers.read(register.into(), &mut word);
            let expected = self.model.read(register);
            assert_eq!(u32::from_le_bytes(word), expected, "{register:#x}");
        }
        assert_eq!(self.told.lock().unwrap().serving, self.model.serving());
        let kicks = self.registers.kicks().iter().map(|kick| kick.read().unwrap_or(0));
        assert_eq!(kicks.collect::<Vec<_>>(), std::mem::take(&mut self.model.kicks));
    }
}

fn play(version: Version, events: &[Event]) {
    let mut bench = Bench::new(version);
    for event in events {
        bench.happen(event);
        bench.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_registers_are_the_standards_whatever_a_driver_does(
        events in prop::collection::vec(event(), 0..60),
    ) {
        play(Version::Modern, &events);
    }

    #[test]
    fn the_legacy_registers_are_the_standards_whatever_a_driver_does(
        events in prop::collection::vec(event(), 0..60),
    ) {
        play(Version::Legacy, &events);
    }
}
