//! Makes the committed seeds of a target out of what a long run has found: the smallest input of each
//! outcome, named after it.
//!
//! `cargo run --bin seeds -- split target/corpus/split corpus/split`

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs, io};

use cubie_fuzz::TARGETS;

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
        let Some(outcome) = run(&bytes) else { continue };
        let best = smallest.entry(outcome).or_insert_with(|| bytes.clone());
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
