//! Makes the committed seeds of a target out of what a long run has found: the smallest input of each
//! outcome, named after it.
//!
//! `cargo run --bin seeds -- split target/corpus/split corpus/split`

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs, io};

use arbitrary::{Arbitrary, Unstructured};
use cubie_fuzz::{Outcome, Script, TARGETS};

fn main() -> io::Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let [target, found, seeds] = args.as_slice() else {
        return Err(io::Error::other("seeds TARGET FOUND SEEDS: a target and two folders"));
    };
    let target = TARGETS.iter().find(|(name, _)| name == target);
    let (_, run) = target.ok_or_else(|| io::Error::other("no such target"))?;
    let mut smallest: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for file in fs::read_dir(found)? {
        let bytes = fs::read(file?.path())?;
        let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(&bytes)) else { continue };
        let best = smallest.entry(name(&run(&script))).or_insert_with(|| bytes.clone());
        if bytes.len() < best.len() {
            *best = bytes;
        }
    }
    fs::create_dir_all(seeds)?;
    for (name, bytes) in smallest {
        println!("{name}: {} bytes", bytes.len());
        fs::write(Path::new(seeds).join(name), bytes)?;
    }
    Ok(())
}

/// What came of it, as a file's name: `served-4`, `descriptor-index`, `descriptor-index-after-2`.
fn name(outcome: &Outcome) -> String {
    let served = outcome.served.checked_next_power_of_two().unwrap_or(0) * outcome.served.min(1);
    let Some(error) = outcome.error else { return format!("served-{served}") };
    let variant = format!("{error:?}");
    let variant = variant.split([' ', '(']).next().unwrap_or_default();
    let mut name = String::new();
    for letter in variant.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    if served > 0 { format!("{name}-after-{}", served.min(1)) } else { name }
}
