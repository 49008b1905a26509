//! A storm of interrupts for used buffers and for configuration changes, without a kernel in its way: two
//! devices, each driven by a CPU of its own.
//!
//! Each chain that comes back makes the next one, and each change of the configuration that the driver has
//! read makes another one, by another thread: a notification that is lost is the last.

mod a32;
mod a64;
mod image;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use cubie::kvm::{GuestMode, Kvm, VmConfig};
use cubie::virtio::{
    Config, DeviceId, Features, Handler, QueueState, Queues, Source, StartError, Station,
    VirtioDevice, Virtqueue,
};
use cubie::virtq::Serve;
use cubie::vmm::layout::{GIC_CPU_INTERFACE, GIC_DISTRIBUTOR, MIN_MEMORY};
use cubie::vmm::{Machine, MachineConfig, Outcome, Registers, Transport, Uart};

use crate::vm::{DEADLINE, long};
use image::{Acknowledge, DEVICES, WORDS, kernel};

/// Changes of each configuration. Between two of them are one to three used buffers, and some forty more
/// where the thread that changes it has to wait for a CPU.
fn changes() -> u32 {
    if long() { 10_000 } else { 50 }
}

/// What has happened to a device.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    changes: u32,
    used: u64,
    interrupts: u32,
    /// Chains that have to come before the next change.
    calm: u32,
}

/// A device that says when its driver is due for a change of its configuration.
struct Gale {
    config: Config,
    station: Station<Blowing, Wind>,
}

struct Blowing {
    weather: Arc<Mutex<Weather>>,
    due: Sender<()>,
}

impl VirtioDevice for Gale {
    fn id(&self) -> DeviceId {
        DeviceId(65535)
    }
    fn features(&self) -> Features {
        Features::default()
    }
    fn queue_sizes(&self) -> &[u16] {
        &[8]
    }
    fn config(&self) -> &Config {
        &self.config
    }
    fn start(&mut self, _: Features, mut queues: Queues) -> Result<(), StartError> {
        let queue = queues.take(0)?;
        Ok(self.station.start("gale", |blowing| Wind { queue, blowing }, |wind| wind.blowing)?)
    }
    fn stop(&mut self) -> Vec<QueueState> {
        self.station.stop(|wind| (wind.blowing, vec![wind.queue.state()])).unwrap_or_default()
    }
}

struct Wind {
    queue: Virtqueue,
    blowing: Blowing,
}

impl Handler for Wind {
    fn sources(&self) -> Vec<Source> {
        vec![Source::readable(self.queue.kick(), 0)]
    }
    fn ready(&mut self, _: u32) {
        let Blowing { weather, due } = &self.blowing;
        self.queue.drain(|mut chain| {
            let mut words = [0; WORDS];
            chain.readable().read(&mut words);
            let [seen, interrupts] =
                [0, 4].map(|at| u32::from_le_bytes(*words[at..].first_chunk().unwrap()));
            let mut weather = weather.lock().unwrap();
            weather.used += 1;
            weather.interrupts = interrupts;
            if seen == weather.changes {
                match weather.calm.checked_sub(1) {
                    Some(less) => weather.calm = less,
                    None => {
                        // The last of all changes makes none.
                        let _ = due.send(());
                        weather.calm = u32::MAX;
                    }
                }
            }
            Serve::Done(chain, 0)
        });
    }
}

/// Changes the configuration whenever it is due, and then again a few chains later.
fn blow(
    config: &Config,
    weather: &Mutex<Weather>,
    due: &Receiver<()>,
) -> Result<(), RecvTimeoutError> {
    for change in 1..=changes() {
        due.recv_timeout(DEADLINE)?;
        let mut now = weather.lock().unwrap();
        (now.changes, now.calm) = (change, change % 3);
        drop(now);
        config.update(|config| config.copy_from_slice(&change.to_le_bytes()));
    }
    due.recv_timeout(DEADLINE)
}

fn weathers_a_storm(mode: GuestMode, registers: Registers, habits: [Acknowledge; DEVICES]) {
    let (mut devices, mut gales) = (vec![], vec![]);
    for _ in 0..DEVICES {
        let (due, dues) = channel();
        let (config, weather) = (Config::new([0; 4]), Arc::default());
        gales.push((config.clone(), Arc::clone(&weather), dues));
        let station = Station::Parked(Blowing { weather, due });
        devices.push(Box::new(Gale { config, station }) as Box<dyn VirtioDevice>);
    }
    let machine = machine(mode, registers, habits, devices);
    let stopper = machine.stopper();
    let (outcome, blown) = thread::scope(|scope| {
        let machine = scope.spawn(|| machine.run().unwrap().0);
        let blow = |(config, weather, due): (Config, Arc<Mutex<Weather>>, Receiver<()>)| {
            let result = blow(&config, &weather, &due);
            let weather = *weather.lock().unwrap();
            (result, weather)
        };
        let gales: Vec<_> = gales.into_iter().map(|gale| scope.spawn(move || blow(gale))).collect();
        let blown: Vec<_> = gales.into_iter().map(|gale| gale.join().unwrap()).collect();
        stopper.stop();
        (machine.join().unwrap(), blown)
    });
    println!("{mode:?}, {registers:?}: {blown:?}");
    assert_eq!(outcome, Outcome::Quit);
    for (result, Weather { changes: changed, used, interrupts, .. }) in blown {
        assert_eq!(result, Ok(()), "a notification is lost");
        assert!(changed == changes() && used >= u64::from(changed));
        // One may be for several.
        assert!(interrupts > 0);
    }
}

fn machine(
    mode: GuestMode,
    registers: Registers,
    habits: [Acknowledge; DEVICES],
    devices: Vec<Box<dyn VirtioDevice>>,
) -> Machine<cubie::kvm::KvmVm> {
    let (distributor, cpu_interface) = (GIC_DISTRIBUTOR.start, GIC_CPU_INTERFACE.start);
    let gic = cubie::hv::Gic::V2 { distributor, cpu_interface };
    let cpus = DEVICES as u8;
    let vm = Kvm::open().unwrap().create_vm(VmConfig { guest: mode, gic, vcpus: cpus }).unwrap();
    let config = MachineConfig {
        memory: MIN_MEMORY,
        shared_memory: false,
        cpus,
        kernel: kernel(mode, habits),
        initrd: None,
        command_line: String::new(),
        pin: true,
        transports: vec![Transport { registers, ..Transport::default() }],
    };
    let uart = Arc::new(Mutex::new(Uart::new(Box::new(std::io::sink())).unwrap()));
    Machine::build(vm, &config, devices, uart).unwrap()
}

#[test]
fn a_driver_of_64_bits_loses_no_notification_in_a_storm_on_two_cpus() {
    let habits = [Acknowledge::First, Acknowledge::Last];
    weathers_a_storm(GuestMode::Aarch64, Registers::SharedPage, habits);
}

#[test]
fn a_driver_of_32_bits_loses_no_notification_in_a_storm_on_two_cpus() {
    let habits = [Acknowledge::First, Acknowledge::Last];
    weathers_a_storm(GuestMode::Aarch32, Registers::SharedPage, habits);
}

#[test]
fn trapped_registers_lose_no_notification_in_a_storm_on_two_cpus() {
    for mode in [GuestMode::Aarch64, GuestMode::Aarch32] {
        weathers_a_storm(mode, Registers::Trapped, [Acknowledge::First; DEVICES]);
    }
}
