//! What every device has to do, whatever it is: the suite behind [`conformance!`](crate::conformance!).
//!
//! It knows nothing of a device's protocol. It offers chains of garbage and accepts any answer, or none;
//! but each chain comes back at most once, with no more bytes than it has room for, and the device
//! writes nowhere else.

mod config;
mod image;
mod init;
mod load;
mod memory;
mod pause;
mod rings;
mod snapshot;
mod stop;

use std::time::Duration;

use cubie_virtio_core::{Features, VirtioDevice};

pub use config::*;
pub use init::*;
pub use memory::*;
pub use pause::*;
pub use rings::*;
pub use snapshot::*;
pub use stop::*;

use crate::{Guest, Socket, within};

/// Makes the device of a test, a new one each time.
pub type Make = fn() -> Box<dyn VirtioDevice>;

/// For a whole test.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs one of the tests, in time.
pub fn run(test: fn(Make), make: Make) {
    within(DEADLINE, move || test(make));
}

/// Makes a module of tests, named `conformance`, of a function that makes a device: the path of a
/// `fn() -> Box<dyn VirtioDevice>`, or a closure that needs nothing from around it.
///
/// Each test has a deadline, and a device of its own for each of its cases. What they are about:
///
/// * *Initialisation*: reset at every step, refused steps and features, started twice.
/// * *Rings*: both formats, each with and without event index, indirect descriptors and in-order use;
///   every queue size (of packed rings a sample); garbage of every shape in all of them, with no
///   byte written outside of what the device was lent, and an interrupt for what it finished.
/// * *Stop*: under load again and again, one queue alone, and nothing written afterwards.
/// * *Pause*: stopped with chains at work, and started again with the states that it returned.
/// * *Memory*: buffers in a hole, and a region that is gone when the device is started again.
/// * *Configuration*: a driver never reads a mixture of two.
/// * *Snapshot*: saved at every step of the initialisation and under load, and restored into a new device
///   over the same memory, mapped elsewhere; a state of another device, and damaged ones.
///
/// All but those of *Pause* and of a region that is gone, which have no registers, are done with registers
/// in a page and with trapped ones.
///
/// ```
/// # use cubie_virtio_core::{Config, DeviceId, Features, QueueState, Queues, StartError, VirtioDevice};
/// struct Nothing(Config);
/// impl VirtioDevice for Nothing {
///     // …
/// #     fn id(&self) -> DeviceId { DeviceId::RNG }
/// #     fn features(&self) -> Features { Features::default() }
/// #     fn queue_sizes(&self) -> &[u16] { &[] }
/// #     fn config(&self) -> &Config { &self.0 }
/// #     fn start(&mut self, _: Features, _: Queues) -> Result<(), StartError> { Ok(()) }
/// #     fn stop(&mut self) -> Vec<QueueState> { vec![] }
/// }
///
/// fn nothing() -> Box<dyn VirtioDevice> {
///     Box::new(Nothing(Config::default()))
/// }
///
/// cubie_testkit::conformance!(nothing);
/// ```
#[macro_export]
macro_rules! conformance {
    (@tests $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                $crate::conformance::run($crate::conformance::$test, super::CONFORMING_DEVICE);
            }
        )*
    };
    ($make_device:expr) => {
        const CONFORMING_DEVICE: $crate::conformance::Make = $make_device;

        mod conformance {
            $crate::conformance!(@tests
                a_reset_at_every_step_leads_back_to_the_beginning
                steps_out_of_order_are_refused
                features_that_were_not_offered_are_refused
                a_device_starts_and_stops_again_and_again
                garbage_in_every_kind_of_ring_is_answered_within_its_buffers
                queues_of_every_size_work
                a_reset_under_load_returns_and_the_device_starts_again
                each_queue_is_reset_and_set_up_anew_under_load
                after_a_reset_nothing_is_written
                a_paused_device_goes_on_where_it_was
                stopping_what_does_not_run_does_nothing
                a_snapshot_at_every_step_of_the_initialisation_restores_the_same_registers
                snapshots_under_load_lose_no_chain_and_complete_none_twice
                a_configuration_that_changed_is_restored_and_told
                a_state_of_another_device_is_refused
                a_device_takes_all_of_its_own_state_or_nothing
                a_buffer_in_a_hole_of_memory_stops_the_device_and_nothing_more
                memory_that_is_gone_is_left_alone
                a_driver_never_reads_a_mixture_of_two_configurations
                a_driver_may_write_anything_into_the_configuration
            );
        }
    };
}

/// Both ways to serve the registers.
fn sockets(guest: &Guest) -> [Socket; 2] {
    [guest.socket(), guest.socket().trapped()]
}

/// Every choice of features that shapes a ring.
fn ring_features() -> impl Iterator<Item = Features> {
    const CHOICES: [Features; 4] =
        [Features::PACKED, Features::EVENT_IDX, Features::INDIRECT, Features::IN_ORDER];
    (0..1u32 << CHOICES.len()).map(|chosen| {
        let chosen = (0..).zip(CHOICES).filter(move |(n, _)| chosen >> n & 1 != 0);
        chosen.fold(Features::RING_RESET, |all, (_, feature)| all.with(feature))
    })
}
