//! A notice board between the control queue and the pairs: each pair has a bell, reads what is new when it
//! rings, and says when it acts by it. Nobody looks at it for a frame.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::control::DataPlane;
use crate::settings::Settings;

/// Where the settings are posted.
#[derive(Debug)]
pub(crate) struct Board {
    notice: Arc<Mutex<Notice>>,
    bells: Vec<EventFd>,
    answered: EventFd,
}

/// A pair's place before the board.
#[derive(Debug)]
pub(crate) struct Seat {
    notice: Arc<Mutex<Notice>>,
    pair: u16,
    bell: EventFd,
    answered: EventFd,
    /// Somebody was told that a host end refuses something. The card's, since its driver may ask again and again.
    complained: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Notice {
    settings: Settings,
    /// Pairs that have not answered.
    open: Vec<bool>,
    refused: bool,
}

impl Board {
    /// A board for so many pairs, and their places. They act by `settings` first, but nobody waits for that.
    /// What a host end refuses is told once, which `complained` remembers.
    pub(crate) fn new(
        pairs: u16,
        settings: Settings,
        complained: &Arc<AtomicBool>,
    ) -> io::Result<(Self, Vec<Seat>)> {
        let open = vec![false; pairs.into()];
        let notice = Arc::new(Mutex::new(Notice { settings, open, refused: false }));
        let answered = EventFd::new(EFD_NONBLOCK)?;
        let seat = |pair| {
            let (bell, answered) = (EventFd::new(EFD_NONBLOCK)?, answered.try_clone()?);
            let (notice, complained) = (Arc::clone(&notice), Arc::clone(complained));
            Ok(Seat { notice, pair, bell, answered, complained })
        };
        let seats: Vec<_> = (0..pairs).map(seat).collect::<io::Result<_>>()?;
        let bells = seats.iter().map(|seat| seat.bell.try_clone()).collect::<io::Result<_>>()?;
        Ok((Self { notice, bells, answered }, seats))
    }
}

impl DataPlane for Board {
    fn apply(&mut self, settings: Settings) {
        let mut notice = lock(&self.notice);
        notice.settings = settings;
        notice.open.fill(true);
        notice.refused = false;
        drop(notice);
        self.bells.iter().for_each(ring);
    }

    fn outcome(&mut self) -> Option<bool> {
        let notice = lock(&self.notice);
        (!notice.open.contains(&true)).then_some(!notice.refused)
    }

    fn ready(&self) -> &EventFd {
        &self.answered
    }
}

impl Seat {
    /// Which pair sits here.
    pub(crate) fn pair(&self) -> u16 {
        self.pair
    }

    /// Rings when something new is posted.
    pub(crate) fn bell(&self) -> &EventFd {
        &self.bell
    }

    /// What is posted.
    pub(crate) fn settings(&self) -> Settings {
        lock(&self.notice).settings.clone()
    }

    /// Has `act` done what is posted, and passes on whether it could.
    pub(crate) fn obey(&self, act: impl FnOnce(&Settings) -> io::Result<()>) {
        let settings = self.settings();
        let done = act(&settings);
        if let Err(error) = &done {
            let (pair, what) = (self.pair, "the host does not do what the driver asks for");
            match self.complained.swap(true, Ordering::Relaxed) {
                false => tracing::warn!(pair, %error, "{what}"),
                true => tracing::debug!(pair, %error, "{what}"),
            }
        }
        let mut notice = lock(&self.notice);
        // What was posted meanwhile rings again.
        if notice.settings == settings {
            notice.open[usize::from(self.pair)] = false;
            notice.refused |= done.is_err();
            drop(notice);
            ring(&self.answered);
        }
    }
}

fn ring(bell: &EventFd) {
    // The counter of an eventfd cannot overflow by ones.
    let _ = bell.write(1);
}

/// A notice is whole between two calls, even when one of them has panicked.
fn lock(notice: &Mutex<Notice>) -> MutexGuard<'_, Notice> {
    notice.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mac;
    use cubie_virtio_core::Features;

    fn settings(pairs: u16) -> Settings {
        Settings { pairs, ..Settings::new(Mac::made_from("test"), Features::default()) }
    }

    #[test]
    fn there_is_an_outcome_when_all_pairs_have_answered() {
        let (mut board, seats) = Board::new(2, settings(1), &Arc::default()).unwrap();
        assert_eq!(board.outcome(), Some(true), "nothing was asked for");
        for refusal in [false, true] {
            board.apply(settings(2));
            for seat in &seats {
                assert_eq!(board.outcome(), None);
                assert_eq!(seat.bell().read().unwrap(), 1);
                seat.obey(|settings| {
                    assert_eq!(settings.pairs, 2);
                    let refused = refusal && seat.pair() == 0;
                    if refused { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
                });
                assert_eq!(board.ready().read().unwrap(), 1);
            }
            assert_eq!(board.outcome(), Some(!refusal));
        }
    }

    #[test]
    fn an_answer_to_what_no_longer_holds_is_none() {
        let (mut board, seats) = Board::new(1, settings(1), &Arc::default()).unwrap();
        board.apply(settings(2));
        seats[0].obey(|_| {
            board.apply(settings(3));
            Ok(())
        });
        assert_eq!(board.outcome(), None);
        assert_eq!(seats[0].bell().read().unwrap(), 2);
    }
}
