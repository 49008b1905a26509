//! Drivers that do it again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cubie_virtq::QueueError;

use super::{Bench, STATUS, VERSION_1};

#[test]
fn after_a_reset_nothing_pends_or_interrupts_however_often_the_configuration_changes() {
    let mut bench = Bench::new();
    let (config, end) = (bench.config.clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::SeqCst) {
                config.update(|bytes| bytes[0] ^= 1);
            }
        });
        let left = (0..20_000).map(|_| {
            bench.drive();
            bench.set(STATUS, 0);
            let _ = bench.line.read();
            std::thread::yield_now();
            (bench.get(0x60), bench.line.read().is_ok())
        });
        let worst = left.max();
        end.store(true, Ordering::SeqCst);
        assert_eq!(worst, Some((0, false)));
    });
}

/// Counts what is logged by its thread.
struct Counter(Arc<AtomicUsize>);

impl tracing::Subscriber for Counter {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_driver_that_breaks_its_queue_again_and_again_is_logged_once() {
    let lines = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::with_default(Counter(Arc::clone(&lines)), || {
        let mut bench = Bench::new();
        for _ in 0..100 {
            bench.drive();
            let fault = bench.seen.fault.lock().unwrap().clone().unwrap();
            fault.tell(0, QueueError::TotalLength);
            assert_eq!(bench.get(STATUS), 15 | 0x40);
            assert_eq!(bench.get(0x60), 2, "told by a configuration interrupt");
        }
    });
    assert_eq!(lines.load(Ordering::SeqCst), 1);
}

#[test]
fn a_driver_that_starts_the_device_wrongly_again_and_again_is_logged_once() {
    let lines = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::with_default(Counter(Arc::clone(&lines)), || {
        let mut bench = Bench::new();
        for _ in 0..100 {
            bench.negotiate(VERSION_1);
            bench.set(STATUS, 15);
            assert_eq!(bench.get(STATUS), 15 | 0x40);
        }
    });
    assert_eq!(lines.load(Ordering::SeqCst), 1);
}
