//! All tables of two descriptors, in either ring, against a walk written for nothing but this.
//!
//! Each field takes the values at which something changes: 65,536 tables a ring. What is no chain by
//! the standard ends in an error, what is one arrives whole.

use std::sync::Arc;

use crate::bench::*;
use cubie_virtq::{Features, QueueError, QueueState};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Of the packed ring's flags.
const AVAILABLE: u16 = 1 << 7;

#[derive(Clone, Copy, Debug)]
struct Desc {
    address: u64,
    len: u32,
    flags: u16,
    link: u16,
}

/// Readable and writable bytes of a chain, and what the driver calls it.
type Found = Option<(usize, usize, u16)>;

/// The descriptor of this number, of 256.
fn desc(number: u32, packed: bool) -> Desc {
    let bit = |n: u32| number >> n & 1 == 1;
    let mut flags = (number & 7) as u16;
    let (len, mut link) = (if bit(3) { 16 } else { 1 }, (number >> 4 & 3) as u16);
    if packed {
        flags |= if bit(6) { AVAILABLE } else { 0 };
    } else {
        link = link.min(2);
    }
    // The second address has one byte of memory behind it.
    let address = if bit(7) { END - 1 } else { DATA };
    // The split ring's last bit makes two buffers too long together.
    let len = if !packed && bit(6) { u32::MAX } else { len };
    Desc { address, len, flags, link }
}

/// Adds a buffer to a chain; `Err` when it may not be there.
fn add(desc: Desc, total: &mut u64, found: &mut (usize, usize)) -> Result<(), ()> {
    *total += u64::from(desc.len);
    let there = desc.address + u64::from(desc.len) <= END;
    let backwards = desc.flags & WRITE == 0 && found.1 > 0;
    if !there || backwards || *total > u64::from(u32::MAX) {
        return Err(());
    }
    let sum = if desc.flags & WRITE == 0 { &mut found.0 } else { &mut found.1 };
    *sum += desc.len as usize;
    Ok(())
}

/// A table of one descriptor full of zeroes lies at `DATA`: a chain without bytes.
fn is_good_table(desc: Desc) -> bool {
    desc.flags & NEXT == 0 && desc.len == 16 && desc.address == DATA
}

fn in_split(table: [Desc; 2], head: u16) -> Result<Found, ()> {
    let (mut found, mut total, mut index) = ((0, 0), 0, head);
    for _ in 0..2 {
        let desc = *table.get(usize::from(index)).ok_or(())?;
        if desc.flags & INDIRECT != 0 {
            // Its buffer of no bytes is readable; an empty one may stand behind any other.
            let room = is_good_table(desc) && found.1 == 0;
            return room.then_some(Some((found.0, found.1, head))).ok_or(());
        }
        add(desc, &mut total, &mut found)?;
        if desc.flags & NEXT == 0 {
            return Ok(Some((found.0, found.1, head)));
        }
        index = desc.link;
    }
    // A third descriptor would be one more than the queue has, unless it is a table.
    Err(())
}

fn in_packed(ring: [Desc; 2]) -> Result<Found, ()> {
    let [first, second] = ring;
    if first.flags & AVAILABLE == 0 {
        return Ok(None);
    }
    let (mut found, mut total, mut last) = ((0, 0), 0, first);
    if first.flags & INDIRECT != 0 {
        is_good_table(first).then_some(()).ok_or(())?;
    } else {
        add(first, &mut total, &mut found)?;
        if first.flags & NEXT != 0 {
            last = second;
            add(second, &mut total, &mut found)?;
            (second.flags & (NEXT | INDIRECT) == 0).then_some(()).ok_or(())?;
        }
    }
    (last.link < 2).then_some(Some((found.0, found.1, last.link))).ok_or(())
}

/// Writes the table, and asks the queue.
fn ask(
    memory: &Arc<GuestMemoryMmap>,
    table: [Desc; 2],
    features: Features,
) -> Result<Found, QueueError> {
    for (i, Desc { address, len, flags, link }) in (0..).zip(table) {
        let packed = features.has(Features::PACKED);
        let (third, fourth) = if packed { (link, flags) } else { (flags, link) };
        let upper = u64::from(len) | u64::from(third) << 32 | u64::from(fourth) << 48;
        memory.write_obj(address.to_le(), GuestAddress(DESC + 16 * i)).unwrap();
        memory.write_obj(upper.to_le(), GuestAddress(DESC + 16 * i + 8)).unwrap();
    }
    let state = QueueState::fresh(features);
    let mut bench = Bench::with(memory.clone(), params(2), features, state).unwrap();
    let found = bench.queue.pop().map(|mut chain| {
        let (readable, writable) = chain.split();
        (readable.len(), writable.len(), chain.head())
    });
    bench.queue.error().map_or(Ok(found), Err)
}

/// Every how manyth table is tried: under Miri, which takes a second for each, sixteen of them.
const STEP: usize = if cfg!(miri) { 4099 } else { 1 };

fn tables(packed: bool) -> impl Iterator<Item = [Desc; 2]> {
    let numbers = (0..1u32 << 16).step_by(STEP);
    numbers.map(move |number| [desc(number & 0xff, packed), desc(number >> 8, packed)])
}

#[test]
fn every_split_table_of_two_is_a_chain_or_an_error() {
    let memory = memory();
    memory.write_obj(1u16.to_le(), GuestAddress(AVAIL + 2)).unwrap();
    let (mut chains, mut errors) = (0, 0);
    for table in tables(false) {
        let (found, expected) = (ask(&memory, table, Features::RING), in_split(table, 0));
        *(if expected.is_ok() { &mut chains } else { &mut errors }) += 1;
        assert_eq!(found.map_err(drop), expected, "{table:x?}: {found:?}");
    }
    assert!(chains > 0 && errors > 0, "{chains} chains, {errors} errors");
}

#[test]
fn every_packed_ring_of_two_is_a_chain_or_an_error_or_empty() {
    let memory = memory();
    let (mut chains, mut errors) = (0, 0);
    for table in tables(true) {
        let features = Features::RING.with(Features::PACKED);
        let (found, expected) = (ask(&memory, table, features), in_packed(table));
        *(if expected.is_ok() { &mut chains } else { &mut errors }) += 1;
        assert_eq!(found.map_err(drop), expected, "{table:x?}: {found:?}");
    }
    assert!(chains > 0 && errors > 0, "{chains} chains, {errors} errors");
}
