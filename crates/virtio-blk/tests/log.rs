//! What a disk tells the log.

use std::io;
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver, Warnings};
use cubie_virtio_blk::{Blk, BlockBackend, Completion, Request};
use cubie_virtio_core::Features;
use vm_memory::Bytes;

const DEADLINE: Duration = Duration::from_secs(20);

struct Broken;

impl BlockBackend for Broken {
    fn size(&self) -> u64 {
        512
    }
    fn submit(&mut self, request: Request) -> Option<Completion> {
        Some(request.finish(Err(io::ErrorKind::StorageFull.into())))
    }
}

#[test]
fn a_host_that_fails_is_logged_once_however_often_the_driver_starts_anew() {
    let warnings = Warnings::listen();
    let guest = Guest::new();
    let slot = guest.plug(Box::new(Blk::new(Broken, "broken".parse().unwrap())));
    let page = guest.buffer(1024);
    guest.memory().write_obj([0u8; 16], page).unwrap();
    for _ in 0..20 {
        let mut driver = RawDriver::new(&slot, Features::default(), &[16]);
        for _ in 0..4 {
            let read = [Descriptor::readable(page.0, 16), Descriptor::writable(page.0 + 16, 513)];
            driver.offer(0, &read);
            driver.wait_used(0, DEADLINE);
        }
    }
    assert_eq!(warnings.count(), 1);
}
