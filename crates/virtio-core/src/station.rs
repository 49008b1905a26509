//! Who holds a device's host end.

use std::io;

use crate::{Handler, Running, spawn};

/// A device's host end is either parked with the device or runs with its worker, never both.
#[derive(Debug)]
pub enum Station<B, H: Handler> {
    /// With the device: not started.
    Parked(B),
    /// With the worker.
    Running(Running<H>),
    /// On its way, or lost with a worker that panicked.
    Moving,
}

impl<B, H: Handler> Station<B, H> {
    /// The host end while it is parked: for what a device [saves](crate::VirtioDevice::save) of it.
    pub fn parked(&self) -> Option<&B> {
        match self {
            Self::Parked(host_end) => Some(host_end),
            Self::Running(_) | Self::Moving => None,
        }
    }

    /// See [`Station::parked`]: for what a device [restores](crate::VirtioDevice::restore).
    pub fn parked_mut(&mut self) -> Option<&mut B> {
        match self {
            Self::Parked(host_end) => Some(host_end),
            Self::Running(_) | Self::Moving => None,
        }
    }

    /// The host end, if it is parked: for a device that is made into another.
    pub fn into_parked(self) -> Option<B> {
        match self {
            Self::Parked(host_end) => Some(host_end),
            Self::Running(_) | Self::Moving => None,
        }
    }

    /// Makes a handler of the parked host end and runs it on a thread called `name`. `park` takes the
    /// host end back out of the handler when the host has no thread for it.
    pub fn start(
        &mut self,
        name: &str,
        build: impl FnOnce(B) -> H,
        park: impl FnOnce(H) -> B,
    ) -> io::Result<()> {
        let host_end = match std::mem::replace(self, Self::Moving) {
            Self::Parked(host_end) => host_end,
            other => {
                *self = other;
                return Err(io::Error::other("the device was not parked"));
            }
        };
        match spawn(name, build(host_end)) {
            Ok(running) => {
                *self = Self::Running(running);
                Ok(())
            }
            Err((error, handler)) => {
                *self = Self::Parked(park(handler));
                Err(error)
            }
        }
    }

    /// Stops the worker and parks the host end again; what else `park` finds in the handler is
    /// returned. `None` when nothing ran.
    pub fn stop<R>(&mut self, park: impl FnOnce(H) -> (B, R)) -> Option<R> {
        match std::mem::replace(self, Self::Moving) {
            Self::Running(running) => {
                let (host_end, rest) = park(running.stop());
                *self = Self::Parked(host_end);
                Some(rest)
            }
            other => {
                *self = other;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    struct Holder(String);
    impl Handler for Holder {
        fn sources(&self) -> Vec<Source> {
            vec![]
        }
        fn ready(&mut self, _token: u32) {}
    }

    #[test]
    fn the_host_end_goes_to_the_worker_and_comes_back() {
        let mut station = Station::Parked("tap".to_string());
        station.start("holder", Holder, |h| h.0).unwrap();
        assert!(matches!(station, Station::Running(_)));
        assert!(station.start("holder", |_| unreachable!(), |h| h.0).is_err(), "only once");
        assert!(matches!(station, Station::Running(_)), "a second start changes nothing");
    }

    #[test]
    fn stop_without_start_does_nothing() {
        let mut station = Station::<_, Holder>::Parked("tap".to_string());
        assert_eq!(station.stop(|h| (h.0, ())), None);
        station.start("holder", Holder, |h| h.0).unwrap();
        assert!(station.parked().is_none() && station.parked_mut().is_none(), "it runs");
        assert_eq!(station.stop(|h| (h.0, 7)), Some(7));
        assert_eq!(station.parked().map(String::as_str), Some("tap"));
        assert_eq!(station.into_parked().as_deref(), Some("tap"));
    }
}
