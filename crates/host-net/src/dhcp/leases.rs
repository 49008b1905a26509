//! Which address is whose.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How long an address is a client's, unless it asks again.
pub(super) const TERM: Duration = Duration::from_secs(3600);

pub(super) type Mac = [u8; 6];

/// The addresses of a network, at most as many as there are in the pool.
#[derive(Debug)]
pub(super) struct Leases {
    pool: Vec<Ipv4Addr>,
    given: Vec<Lease>,
}

#[derive(Debug)]
struct Lease {
    address: Ipv4Addr,
    /// Nobody that we know: a client has found the address in use.
    client: Option<Mac>,
    until: Instant,
}

impl Leases {
    pub(super) fn new(pool: Vec<Ipv4Addr>) -> Self {
        Self { pool, given: vec![] }
    }

    /// An address for `client`: its own if it has one, else the one that it `wants`, else any.
    pub(super) fn offer(
        &mut self,
        client: Mac,
        wants: Option<Ipv4Addr>,
        now: Instant,
    ) -> Option<Ipv4Addr> {
        let own = self.given.iter().find(|lease| lease.client == Some(client));
        let address = own.map(|lease| lease.address).or_else(|| self.free(wants, now))?;
        self.give(address, Some(client), now);
        Some(address)
    }

    /// Whether `client` may use `address` from now on.
    pub(super) fn confirm(&mut self, client: Mac, address: Ipv4Addr, now: Instant) -> bool {
        self.offer(client, Some(address), now) == Some(address)
    }

    /// `client` does not use its address any more.
    pub(super) fn release(&mut self, client: Mac) {
        self.given.retain(|lease| lease.client != Some(client));
    }

    /// `client` has found somebody else at its address.
    pub(super) fn decline(&mut self, client: Mac, now: Instant) {
        for lease in self.given.iter_mut().filter(|lease| lease.client == Some(client)) {
            (lease.client, lease.until) = (None, now + TERM);
        }
    }

    fn free(&self, wants: Option<Ipv4Addr>, now: Instant) -> Option<Ipv4Addr> {
        let lease = |address| self.given.iter().find(move |lease| lease.address == address);
        let untouched = |address: &Ipv4Addr| lease(*address).is_none();
        let wanted = wants.filter(|address| self.pool.contains(address) && untouched(address));
        let over = |address: &Ipv4Addr| lease(*address).is_some_and(|lease| lease.until <= now);
        // A network of one guest: whoever asks is that guest, maybe with another card.
        let only = (self.pool.len() == 1).then(|| self.pool[0]);
        let pool = || self.pool.iter().copied();
        wanted.or_else(|| pool().find(untouched)).or_else(|| pool().find(over)).or(only)
    }

    fn give(&mut self, address: Ipv4Addr, client: Option<Mac>, now: Instant) {
        self.given.retain(|lease| lease.address != address);
        self.given.push(Lease { address, client, until: now + TERM });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];
    const C: Mac = [2, 0, 0, 0, 0, 3];

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, 8, last)
    }

    fn two() -> (Leases, Instant) {
        (Leases::new(vec![address(2), address(3)]), Instant::now())
    }

    #[test]
    fn each_client_keeps_an_address_of_its_own() {
        let (mut leases, now) = two();
        assert_eq!(leases.offer(A, None, now), Some(address(2)));
        assert_eq!(leases.offer(B, None, now), Some(address(3)));
        assert_eq!(leases.offer(A, Some(address(3)), now), Some(address(2)));
        assert_eq!(leases.offer(C, None, now), None);
        assert!(leases.confirm(A, address(2), now) && !leases.confirm(A, address(3), now));
    }

    #[test]
    fn a_client_gets_what_it_wants_if_that_is_free() {
        let (mut leases, now) = two();
        assert_eq!(leases.offer(A, Some(address(3)), now), Some(address(3)));
        assert_eq!(leases.offer(B, Some(address(99)), now), Some(address(2)));
    }

    #[test]
    fn an_address_that_nobody_renews_goes_to_the_next() {
        let (mut leases, now) = two();
        leases.offer(A, None, now);
        leases.offer(B, None, now + TERM / 2);
        assert_eq!(leases.offer(C, None, now + TERM), Some(address(2)));
        assert_eq!(leases.offer(A, None, now + TERM), None);
    }

    #[test]
    fn an_address_comes_back_and_one_in_use_elsewhere_does_not() {
        let (mut leases, now) = two();
        leases.offer(A, None, now);
        leases.release(A);
        assert_eq!(leases.offer(B, None, now), Some(address(2)));
        leases.decline(B, now);
        assert_eq!(leases.offer(B, None, now), Some(address(3)));
        assert_eq!(leases.offer(A, None, now), None);
        assert_eq!(leases.offer(A, None, now + TERM), Some(address(2)));
    }

    #[test]
    fn the_only_guest_may_change_its_card() {
        let now = Instant::now();
        let mut leases = Leases::new(vec![address(2)]);
        assert_eq!(leases.offer(A, None, now), Some(address(2)));
        assert_eq!(leases.offer(B, None, now), Some(address(2)));
    }

    #[test]
    fn a_thousand_clients_take_no_more_room_than_there_are_addresses() {
        let (mut leases, now) = two();
        for n in 0..1000u16 {
            let [high, low] = n.to_be_bytes();
            leases.offer([2, 0, 0, 0, high, low], None, now + TERM * u32::from(n));
        }
        assert_eq!(leases.given.len(), 2);
    }
}
