//! Attacks on a device: the suite behind [`hostile!`](crate::hostile!).

mod play;
mod step;

use std::cell::Cell;
use std::env;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::conformance::Make;
use crate::within;

/// For one attack.
const DEADLINE: Duration = Duration::from_secs(30);
/// An attack that succeeds is made smaller by so many tries,
const SHRINKS: u32 = 10_000;
/// in so many milliseconds.
const SHRINK_MS: u32 = 20_000;
/// An attack that may succeed is played so often: it depends on the host's threads, too.
const TRIES: usize = 5;
/// Steps of each test, unless `CUBIE_STEPS` says otherwise.
const STEPS: u64 = 10_000;

/// Makes a module of two tests, named `hostile`, of a function that makes a device, as
/// [`conformance!`](crate::conformance!) does.
///
/// A driver begins well and then offers garbage, stores anything to descriptors, rings, indirect tables
/// and payload, writes and reads registers, kicks, resets. In the second test another thread stores to
/// memory all the time. The device's threads may not panic nor hang, a page of registers must hold what
/// a trapped read answers, and afterwards the device has to start for a good driver.
///
/// An attack that succeeds is made smaller and shown step by step, with the `CUBIE_SEED` that repeats it.
/// With two threads it may need some tries. `CUBIE_STEPS` says how many steps each test takes; with
/// `--nocapture` it says how fast they were.
#[macro_export]
macro_rules! hostile {
    ($make_device:expr) => {
        const ATTACKED_DEVICE: $crate::conformance::Make = $make_device;

        mod hostile {
            #[test]
            fn a_hostile_driver_stops_its_device_and_nothing_more() {
                $crate::hostile::run(super::ATTACKED_DEVICE, false);
            }

            #[test]
            fn two_hostile_threads_stop_their_device_and_nothing_more() {
                $crate::hostile::run(super::ATTACKED_DEVICE, true);
            }
        }
    };
}

/// Attacks devices until all steps are done.
///
/// # Panics
/// With the smallest attack that was found, and its seed.
pub fn run(make: Make, two_threads: bool) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let given = number("CUBIE_SEED");
    let first = given.unwrap_or(since.as_nanos() as u64);
    let tries = if given.is_some() { TRIES } else { 1 };
    let (steps, begin) = (number("CUBIE_STEPS").unwrap_or(STEPS), Instant::now());
    let (mut done, mut seed) = (0, first);
    while done < steps {
        done += attack(make, two_threads, seed, tries);
        seed = seed.wrapping_add(1);
    }
    let rate = done as f64 / begin.elapsed().as_secs_f64();
    eprintln!("{done} hostile steps from CUBIE_SEED={first} on, {rate:.0} steps/s");
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    let Ok(number) = text.parse() else {
        panic!("{name}={text} is no number: give one from 0 on, or leave it out")
    };
    Some(number)
}

/// Plays the attack of this seed, so often. How many steps it had.
fn attack(make: Make, two_threads: bool, seed: u64, tries: usize) -> u64 {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: SHRINKS,
        max_shrink_time: SHRINK_MS,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let (steps, tries) = (Cell::new(0), Cell::new(tries));
    let result = TestRunner::new_with_rng(config, rng).run(&step::attack(two_threads), |attack| {
        steps.set(attack.steps.len() as u64);
        // If this is not the last time, what follows are smaller attacks, which get every chance.
        for _ in 0..tries.replace(TRIES) {
            let attack = attack.clone();
            within(DEADLINE, move || play::play(make, &attack));
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("an attack succeeded, and CUBIE_SEED={seed} repeats it: {error}");
    }
    steps.get()
}
