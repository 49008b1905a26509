//! Flows, found by their two ends or by an event, with a bound and an end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::events::Token;

/// The two ends of a flow, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Path {
    pub(crate) guest: SocketAddr,
    /// Of the same family.
    pub(crate) remote: SocketAddr,
}

/// Flows of one kind.
#[derive(Debug)]
pub(crate) struct Table<F> {
    entries: HashMap<Path, Entry<F>>,
    paths: HashMap<Token, Path>,
    most: usize,
    idle: Duration,
    /// No flow has been idle for too long before.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Entry<F> {
    flow: F,
    token: Option<Token>,
    used: Instant,
}

impl<F> Table<F> {
    /// Room for `most` flows, each of which may be `idle` for so long.
    pub(crate) fn new(most: usize, idle: Duration) -> Self {
        let (entries, paths) = (HashMap::new(), HashMap::new());
        Self { entries, paths, most: most.max(1), idle, next: None }
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

    pub(crate) fn insert(&mut self, path: Path, token: Option<Token>, flow: F, now: Instant) {
        self.remove(&path);
        self.paths.extend(token.map(|token| (token, path)));
        self.entries.insert(path, Entry { flow, token, used: now });
        self.next = self.next.or(Some(now + self.idle));
    }

    pub(crate) fn remove(&mut self, path: &Path) -> Option<F> {
        let Entry { flow, token, used: _ } = self.entries.remove(path)?;
        token.and_then(|token| self.paths.remove(&token));
        Some(flow)
    }

    /// The flow that has to go before another one can come, of those that `may_go`. If none may, no
    /// other one can come: `EUSERS`.
    pub(crate) fn in_the_way(&self, may_go: impl Fn(&F) -> bool) -> Result<Option<Path>, Errno> {
        if self.entries.len() < self.most {
            return Ok(None);
        }
        let may_go = self.entries.iter().filter(|(_, entry)| may_go(&entry.flow));
        let (path, _) = may_go.min_by_key(|(_, entry)| entry.used).ok_or(Errno::USERS)?;
        Ok(Some(*path))
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
        let mut table = Table::new(3, Duration::from_secs(60));
        for port in 1..=3 {
            assert_eq!(table.in_the_way(|_| true), Ok(None));
            table.insert(path(port), None, port, at(port.into()));
        }
        assert_eq!(table.in_the_way(|_| true), Ok(Some(path(1))));
        assert_eq!(table.touch(&path(1), at(9)), Some(&mut 1));
        assert_eq!(table.in_the_way(|_| true), Ok(Some(path(2))));
        assert_eq!(table.in_the_way(|port| *port != 2), Ok(Some(path(3))));
        assert_eq!(table.in_the_way(|_| false), Err(Errno::USERS));
        assert_eq!(table.remove(&path(2)), Some(2));
        assert_eq!(table.in_the_way(|_| false), Ok(None));
    }

    #[test]
    fn a_flow_ends_when_it_has_been_idle_and_not_before() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut table = Table::new(8, Duration::from_secs(60));
        assert_eq!(table.next(), None);
        table.insert(path(1), None, (), at(0));
        table.insert(path(2), None, (), at(10));
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
