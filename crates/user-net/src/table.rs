//! Flows, found by their two ends or by an event, with a bound and an end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::events::Token;

/// The two ends of a flow, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Path {
    pub(crate) guest: SocketAddr,
    /// Of the same family.
    pub(crate) remote: SocketAddr,
}

/// Who has begun a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Began {
    Guest,
    /// Somebody who came by a forwarded port.
    Host,
}

/// Flows of one kind. Those that the guest has begun and those that come in have places of their own.
#[derive(Debug)]
pub(crate) struct Table<F> {
    entries: HashMap<Path, Entry<F>>,
    paths: HashMap<Token, Path>,
    /// Of those that the guest has begun.
    most: usize,
    /// Of those that come in.
    most_inward: usize,
    idle: Duration,
    /// No flow has been idle for too long before.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Entry<F> {
    flow: F,
    began: Began,
    token: Option<Token>,
    used: Instant,
}

impl<F> Table<F> {
    /// Room for `most` flows of the guest's and `most_inward` that come in, each of which may be `idle` for
    /// so long.
    pub(crate) fn new(most: usize, most_inward: usize, idle: Duration) -> Self {
        let (entries, paths) = (HashMap::new(), HashMap::new());
        let (most, most_inward) = (most.max(1), most_inward.max(1));
        Self { entries, paths, most, most_inward, idle, next: None }
    }

    /// The flow, which has been used `now`.
    pub(crate) fn touch(&mut self, path: &Path, now: Instant) -> Option<&mut F> {
        let entry = self.entries.get_mut(path)?;
        entry.used = now;
        Some(&mut entry.flow)
    }

    pub(crate) fn get(&mut self, path: &Path) -> Option<&mut F> {
        self.entries.get_mut(path).map(|entry| &mut entry.flow)
    }

    pub(crate) fn peek(&self, path: &Path) -> Option<&F> {
        self.entries.get(path).map(|entry| &entry.flow)
    }

    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.entries.contains_key(path)
    }

    pub(crate) fn path_of(&self, token: Token) -> Option<Path> {
        self.paths.get(&token).copied()
    }

    pub(crate) fn insert(
        &mut self,
        path: Path,
        (began, token): (Began, Option<Token>),
        flow: F,
        now: Instant,
    ) {
        self.remove(&path);
        self.paths.extend(token.map(|token| (token, path)));
        self.entries.insert(path, Entry { flow, began, token, used: now });
        self.next = self.next.or(Some(now + self.idle));
    }

    pub(crate) fn remove(&mut self, path: &Path) -> Option<F> {
        let Entry { flow, token, .. } = self.entries.remove(path)?;
        token.and_then(|token| self.paths.remove(&token));
        Some(flow)
    }

    /// The flow that has to go before another one can come: of those that began so, the one that was silent
    /// for the longest time.
    pub(crate) fn in_the_way(&self, began: Began) -> Option<Path> {
        let most = match began {
            Began::Guest => self.most,
            Began::Host => self.most_inward,
        };
        let alike = || self.entries.iter().filter(|(_, entry)| entry.began == began);
        if alike().count() < most {
            return None;
        }
        alike().min_by_key(|(_, entry)| entry.used).map(|(path, _)| *path)
    }

    /// Flows that have been idle for too long.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Path> {
        if self.next.is_none_or(|next| now < next) {
            return vec![];
        }
        let Self { entries, idle, next, .. } = self;
        *next = None;
        let mut gone = vec![];
        for (path, entry) in entries {
            let end = entry.used + *idle;
            match end <= now {
                true => gone.push(*path),
                false => *next = Some(next.map_or(end, |next| next.min(end))),
            }
        }
        gone
    }

    /// When to ask again which flows have expired.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Path, &mut F)> {
        self.entries.iter_mut().map(|(path, entry)| (*path, &mut entry.flow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        let end = |port| SocketAddr::from(([10, 0, 2, 15], port));
        Path { guest: end(port), remote: end(80) }
    }

    #[test]
    fn the_flow_that_was_silent_for_the_longest_time_gives_way() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut table = Table::new(3, 1, Duration::from_secs(60));
        for port in 1..=3 {
            assert_eq!(table.in_the_way(Began::Guest), None);
            table.insert(path(port), (Began::Guest, None), port, at(port.into()));
        }
        assert_eq!(table.in_the_way(Began::Guest), Some(path(1)));
        assert_eq!(table.touch(&path(1), at(9)), Some(&mut 1));
        assert_eq!(table.in_the_way(Began::Guest), Some(path(2)));
        assert_eq!(table.in_the_way(Began::Host), None);
        table.insert(path(4), (Began::Host, None), 4, at(10));
        assert_eq!(table.in_the_way(Began::Host), Some(path(4)));
        assert_eq!(table.in_the_way(Began::Guest), Some(path(2)));
        assert_eq!(table.remove(&path(2)), Some(2));
        assert_eq!(table.in_the_way(Began::Guest), None);
    }

    #[test]
    fn a_flow_ends_when_it_has_been_idle_and_not_before() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut table = Table::new(8, 8, Duration::from_secs(60));
        assert_eq!(table.next(), None);
        table.insert(path(1), (Began::Guest, None), (), at(0));
        table.insert(path(2), (Began::Host, None), (), at(10));
        table.touch(&path(1), at(30));
        assert_eq!(table.expired(at(59)), []);
        assert_eq!(table.expired(at(60)), []);
        assert_eq!(table.next(), Some(at(70)));
        assert_eq!(table.expired(at(70)), [path(2)]);
        table.remove(&path(2));
        assert_eq!(table.next(), Some(at(90)));
        assert_eq!(table.expired(at(90)), [path(1)]);
    }
}
