//! Running a machine to its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use cubie_hv::{Exit, HvError, Kick, Vcpu, Vm};
use cubie_mmio_bus::Bus;
use cubie_virtio_core::VirtioDevice;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::exits::ExitMeter;
use crate::machine::{Machine, MachineError};
use crate::strays::STRAYS;
use crate::transport::Plugged;

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest turned it off.
    Off,
    /// The guest asked for a restart: build the next machine, with the same devices.
    Reset,
    /// A [`Stopper`] ended it.
    Quit,
    /// The guest crashed; the text says how.
    Crash(String),
}

/// Ends a machine from any thread.
#[derive(Clone)]
pub struct Stopper(Arc<Ending>);

impl Stopper {
    pub(crate) fn new(ending: Arc<Ending>) -> Self {
        Self(ending)
    }

    /// Ends the machine with [`Outcome::Quit`], unless it has ended already. Does not wait for that.
    pub fn stop(&self) {
        self.0.finish(Ok(Outcome::Quit));
    }
}

/// Ends whichever of several machines runs, of which each restarts the guest of the one before.
#[derive(Clone, Default)]
pub struct Remote(Arc<Mutex<Steered>>);

#[derive(Default)]
struct Steered {
    machine: Option<Stopper>,
    stopped: bool,
}

impl Remote {
    /// From now on this machine is the one to be ended: at once, if [`Remote::stop`] came before it.
    pub fn steer(&self, machine: Stopper) {
        let mut steered = self.lock();
        if steered.stopped {
            machine.stop();
        }
        steered.machine = Some(machine);
    }

    /// Ends the machine and all that follow.
    pub fn stop(&self) {
        let mut steered = self.lock();
        steered.stopped = true;
        steered.machine.iter().for_each(Stopper::stop);
    }

    fn lock(&self) -> MutexGuard<'_, Steered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a machine: the first one counts, and it gets everybody out.
pub(crate) struct Ending {
    end: Mutex<Option<Result<Outcome, HvError>>>,
    kicks: Vec<Box<dyn Kick>>,
}

impl Ending {
    pub(crate) fn new(kicks: Vec<Box<dyn Kick>>) -> Self {
        Self { end: Mutex::new(None), kicks }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<Outcome, HvError>>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, end: Result<Outcome, HvError>) {
        self.lock().get_or_insert(end);
        self.kicks.iter().for_each(|kick| kick.kick());
    }
}

impl<V: Vm> Machine<V> {
    /// Runs the machine until it ends, each vCPU on a thread of its own. All of them and all devices
    /// have stopped on return; the devices come back in their order, for the next machine.
    ///
    /// # Errors
    /// When the host refused a thread, or the hypervisor cannot go on. The devices are dropped then.
    pub fn run(self) -> Result<(Outcome, Vec<Box<dyn VirtioDevice>>), MachineError> {
        let (bus, ending, exits, pin) = (&self.bus, &*self.ending, &self.exits, self.pin);
        thread::scope(|scope| {
            for (index, vcpu) in self.vcpus.into_iter().enumerate() {
                let run = move || {
                    if pin {
                        pin_to(index);
                    }
                    run_vcpu(vcpu, bus, ending, exits);
                };
                let name = format!("vcpu{index}");
                if let Err(e) = thread::Builder::new().name(name).spawn_scoped(scope, run) {
                    return ending.finish(Err(HvError::new("start a vCPU's thread", e)));
                }
            }
        });
        drop(self.bus);
        drop(self.vm);
        let devices = self.devices.into_iter().map(unplug).collect();
        let mut uart = self.uart.lock().unwrap_or_else(PoisonError::into_inner);
        uart.disconnect();
        uart.flush();
        let end = self.ending.lock().take().unwrap_or(Ok(Outcome::Quit));
        Ok((end?, devices))
    }
}

fn unplug(plugged: Plugged) -> Box<dyn VirtioDevice> {
    let transport = Arc::into_inner(plugged).expect("the bus, the only other owner, is gone");
    let transport = transport.into_inner();
    transport.unwrap_or_else(PoisonError::into_inner).unplug()
}

/// Keeps this thread on one host CPU, the `index`-th of those that it may use.
fn pin_to(index: usize) {
    let this = Pid::from_raw(0);
    let pinned = sched_getaffinity(this).and_then(|usable| {
        let usable: Vec<_> =
            (0..CpuSet::count()).filter(|cpu| usable.is_set(*cpu) == Ok(true)).collect();
        let mut one = CpuSet::new();
        one.set(usable[index % usable.len()])?;
        sched_setaffinity(this, &one)
    });
    if let Err(error) = pinned {
        tracing::warn!(vcpu = index, %error, "a vCPU is not pinned");
    }
}

/// The thread of one vCPU.
fn run_vcpu(mut vcpu: impl Vcpu, bus: &Bus, ending: &Ending, exits: &ExitMeter) {
    let _watch = Watch(ending);
    let mut store = |address, data: &[u8]| {
        if !bus.write(address, data) {
            STRAYS.note("store", address);
        }
    };
    let end = loop {
        match vcpu.run(&mut store) {
            Ok(Exit::Read { address, data }) => {
                exits.count(address);
                if !bus.read(address, data) {
                    data.fill(0);
                    STRAYS.note("load", address);
                }
            }
            Ok(Exit::Write { address, data }) => {
                exits.count(address);
                store(address, data);
            }
            Ok(Exit::Kicked) if ending.lock().is_some() => return exits.end(),
            Ok(Exit::Kicked) => {}
            Ok(Exit::Off) => break Ok(Outcome::Off),
            Ok(Exit::Reset) => break Ok(Outcome::Reset),
            Ok(Exit::Crash(text)) => break Ok(Outcome::Crash(text)),
            Err(error) => break Err(error),
        }
    };
    exits.end();
    ending.finish(end);
}

/// A panic in a device must not leave the other vCPUs running: the scope would wait for them.
struct Watch<'a>(&'a Ending);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.finish(Ok(Outcome::Crash("a vCPU's thread panicked".into())));
        }
    }
}
