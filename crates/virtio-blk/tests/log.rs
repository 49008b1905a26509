//! What a disk tells the log.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver};
use cubie_virtio_blk::{Blk, BlockBackend, Completion, Request};
use cubie_virtio_core::Features;
use tracing::{Event, Level, Metadata, Subscriber, span};
use vm_memory::Bytes;

const DEADLINE: Duration = Duration::from_secs(20);

static LINES: AtomicUsize = AtomicUsize::new(0);

/// Counts lines, of any thread.
struct Counter;

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {
        LINES.fetch_add(1, Ordering::SeqCst);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

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
    tracing::subscriber::set_global_default(Counter).unwrap();
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
    assert_eq!(LINES.load(Ordering::SeqCst), 1);
}
