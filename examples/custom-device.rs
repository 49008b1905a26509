//! A new device in one file: a flight recorder. What a guest says before it crashes is there for the next.
//!
//! ```text
//!            queue 0: lines ──────►  ┌──────────┐
//!   driver                           │ Recorder │  keeps the last lines, whoever resets or saves it
//!            queue 1: lines ◄──────  └──────────┘
//!            config:  level ◄───── Level: the host says, at any time, how much it wants to hear
//! ```
//!
//! `cargo run --example custom-device` plays it with a driver, without a VM; docs/your-device.md explains it.

use std::{collections::VecDeque, time::Duration};

use cubie::virtio::{
    Config, DeviceId, Features, Handler, QueueState, Queues, RestoreError, Source, StartError,
    Station, VirtioDevice, Virtqueue,
};
use cubie::virtq::Serve;
use cubie_testkit::{Descriptor, Guest, RawDriver, Slot};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_DEVICE_ID, VIRTIO_MMIO_INTERRUPT_STATUS,
};
use vm_memory::{Bytes, GuestAddress};

const RECORD: u16 = 0;
const REPLAY: u16 = 1;
/// What a guest can make the host keep has a bound.
const MOST_LINES: usize = 64;
const MOST_BYTES: usize = 256;
/// First byte of a saved recorder.
const VERSION: u8 = 1;

/// The control plane: who it is, and the two verbs start and stop.
struct Recorder {
    config: Config,
    station: Station<Lines, Recording>,
}

/// What outlives the worker: it is parked with the device while that does not run.
type Lines = VecDeque<Vec<u8>>;

impl Recorder {
    /// A recorder for lines up to `level`, and the host's handle to change that.
    fn new(level: u32) -> (Self, Level) {
        let config = Config::new(level.to_le_bytes());
        let station = Station::Parked(Lines::new());
        (Self { config: config.clone(), station }, Level(config))
    }
}

struct Level(Config);

impl Level {
    /// Changes the configuration's only field. The driver is interrupted.
    fn set(&self, level: u32) {
        self.0.update(|config| config.copy_from_slice(&level.to_le_bytes()));
    }
}

impl VirtioDevice for Recorder {
    fn id(&self) -> DeviceId {
        DeviceId(65535) // experiments count down from here (VIRTIO 1.4 §B.3)
    }
    fn features(&self) -> Features {
        Features::default()
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16; 2]
    }
    fn config(&self) -> &Config {
        &self.config
    }
    fn start(&mut self, _: Features, mut queues: Queues) -> Result<(), StartError> {
        let (record, replay) = (queues.take(RECORD)?, queues.take(REPLAY)?);
        let build = |lines| Recording { lines, record, replay };
        Ok(self.station.start("recorder", build, |recording| recording.lines)?)
    }
    fn stop(&mut self) -> Vec<QueueState> {
        let park = |it: Recording| (it.lines, vec![it.record.state(), it.replay.state()]);
        self.station.stop(park).unwrap_or_default()
    }

    /// The lines, each with its length before it: what a snapshot cannot know without us.
    fn save(&self) -> Vec<u8> {
        let mut state = vec![VERSION];
        for line in self.station.parked().into_iter().flatten() {
            state.extend((line.len() as u16).to_le_bytes());
            state.extend(line);
        }
        state
    }
    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let refused = || RestoreError::Refused("these are no lines of a recorder".into());
        self.station = Station::Parked(saved_lines(state).ok_or_else(refused)?);
        Ok(())
    }
}

/// What `save` wrote. It may be from anybody's file: the bounds hold for it as well.
fn saved_lines(state: &[u8]) -> Option<Lines> {
    let (mut lines, mut rest) = (Lines::new(), state.strip_prefix(&[VERSION])?);
    while let Some((len, more)) = rest.split_first_chunk() {
        let (line, more) = more.split_at_checked(u16::from_le_bytes(*len).into())?;
        lines.push_back(line.to_vec());
        rest = more;
    }
    let bounded = lines.len() <= MOST_LINES && lines.iter().all(|line| line.len() <= MOST_BYTES);
    (bounded && rest.is_empty()).then_some(lines)
}

/// The data plane: owns lines and queues, on a thread of its own, while the device runs.
struct Recording {
    lines: Lines,
    record: Virtqueue,
    replay: Virtqueue,
}

impl Handler for Recording {
    fn sources(&self) -> Vec<Source> {
        let record = Source::readable(self.record.kick(), RECORD.into());
        vec![record, Source::readable(self.replay.kick(), REPLAY.into())]
    }

