//! The vCPU that plays the script.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};

use vmm_sys_util::eventfd::EventFd;

use super::{Delayed, Step, World, lock};
use crate::{Exit, ExitCounter, Exits, HvError, Kick, Vcpu};

/// The vCPU of a [`ScriptedVm`](super::ScriptedVm).
pub struct ScriptedVcpu {
    script: VecDeque<Step>,
    world: Arc<Mutex<World>>,
    delayed: Arc<Delayed>,
    kicked: Arc<ScriptedKick>,
    exits: Arc<ScriptedExits>,
    buffer: [u8; 8],
    reading: Option<usize>,
}

impl ScriptedVcpu {
    pub(super) fn new(script: Vec<Step>, world: Arc<Mutex<World>>, delayed: Arc<Delayed>) -> Self {
        let (kicked, exits, buffer) = (Arc::default(), Arc::default(), [0; 8]);
        Self { script: script.into(), world, delayed, kicked, exits, buffer, reading: None }
    }

    /// Plays on until something comes out.
    fn play(&mut self) -> Exit<'_> {
        loop {
            if std::mem::take(&mut *lock(&self.kicked.pending)) {
                return Exit::Kicked;
            }
            match self.script.pop_front() {
                Some(Step::Read { address, len }) => {
                    let mut world = lock(&self.world);
                    if let Some(data) = world.pages.load(address, len) {
                        world.seen.push(data);
                        continue;
                    }
                    drop(world);
                    self.reading = Some(len);
                    self.buffer = [0; 8];
                    return Exit::Read { address, data: &mut self.buffer[..len] };
                }
                Some(Step::Write { address, data }) if self.offloaded(address, &data) => {}
                Some(Step::Write { address, data }) if self.delayed.keep(address, &data) => {}
                Some(Step::Write { address, data }) => {
                    self.buffer[..data.len()].copy_from_slice(&data);
                    return Exit::Write { address, data: &self.buffer[..data.len()] };
                }
                Some(Step::Off) => return Exit::Off,
                Some(Step::Reset) => return Exit::Reset,
                Some(Step::Crash) => return Exit::Crash("the script says so".into()),
                Some(Step::Sleep) | None => {
                    let pending = lock(&self.kicked.pending);
                    drop(self.kicked.raised.wait_while(pending, |kicked| !*kicked));
                }
            }
        }
    }

    /// True when an eventfd took the write.
    fn offloaded(&self, address: u64, data: &[u8]) -> bool {
        let value = <[u8; 4]>::try_from(data).map(u32::from_le_bytes).ok();
        let world = lock(&self.world);
        let hit = |(at, want, _): &&(u64, Option<u32>, EventFd)| {
            *at == address && value.is_some() && (want.is_none() || *want == value)
        };
        match world.offloads.iter().find(hit) {
            Some((_, _, fd)) => fd.write(1).is_ok(),
            None => false,
        }
    }
}

/// The kick of a [`ScriptedVcpu`].
#[derive(Default)]
pub struct ScriptedKick {
    pending: Mutex<bool>,
    raised: Condvar,
}

impl Kick for Arc<ScriptedKick> {
    fn kick(&self) {
        *lock(&self.pending) = true;
        self.raised.notify_all();
    }
}

impl Vcpu for ScriptedVcpu {
    type Kick = Arc<ScriptedKick>;

    fn run(&mut self, late: &mut dyn FnMut(u64, &[u8])) -> Result<Exit<'_>, HvError> {
        if let Some(len) = self.reading.take() {
            lock(&self.world).seen.push(self.buffer[..len].to_vec());
        }
        let (world, delayed) = (Arc::clone(&self.world), Arc::clone(&self.delayed));
        let exits = Arc::clone(&self.exits);
        let exit = self.play();
        lock(&world).exits += 1;
        exits.count(&exit);
        delayed.carry_out(late);
        Ok(exit)
    }

    fn kick(&self) -> Arc<ScriptedKick> {
        Arc::clone(&self.kicked)
    }

    fn exit_counter(&mut self) -> Result<Arc<dyn ExitCounter>, HvError> {
        Ok(Arc::clone(&self.exits) as _)
    }
}

/// What a [`ScriptedVcpu`] has come out for.
#[derive(Default)]
struct ScriptedExits(Mutex<Exits>);

impl ScriptedExits {
    fn count(&self, exit: &Exit<'_>) {
        let mut exits = lock(&self.0);
        exits.all += 1;
        exits.user_mmio += u64::from(matches!(exit, Exit::Read { .. } | Exit::Write { .. }));
    }
}

impl ExitCounter for ScriptedExits {
    fn exits(&self) -> Result<Exits, HvError> {
        Ok(*lock(&self.0))
    }
}
