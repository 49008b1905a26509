//! What every kind of flow works with.

use std::time::Instant;

use crate::events::Events;
use crate::frames::Outbox;
use crate::nat::Nat;
use crate::neighbours::Neighbours;
use crate::outside::Outside;

/// Both ends, and the present: frames for the guest, events of the host.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) outbox: Outbox,
    pub(crate) events: Events,
    pub(crate) outside: Box<dyn Outside>,
    pub(crate) nat: Nat,
    pub(crate) neighbours: Neighbours,
    pub(crate) now: Instant,
}