    fn ready(&mut self, token: u32) {
        let Self { lines, record, replay } = self;
        if token == u32::from(RECORD) {
            record.drain(|mut chain| {
                let mut line = vec![0; chain.readable().len().min(MOST_BYTES)];
                chain.readable().read(&mut line);
                lines.truncate(MOST_LINES - 1); // the oldest ones go
                lines.push_front(line);
                Serve::Done(chain, 0)
            });
        } else {
            replay.drain(|mut chain| {
                let line = lines.pop_back().unwrap_or_default(); // of no bytes: there are no more
                let written = chain.writable().write(&line) as u32;
                Serve::Done(chain, written)
            });
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(10);

/// The guest's end.
struct Driver {
    slot: Slot,
    rings: RawDriver,
    buffer: GuestAddress,
}

impl Driver {
    /// Resets the device and sets its queues up.
    fn new(slot: Slot) -> Self {
        let rings = RawDriver::new(&slot, Features::default(), &[16; 2]);
        let buffer = slot.guest().buffer(2 * MOST_BYTES);
        Self { slot, rings, buffer }
    }

    /// How much the host wants to hear.
    fn level(&self) -> u32 {
        self.slot.register(VIRTIO_MMIO_CONFIG)
    }

    /// Has a line recorded, unless it is a detail that the host does not want.
    fn log(&mut self, level: u32, line: &str) -> anyhow::Result<()> {
        if level <= self.level() {
            self.slot.guest().memory().write_slice(line.as_bytes(), self.buffer)?;
            let line = Descriptor::readable(self.buffer.0, line.len() as u32);
            self.rings.offer(RECORD.into(), &[line]);
            self.rings.wait_used(RECORD.into(), DEADLINE);
        }
        Ok(())
    }

    /// Takes the oldest line, if there is one.
    fn replay(&mut self) -> anyhow::Result<Option<String>> {
        let room = Descriptor::writable(self.buffer.0, MOST_BYTES as u32);
        self.rings.offer(REPLAY.into(), &[room]);
        let used = self.rings.wait_used(REPLAY.into(), DEADLINE);
        let mut line = vec![0; used.written as usize];
        self.slot.guest().memory().read_slice(&mut line, self.buffer)?;
        Ok(Some(String::from_utf8(line)?).filter(|line| !line.is_empty()))
    }
}

fn main() -> anyhow::Result<()> {
    let (recorder, host) = Recorder::new(1);
    let guest = Guest::new();
    let mut driver = Driver::new(guest.plug(Box::new(recorder)));
    let id = driver.slot.register(VIRTIO_MMIO_DEVICE_ID);
    println!("a driver starts device {id:#x} at level {}", driver.level());
    driver.log(1, "booting")?;
    driver.log(2, "a detail that nobody wants")?;

    host.set(2);
    let reason = driver.slot.register(VIRTIO_MMIO_INTERRUPT_STATUS);
    println!("the host wants more: interrupt {reason:#b}, level {}", driver.level());
    driver.log(2, "a detail that is wanted now")?;

    let state = driver.slot.save();
    let (recorder, _host) = Recorder::new(1);
    driver.slot.restore(Box::new(recorder), &state)?;
    driver.slot.resume()?;
    println!("the machine is saved, and goes on as another one: level {}", driver.level());
    driver.log(0, "out of memory")?;

    println!("the guest crashes; the device is unplugged and plugged in elsewhere");
    let mut driver = Driver::new(guest.plug(driver.slot.unplug()));
    let mut lines = vec![];
    while let Some(line) = driver.replay()? {
        println!("the next driver reads: {line}");
        lines.push(line);
    }
    let expected = ["booting", "a detail that is wanted now", "out of memory"];
    anyhow::ensure!(lines == expected, "these lines were lost or invented: {lines:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    cubie_testkit::conformance!(|| Box::new(Recorder::new(0).0));

    #[test]
    fn the_story_ends_well() {
        main().unwrap();
    }

    #[test]
    fn a_guest_that_logs_without_end_is_given_a_bounded_place() {
        let mut driver = Driver::new(Guest::new().plug(Box::new(Recorder::new(0).0)));
        for number in 0..MOST_LINES + 2 {
            driver.log(0, &format!("{number:<300}")).unwrap();
        }
        driver.log(0, "last").unwrap();
        let lines: Vec<_> = std::iter::from_fn(|| driver.replay().unwrap()).collect();
        assert_eq!(lines.len(), MOST_LINES);
        assert_eq!((lines[0].trim_end(), lines[0].len()), ("3", MOST_BYTES));
        assert_eq!(lines[MOST_LINES - 1], "last");
    }

    #[test]
    fn what_is_not_a_recorders_is_refused() {
        let (mut recorder, _host) = Recorder::new(0);
        recorder.restore(&[1, 2, 0, b'h', b'i', 0, 0]).unwrap();
        let line = |len: u16| [&len.to_le_bytes()[..], &vec![b'x'; len.into()]].concat();
        let too_many = [&[1], &line(1).repeat(MOST_LINES + 1)[..]].concat();
        let too_long = [&[1], &line(MOST_BYTES as u16 + 1)[..]].concat();
        for bad in [&[][..], &[2], &[1, 0], &[1, 2, 0, b'h'], &too_many, &too_long] {
            let error = recorder.restore(bad).unwrap_err();
            assert!(error.to_string().ends_with("no lines of a recorder"), "{error}");
        }
        assert_eq!(recorder.save(), [1, 2, 0, b'h', b'i', 0, 0]);
    }
}
