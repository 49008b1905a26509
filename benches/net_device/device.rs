//! The devices' ends, each served by a thread of its own as long as it lives.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::io;

use anyhow::Context;
use cubie::net::{Mac, Net, NetBackend, Null, Tap};
use cubie::virtio::{Queues, VirtioDevice, spawn};
use nix::sched::{CloneFlags, unshare};

use crate::case::{Case, Direction};
use crate::driver::Pair;
use crate::peer::Peer;

pub(crate) struct Device {
    _serves: Box<dyn Any>,
    thread: String,
}

impl Device {
    /// Ours, without a host.
    pub(crate) fn on_null(case: &Case, pair: Pair) -> anyhow::Result<Self> {
        Self::card(null(case)?, pair)
    }

    /// Ours, with a host that takes frames and gives none.
    pub(crate) fn on_tap(case: &Case, pair: Pair) -> anyhow::Result<Self> {
        anyhow::ensure!(case.direction == Direction::Transmit, "nobody sends into the tap");
        Self::card(Tap::open(None)?, pair)
    }

    fn card(end: impl NetBackend, pair: Pair) -> anyhow::Result<Self> {
        Self::start(|| {
            let mut card = Net::new(end, Mac::made_from("bench"));
            card.start(pair.features, Queues::new(pair.queues))?;
            Ok(Box::new(card))
        })
    }

    /// A loop over `virtio-queue`.
    pub(crate) fn peer(case: &Case, pair: Pair) -> anyhow::Result<Self> {
        Self::start(|| {
            let peer = Peer::new(case, pair)?;
            Ok(Box::new(spawn("peer", peer).map_err(|(error, _)| error)?))
        })
    }

    fn start(start: impl FnOnce() -> anyhow::Result<Box<dyn Any>>) -> anyhow::Result<Self> {
        let before = threads()?;
        let serves = start()?;
        let thread = threads()?.difference(&before).next().context("a thread")?.clone();
        Ok(Self { _serves: serves, thread })
    }

    /// CPU time of its thread so far, in nanoseconds (Linux, Documentation/scheduler/sched-stats.rst).
    pub(crate) fn cpu_time(&self) -> anyhow::Result<u64> {
        let said = fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.thread))?;
        Ok(said.split(' ').next().context("schedstat")?.parse()?)
    }
}

/// The end of a cable that takes all and gives frames without end.
pub(crate) fn null(case: &Case) -> io::Result<Null> {
    let null = Null::new()?;
    Ok(match case.direction {
        Direction::Transmit => null,
        Direction::Receive => null.with_frames(u64::MAX, case.frame as usize),
    })
}

fn threads() -> io::Result<BTreeSet<String>> {
    let tasks = fs::read_dir("/proc/self/task")?;
    tasks.map(|task| Ok(task?.file_name().to_string_lossy().into_owned())).collect()
}

/// A network for this thread and all that it starts, with nobody in it.
pub(crate) fn enter_namespace() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    for who in ["all", "default"] {
        // Where there is no IPv6, there is nothing to be silenced.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{who}/disable_ipv6"), "1");
    }
    Ok(())
}
