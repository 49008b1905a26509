//! The suite passes a device that is right, and finds what is wrong with others.

use std::sync::Arc;

use cubie_testkit::RAM_BASE;
use cubie_testkit::conformance as suite;
use cubie_virtio_core::{
    Config, DeviceId, Features, Handler, QueueState, Queues, RestoreError, Running, Source,
    StartError, VirtioDevice, Virtqueue, spawn,
};
use cubie_virtq::{Segments, Serve};
use cubie_vm_irq::Interrupt;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    MemoryRegionAddress,
};

/// What is wrong with a device.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// It keeps a chain that it will never complete.
    Loses,
    /// It panics when a chain begins with a certain byte.
    Panics,
    /// It reads what it is sent twice, and panics when that differs.
    ReadsTwice,
    /// It writes to memory that it was not lent.
    Scribbles,
    /// It goes on after `stop`.
    Lingers,
    /// It never starts a second time.
    StartsOnce,
    /// It panics at the end of its configuration space.
    Overruns,
    /// It never interrupts.
    Silent,
    /// It returns states when it did not run.
    StopsTwice,
    /// It serves its latest chain once more when it goes on.
    Repeats,
    /// It saves what it never restores.
    Unsaved,
    /// It takes some of a state that it refuses.
    Half,
    /// It goes on with the memory of its first start.
    Remembers,
}

struct Device {
    flaw: Flaw,
    starts: usize,
    config: Config,
    running: Option<Running<Server>>,
    left: Vec<Running<Server>>,
    first: Option<Arc<GuestMemoryMmap>>,
}

struct Server {
    flaw: Flaw,
    queue: Virtqueue,
    memory: Option<Arc<GuestMemoryMmap>>,
    /// Kicks so far.
    turns: u64,
}

impl Server {
    fn scribble(&mut self) {
        self.turns += 1;
        // The last bytes of memory: no test uses them.
        let at = GuestAddress(RAM_BASE + (16 << 20) - 8);
        if let Some(memory) = &self.memory {
            memory.write_obj(self.turns, at).unwrap();
        }
    }
}

/// What lies in buffers, without taking it off them.
fn bytes(memory: &GuestMemoryMmap, buffers: &Segments) -> Vec<u8> {
    let mut all = vec![];
    for buffer in buffers.iovecs() {
        let mut bytes = vec![0; buffer.iov_len];
        for region in memory.iter() {
            let offset = (buffer.iov_base as u64).wrapping_sub(region.as_ptr() as u64);
            if offset < region.len() {
                region.read_slice(&mut bytes, MemoryRegionAddress(offset)).unwrap();
            }
        }
        all.extend(bytes);
    }
    all
}

impl Handler for Server {
    fn sources(&self) -> Vec<Source> {
        vec![Source::readable(self.queue.kick(), 0)]
    }
    fn ready(&mut self, _token: u32) {
        let flaw = self.flaw;
        if matches!(flaw, Flaw::Scribbles | Flaw::Lingers) {
            self.scribble();
        }
        self.queue.drain(|mut chain| {
            if let Some(memory) = self.memory.as_ref().filter(|_| flaw == Flaw::ReadsTwice) {
                let [once, again] = [(); 2].map(|()| bytes(memory, &chain.readable()));
                assert!(once == again, "a device that reads twice");
            }
            let mut first = [0];
            chain.readable().read(&mut first);
            assert!(flaw != Flaw::Panics || first[0] != 7, "a device that panics");
            let written = chain.writable().write(&[first[0]; 100]) as u32;
            match flaw {
                Flaw::Loses if first[0] == 7 => Serve::Later,
                _ => Serve::Done(chain, written),
            }
        });
    }
}

