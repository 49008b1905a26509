//! Fuzz targets of all that takes bytes from a guest or a stranger: arbitrary ones against our end, with what
//! must hold whatever they are.
//!
//! Of the rings, a [`Script`] is one run: where the rings lie, what the guest writes, and what the device does in
//! which order. `machine` carries it out on guest memory, which has a second copy, and stops
//! at the first of these that is broken:
//!
//! * nothing panics (and under the address sanitizer, nothing leaves its mapping);
//! * all pieces of a chain lie in guest memory, at most one a descriptor and region;
//! * no more chains are served than were available, and no more are in flight than the queue has places;
//! * an error is latched, told once, and everything reads as empty from then on;
//! * the device writes to its own part of the ring and to what was written through a chain's writable
//!   segments, and nowhere else: all other memory is compared with the copy after each step;
//! * a queue that is stopped and started again goes on where it was.
//!
//! `differential` has its own: what we take, rust-vmm's queue takes as well, byte for byte; what we
//! refuse has a reason that can be found from its answers.
//!
//! The others have sessions of their own instead of scripts, and their modules say what must hold:
//!
//! * `registers`: the register file under two vCPUs;
//! * `block`, `net`, `console`, `rng`: whole devices, each beside a model of it (`devices`);
//! * `loader`: kernel files, `fdt`: device trees;
//! * `user_net`: a network without privileges, between a guest and a world outside;
//! * `vhost_user`: a daemon whose front-end says anything.
#![forbid(unsafe_code)]

mod devices;
mod differential;
mod driver;
mod fdt;
mod guest;
mod loader;
mod machine;
mod model;
mod registers;
mod script;
mod serve;
mod user_net;
mod vhost_user;

pub use devices::{block, console, net, rng};
pub use fdt::play as fdt;
pub use loader::play as loader;
pub use machine::Outcome;
pub use registers::play as registers;
pub use script::Script;
pub use user_net::play as user_net;
pub use vhost_user::play as vhost_user;

use arbitrary::{Arbitrary, Unstructured};
use cubie_virtq::Features;

/// What a target makes of an input: the outcome's name, or `None` when the bytes stand for no run.
pub type Target = fn(&[u8]) -> Option<String>;

/// The targets by their names.
pub const TARGETS: [(&str, Target); 13] = [
    ("split", |bytes| named(bytes, split)),
    ("indirect", |bytes| named(bytes, indirect)),
    ("packed", |bytes| named(bytes, packed)),
    ("differential", |bytes| named(bytes, differential)),
    ("registers", registers),
    ("block", block),
    ("net", net),
    ("console", console),
    ("rng", rng),
    ("loader", loader),
    ("fdt", fdt),
    ("user_net", user_net),
    ("vhost_user", vhost_user),
];

fn named(bytes: &[u8], run: fn(&Script) -> Outcome) -> Option<String> {
    let script = Script::arbitrary_take_rest(Unstructured::new(bytes)).ok()?;
    Some(run(&script).name())
}

/// The split ring, without indirect tables.
pub fn split(script: &Script) -> Outcome {
    machine::play(script, Features::default())
}

/// The split ring with indirect tables.
pub fn indirect(script: &Script) -> Outcome {
    machine::play(script, Features::INDIRECT)
}

/// The packed ring, with indirect tables.
pub fn packed(script: &Script) -> Outcome {
    machine::play(script, Features::PACKED.with(Features::INDIRECT))
}

/// The split ring and rust-vmm's under the same guest.
pub fn differential(script: &Script) -> Outcome {
    differential::compare(script)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Inputs are named after what they come to; what follows a dot tells those apart that come to the same.
    #[test]
    fn every_committed_input_comes_to_what_it_is_named_after() {
        for (target, run) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
            for file in fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                let outcome = run(&fs::read(&path).unwrap());
                // With two vCPUs, it depends on which comes first.
                if target != "registers" {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap();
                    let name = name.split('.').next().map(str::to_owned);
                    assert_eq!(outcome, name, "{}", path.display());
                }
            }
        }
    }
}
