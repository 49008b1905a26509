//! Slices of both daemons in turns.

use std::time::{Duration, Instant};

use crate::case::Case;
use crate::cpus::Cpus;
use crate::daemon::{Daemon, Who};
use crate::driver::Driver;
use crate::image::{Image, Place};
use crate::syscalls::Syscalls;

/// Slices of each daemon.
const SLICES: usize = 11;
const SLICE: Duration = Duration::from_millis(250);

/// What a daemon came to.
#[derive(Default)]
pub(crate) struct Figures {
    /// Nanoseconds a request, of each slice.
    pub(crate) wall: Vec<f64>,
    /// Nanoseconds of the daemon's CPU time a request, of each slice.
    pub(crate) cpu: Vec<f64>,
    /// System calls a request, if they could be counted.
    pub(crate) syscalls: Option<f64>,
}

pub(crate) struct Measured {
    pub(crate) case: Case,
    pub(crate) ours: Figures,
    pub(crate) peer: Figures,
}

struct Lane {
    driver: Driver,
    daemon: Daemon,
}

/// Measures all cases of a place.
pub(crate) fn all_on(place: Place, cpus: &Cpus) -> anyhow::Result<Vec<Measured>> {
    let image = Image::new(place)?;
    let mut ours = Lane::new(Who::Ours, &image, cpus)?;
    let mut peer = Lane::new(Who::Peer, &image, cpus)?;
    Case::all_on(place).into_iter().map(|case| one(case, &mut ours, &mut peer)).collect()
}

fn one(case: Case, ours: &mut Lane, peer: &mut Lane) -> anyhow::Result<Measured> {
    eprintln!("{case}");
    let mut measured = Measured { case, ours: Figures::default(), peer: Figures::default() };
    for slice in 0..=SLICES {
        for (lane, figures) in [(&mut *ours, &mut measured.ours), (peer, &mut measured.peer)] {
            let (wall, cpu) = lane.slice(&case)?;
            // The first one warms up.
            if slice > 0 {
                figures.wall.push(wall);
                figures.cpu.push(cpu);
            }
        }
    }
    for (lane, figures) in [(ours, &mut measured.ours), (peer, &mut measured.peer)] {
        figures.syscalls = lane.syscalls(&case)?;
    }
    Ok(measured)
}

impl Lane {
    fn new(who: Who, image: &Image, cpus: &Cpus) -> anyhow::Result<Self> {
        let daemon = Daemon::start(who, image, cpus)?;
        Ok(Self { driver: Driver::connect(&daemon.socket())?, daemon })
    }

    /// Nanoseconds a request, and those of the daemon's CPU time.
    fn slice(&mut self, case: &Case) -> anyhow::Result<(f64, f64)> {
        let (start, before) = (Instant::now(), self.daemon.cpu_time()?);
        let requests = self.driver.run(case, SLICE)? as f64;
        let (wall, cpu) = (start.elapsed(), self.daemon.cpu_time()? - before);
        Ok((wall.as_nanos() as f64 / requests, cpu.as_nanos() as f64 / requests))
    }

    /// System calls a request; `None` where the kernel does not count them for us.
    fn syscalls(&mut self, case: &Case) -> anyhow::Result<Option<f64>> {
        let calls = match Syscalls::of(self.daemon.pid()) {
            Ok(calls) => calls,
            Err(error) => {
                eprintln!("system calls are not counted: {error:#}");
                return Ok(None);
            }
        };
        let before = calls.count()?;
        let requests = self.driver.run(case, SLICE)? as f64;
        Ok(Some((calls.count()? - before) / requests))
    }
}