impl VirtioDevice for Device {
    fn id(&self) -> DeviceId {
        DeviceId::RNG
    }
    fn features(&self) -> Features {
        Features::bit(3)
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16]
    }
    fn config(&self) -> &Config {
        &self.config
    }
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        let len = if self.flaw == Flaw::Overruns { 4 } else { data.len() };
        self.config.update(|bytes| bytes[offset..offset + len].copy_from_slice(&data[..len]));
    }
    fn start(&mut self, _features: Features, mut queues: Queues) -> Result<(), StartError> {
        self.starts += 1;
        if self.flaw == Flaw::StartsOnce && self.starts > 1 {
            return Err(StartError::MissingQueue(0));
        }
        let mut resources = queues.take_resources(0);
        if let Some(resources) = resources.as_mut().filter(|_| self.flaw == Flaw::Silent) {
            resources.interrupt = Interrupt::silent();
        }
        if let Some(resources) = resources.as_mut().filter(|_| self.flaw == Flaw::Repeats) {
            resources.state.next_avail = resources.state.next_avail.saturating_sub(1);
        }
        if let Some(resources) = resources.as_mut().filter(|_| self.flaw == Flaw::Remembers) {
            resources.memory = self.first.get_or_insert(resources.memory.clone()).clone();
        }
        let memory = resources.as_ref().map(|resources| resources.memory.clone());
        let queue = match resources.map(Virtqueue::new) {
            Some(queue) => queue.map_err(|source| StartError::Queue { index: 0, source })?,
            None => queues.take(0)?,
        };
        let server = Server { flaw: self.flaw, queue, memory, turns: 0 };
        self.running = Some(spawn("server", server).map_err(|(error, _)| error)?);
        Ok(())
    }
    fn stop(&mut self) -> Vec<QueueState> {
        match self.running.take() {
            None if self.flaw == Flaw::StopsTwice => vec![QueueState::default()],
            None => vec![],
            Some(running) if self.flaw == Flaw::Lingers => {
                self.left.push(running);
                vec![QueueState::default()]
            }
            Some(running) => vec![running.stop().queue.state()],
        }
    }
    /// How often it was started.
    fn save(&self) -> Vec<u8> {
        vec![1, self.starts as u8]
    }
    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        match state {
            _ if self.flaw == Flaw::Unsaved => {}
            [1, starts] => self.starts = usize::from(*starts),
            _ => {
                self.starts += usize::from(self.flaw == Flaw::Half);
                return Err(RestoreError::Refused("not one number".into()));
            }
        }
        Ok(())
    }
}

fn device(flaw: Flaw) -> Box<dyn VirtioDevice> {
    let config = Config::new([0; 6]);
    Box::new(Device { flaw, starts: 0, config, running: None, left: vec![], first: None })
}

cubie_testkit::conformance!(|| device(Flaw::None));
cubie_testkit::hostile!(|| device(Flaw::None));

#[test]
#[should_panic(expected = "repeats it")]
fn an_attack_that_succeeds_is_shown_with_its_seed() {
    cubie_testkit::hostile::run(|| device(Flaw::Panics), false);
}

#[test]
#[should_panic(expected = "repeats it")]
fn two_threads_find_what_a_device_reads_twice() {
    // A few hundred attacks, as a rule.
    cubie_testkit::hostile::run_for(1_000_000, || device(Flaw::ReadsTwice), true);
}

/// The suite's `test` must fail with these words.
macro_rules! found {
    ($($name:ident: $flaw:ident by $test:ident, $words:literal;)*) => {
        $(
            #[test]
            #[should_panic(expected = $words)]
            fn $name() {
                suite::run(suite::$test, || device(Flaw::$flaw));
            }
        )*
    };
}

found! {
    a_chain_that_is_lost: Loses by a_paused_device_goes_on_where_it_was,
        "are in flight";
    a_panic_of_the_devices_thread: Panics
        by garbage_in_every_kind_of_ring_is_answered_within_its_buffers, "a device that panics";
    a_write_to_foreign_memory: Scribbles
        by garbage_in_every_kind_of_ring_is_answered_within_its_buffers, "which is not its own";
    a_device_that_goes_on_after_its_stop: Lingers by after_a_reset_nothing_is_written,
        "which is not its own";
    a_device_that_starts_once: StartsOnce by a_device_starts_and_stops_again_and_again,
        "after buffers that are in order";
    a_device_that_does_not_restart_with_a_queue: StartsOnce
        by each_queue_is_reset_and_set_up_anew_under_load, "after buffers that are in order";
    a_store_across_the_end_of_the_configuration: Overruns
        by a_driver_may_write_anything_into_the_configuration, "out of range";
    a_device_that_never_interrupts: Silent
        by garbage_in_every_kind_of_ring_is_answered_within_its_buffers, "no interrupt after";
    a_write_beside_a_hole: Scribbles
        by a_buffer_in_a_hole_of_memory_stops_the_device_and_nothing_more, "which is not its own";
    a_device_that_goes_on_with_the_memory_of_its_first_start: Remembers
        by memory_that_is_gone_is_left_alone, "memory that it does not have";
    states_of_a_device_that_did_not_run: StopsTwice by stopping_what_does_not_run_does_nothing,
        "never started";
    a_chain_that_is_lost_in_a_snapshot: Loses
        by snapshots_under_load_lose_no_chain_and_complete_none_twice, "chains are in flight";
    a_chain_that_is_served_again_after_a_snapshot: Repeats
        by snapshots_under_load_lose_no_chain_and_complete_none_twice, "the device broke its ring";
    a_state_that_is_not_restored: Unsaved by a_device_takes_all_of_its_own_state_or_nothing,
        "what was restored";
    a_state_that_is_restored_by_half: Half by a_device_takes_all_of_its_own_state_or_nothing,
        "refused: ";
}
