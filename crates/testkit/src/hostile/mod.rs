//! Attacks on a device: the suite behind [`hostile!`](crate::hostile!).

mod attacker;
mod grammar;
mod pace;
mod play;
mod step;
mod target;

use std::cell::Cell;
use std::env;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use self::attacker::Back;
use self::step::Attack;
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
/// and payload, writes and reads registers, kicks, resets; in between it serves the device as a good one
/// would, so that there is something to break. In the second test another thread stores to memory all the
/// time. The device's threads may not panic nor hang, a page of registers must hold what a trapped read
/// answers, and afterwards the device has to start for a good driver, and serve it.
///
/// An attack that succeeds is made smaller and shown step by step, with the `CUBIE_SEED` that repeats it.
/// With two threads it may need some tries. `CUBIE_STEPS` says how many steps each test takes; with
/// `--nocapture` it says what they came to. `cargo xtask hostile` does so for all devices in release
/// builds, ten million steps together.
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

/// What attacks have come to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    steps: u64,
    attacks: u64,
    back: Back,
}

impl Tally {
    fn with(self, attack: &Attack, back: Back) -> Self {
        let Self { steps, attacks, back: Back { chains, written } } = self;
        let back = Back { chains: chains + back.chains, written: written + back.written };
        Self { steps: steps + attack.steps.len() as u64, attacks: attacks + 1, back }
    }
}

/// Attacks devices for as many steps as `CUBIE_STEPS` says.
///
/// # Panics
/// With the smallest attack that was found, and its seed.
pub fn run(make: Make, two_threads: bool) {
    run_for(number("CUBIE_STEPS").unwrap_or(STEPS), make, two_threads);
}

/// Attacks devices until so many steps are done.
///
/// # Panics
/// As [`run`].
pub fn run_for(most: u64, make: Make, two_threads: bool) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let given = number("CUBIE_SEED");
    let first = given.unwrap_or(since.as_nanos() as u64);
    // A seed that is given may be that of an attack which has succeeded.
    let mut tries = if given.is_some() { TRIES } else { 1 };
    let (mut tally, mut seed, begin) = (Tally::default(), first, Instant::now());
    while tally.steps < most {
        tally = attack(make, two_threads, seed, tries, tally);
        (seed, tries) = (seed.wrapping_add(1), 1);
    }
    let Tally { steps, attacks, back: Back { chains, written } } = tally;
    let rate = steps as f64 / begin.elapsed().as_secs_f64();
    // `cargo xtask hostile` reads this.
    println!(
        "{steps} hostile steps in {attacks} attacks, {chains} completions, {written} written, \
         from CUBIE_SEED={first} on, {rate:.0} steps/s"
    );
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    let Ok(number) = text.parse() else {
        panic!("{name}={text} is no number: give one from 0 on, or leave it out")
    };
    Some(number)
}

/// Plays the attack of this seed, so often, and adds what it comes to.
fn attack(make: Make, two_threads: bool, seed: u64, tries: usize, tally: Tally) -> Tally {
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
    let (tally, tries) = (Cell::new(tally), Cell::new(tries));
    let result =
        TestRunner::new_with_rng(config, rng).run(&grammar::attack(two_threads), |attack| {
            // If this is not the last time, what follows are smaller attacks, which get every chance.
            for _ in 0..tries.replace(TRIES) {
                let played = attack.clone();
                let back = within(DEADLINE, move || play::play(make, &played));
                tally.set(tally.get().with(&attack, back));
            }
            Ok(())
        });
    if let Err(error) = result {
        panic!("an attack succeeded, and CUBIE_SEED={seed} repeats it: {error}");
    }
    tally.into_inner()
}
