//! A file or block device of the host, byte for byte.

use std::path::Path;

use super::BlockBackend;
use super::image::{Image, ImageOptions, OpenError};
use crate::{Completion, Request, Topology};

/// A disk whose bytes are those of a file or a block device.
///
/// Every request is finished at once, on the worker's thread, by `preadv` and `pwritev`.
#[derive(Debug)]
pub struct RawFile(Image);

impl RawFile {
    /// What is in `image`.
    pub fn new(image: Image) -> Self {
        Self(image)
    }

    /// Opens `path`, for reading only if so asked, and otherwise as [`Image::open`] does without options.
    ///
    /// # Errors
    /// As those of [`Image::open`].
    pub fn open(path: impl AsRef<Path>, read_only: bool) -> Result<Self, OpenError> {
        Image::open(path, ImageOptions { read_only, ..ImageOptions::default() }).map(Self)
    }
}

impl BlockBackend for RawFile {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn is_read_only(&self) -> bool {
        self.0.is_read_only()
    }

    fn topology(&self) -> Topology {
        self.0.topology()
    }

    fn can_discard(&self) -> bool {
        self.0.can_discard()
    }

    fn can_write_zeroes(&self) -> bool {
        true
    }

    fn submit(&mut self, mut request: Request) -> Option<Completion> {
        let offset = request.operation().offset();
        let result = self.0.carry_out(&mut request, offset);
        Some(request.finish(result))
    }
}
