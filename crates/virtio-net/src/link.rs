//! The card's link, up or down.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cubie_virtio_core::Config;
use vmm_sys_util::eventfd::EventFd;

use crate::Mac;
use crate::protocol::config::{self, ANNOUNCE, LINK_UP};

/// A handle on the card's cable, to be used at any time and from any thread. Clones share it.
///
/// While the link is down nothing passes: the guest is told, what it sends is dropped, and so is what the
/// host has for it.
#[derive(Clone, Debug)]
pub struct Link(Arc<Cable>);

#[derive(Debug)]
struct Cable {
    /// Frames pass: the cable is plugged in, and leads somewhere.
    up: AtomicBool,
    /// Whoever says so wants it to be plugged in.
    wanted: AtomicBool,
    /// The driver can be asked to announce itself.
    announces: AtomicBool,
    /// It was asked, and has not said that it did.
    asked: AtomicBool,
    /// A host end is gone: the cable can be plugged in no more.
    lost: AtomicBool,
    config: Config,
    /// Rung at each change, as long as somebody listens.
    bells: Mutex<Vec<Weak<EventFd>>>,
}

impl Link {
    pub(crate) fn new(config: Config) -> Self {
        let [announces, asked, lost] = [(); 3].map(|()| AtomicBool::new(false));
        let [up, wanted] = [(); 2].map(|()| AtomicBool::new(true));
        let bells = Mutex::default();
        Self(Arc::new(Cable { up, wanted, announces, asked, lost, config, bells }))
    }

    /// Plugs the cable in or out. The guest is interrupted if that is a change. A cable whose host end is gone
    /// stays out.
    pub fn set_up(&self, up: bool) {
        // One after the other, so that the guest reads what was said last.
        let bells = self.bells();
        self.0.wanted.store(up, Ordering::Relaxed);
        self.settle(&bells);
    }

    /// The link is as it is wanted, if it can be.
    fn settle(&self, bells: &[Weak<EventFd>]) {
        let up = self.0.wanted.load(Ordering::Relaxed) && !self.is_lost();
        if self.0.up.swap(up, Ordering::Relaxed) != up {
            self.0.config.update(|bytes| config::change_status(bytes, LINK_UP, up));
            bells.iter().filter_map(Weak::upgrade).for_each(|bell| {
                // The counter of an eventfd cannot overflow by ones.
                let _ = bell.write(1);
            });
        }
    }

    /// The driver reads how the link is: that of a card that was restored reads how another's was.
    pub(crate) fn show(&self) {
        let _still = self.bells();
        let up = self.is_up();
        if config::is_up(&self.0.config) != up {
            self.0.config.update(|bytes| config::change_status(bytes, LINK_UP, up));
        }
    }

    /// Whether a host end is gone.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Hears of a host end's `error`. If that is that it is gone, the link is down for good.
    pub(crate) fn is_lost_by(&self, error: &io::Error) -> bool {
        let lost = error.kind() == io::ErrorKind::NotFound;
        if lost && !self.0.lost.swap(true, Ordering::Relaxed) {
            tracing::warn!("the link is down for good: {error}");
            self.settle(&self.bells());
        }
        lost
    }

    /// Asks a host end for something, which makes no difference any more when it is gone.
    pub(crate) fn unless_lost(&self, ask: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.is_lost() {
            return Ok(());
        }
        ask().or_else(|error| if self.is_lost_by(&error) { Ok(()) } else { Err(error) })
    }

    /// Has `bell` written when the cable is plugged in or out, for who does not look at it for each frame.
    pub(crate) fn watch(&self, bell: &Arc<EventFd>) {
        let mut bells = self.bells();
        bells.retain(|bell| bell.strong_count() > 0);
        bells.push(Arc::downgrade(bell));
    }

    fn bells(&self) -> MutexGuard<'_, Vec<Weak<EventFd>>> {
        self.0.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether frames pass.
    pub fn is_up(&self) -> bool {
        self.0.up.load(Ordering::Relaxed)
    }

    /// Asks the guest to announce itself to the network, which may have to learn anew where it is. `false` if
    /// its driver cannot be asked (VIRTIO 1.4 §5.1.6.5.4).
    pub fn announce(&self) -> bool {
        let can = self.0.announces.load(Ordering::Relaxed);
        if can {
            self.ask(true);
        }
        can
    }

    /// A driver starts, which can be asked to announce itself or not, and was not asked yet.
    pub(crate) fn begin(&self, announces: bool) {
        self.0.announces.store(announces, Ordering::Relaxed);
        self.announced();
    }

    /// The driver has announced itself.
    pub(crate) fn announced(&self) {
        if self.0.asked.load(Ordering::Relaxed) {
            self.ask(false);
        }
    }

    /// For a snapshot, whose configuration says what the driver reads: a bit each for wanted, announces, asked. That a
    /// host end is gone is no other card's affair.
    pub(crate) fn save(&self) -> u8 {
        let Cable { up: _, wanted, announces, asked, lost: _, config: _, bells: _ } = &*self.0;
        let bit = |(n, flag): (u32, &AtomicBool)| u8::from(flag.load(Ordering::Relaxed)) << n;
        (0..).zip([wanted, announces, asked]).map(bit).sum()
    }

    /// What [`Link::save`] returned of another card. Its driver reads of it after [`Link::show`].
    pub(crate) fn restore(&self, saved: u8) {
        let Cable { up, wanted, announces, asked, lost: _, config: _, bells: _ } = &*self.0;
        for (n, flag) in (0..).zip([wanted, announces, asked]) {
            flag.store(saved >> n & 1 != 0, Ordering::Relaxed);
        }
        up.store(wanted.load(Ordering::Relaxed) && !self.is_lost(), Ordering::Relaxed);
    }

    /// The driver reads that the card has this address.
    pub(crate) fn show_mac(&self, mac: Mac) {
        let mut there = [0; 6];
        self.0.config.read(config::MAC, &mut there);
        if there != mac.bytes() {
            self.0.config.update(|bytes| config::set_mac(bytes, mac));
        }
    }

    fn ask(&self, asked: bool) {
        self.0.config.update(|bytes| {
            self.0.asked.store(asked, Ordering::Relaxed);
            config::change_status(bytes, ANNOUNCE, asked);
        });
    }
}
