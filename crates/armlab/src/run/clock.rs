//! When to give up: on a command, on a lab, on this process itself.

use crate::machine::variable;
use anyhow::Result;
use std::fmt;
use std::time::{Duration, Instant};

/// A lab that has been silent for so long hangs, unless `ARMLAB_HEARTBEAT` says otherwise.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// So often it is asked meanwhile whether it lives. The unanswered questions are counted, not timed: after
/// this process or the whole machine was suspended, a clock would say that the lab has been silent.
const QUESTIONS: u32 = 6;

/// How long a command may take to end after this process was told to end.
const GRACE: Duration = Duration::from_secs(3);

/// The run, or the lab, was ended because a time was up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired(pub(super) String);

impl fmt::Display for Expired {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Expired {}

#[derive(Debug)]
pub(super) struct Clock {
    heartbeat: Duration,
    /// Questions since the lab has last said anything.
    questions: u32,
    timeout: Option<(Instant, Duration)>,
    /// The signal that told this process to end, and when its patience ends.
    told: Option<(Instant, i32)>,
}

impl Clock {
    pub(super) fn start(timeout: Option<Duration>) -> Result<Clock> {
        Ok(Clock {
            heartbeat: variable("ARMLAB_HEARTBEAT")?.map_or(HEARTBEAT, Duration::from_secs),
            questions: 0,
            timeout: timeout.map(|limit| (Instant::now() + limit, limit)),
            told: None,
        })
    }

    /// This process was told by `signal` to end.
    pub(super) fn told_to_end(&mut self, signal: i32) {
        self.told.get_or_insert((Instant::now() + GRACE, signal));
    }

    /// The lab has said something.
    pub(super) fn answered(&mut self) {
        self.questions = 0;
    }

    /// The lab has said nothing for a while, and is asked. Returns for how long when that was too often.
    pub(super) fn ask(&mut self) -> Option<Duration> {
        self.questions += 1;
        (self.questions > QUESTIONS).then_some(self.heartbeat)
    }

    /// How long one may wait before looking at the clock again.
    pub(super) fn patience(&self) -> Duration {
        let times = [self.timeout.map(|(at, _)| at), self.told.map(|(at, _)| at)];
        let now = Instant::now();
        let left = times.into_iter().flatten().map(|at| at.saturating_duration_since(now));
        left.chain([self.heartbeat / QUESTIONS]).min().unwrap_or_default()
    }

    /// The signal to end by, when the command has not ended in time after it.
    pub(super) fn out_of_patience(&self) -> Option<i32> {
        self.told.filter(|(at, _)| Instant::now() >= *at).map(|(_, signal)| signal)
    }

    /// The command's time limit, when it is over.
    pub(super) fn out_of_time(&self) -> Option<Duration> {
        self.timeout.filter(|(at, _)| Instant::now() >= *at).map(|(_, limit)| limit)
    }
}
