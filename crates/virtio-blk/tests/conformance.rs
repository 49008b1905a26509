//! What every device has to do.

use cubie_virtio_blk::{Blk, BlockBackend, Image, ImageOptions, MemoryDisk, RingFile};
use cubie_virtio_core::VirtioDevice;
use tempfile::NamedTempFile;

const LEN: usize = 64 << 10;

fn disk(backend: impl BlockBackend) -> Box<dyn VirtioDevice> {
    Box::new(Blk::new(backend, "conforming".parse().unwrap()))
}

/// A file with two queues, each served by a ring.
fn file() -> Box<dyn VirtioDevice> {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(LEN as u64).unwrap();
    // It lives on without its name.
    let image = Image::open(file.path(), ImageOptions::default()).unwrap();
    let rings = [(); 2].map(|()| RingFile::new(image.clone()).unwrap());
    Box::new(Blk::with_queues(rings.into(), "conforming".parse().unwrap()).unwrap())
}

cubie_testkit::conformance!(file);

mod in_memory {
    use super::*;

    cubie_testkit::conformance!(|| disk(MemoryDisk::new(vec![7; LEN])));
}
