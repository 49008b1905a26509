//! Random sources.

use std::io;

use cubie_virtio_rng::EntropySource;

use super::faulty::Met;
use crate::{Errno, Faulty};

impl<S: EntropySource> EntropySource for Faulty<S> {
    fn fill(&mut self, data: &mut [u8]) -> io::Result<()> {
        match self.meet("fill") {
            None => self.inner.fill(data),
            Some(Met::Error(errno)) => Err(errno.into()),
            Some(Met::Short) => {
                let half = data.len() / 2;
                self.inner.fill(&mut data[..half])?;
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Some(Met::Death) => Err(Errno::NODEV.into()),
        }
    }
}
