//! The driver's end: the crate `virtio-driver`.
#![expect(unsafe_code, reason = "virtio-driver takes buffers by pointers")]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use virtio_driver::{
    EventFd, QueueNotifier, VhostUser, VirtioBlkFeatureFlags, VirtioBlkQueue, VirtioBlkTransport,
    VirtioFeatureFlags,
};
use vm_memory::{FileOffset, MmapRegion};

use crate::case::{Case, MOST_BYTES, MOST_DEPTH};
use crate::image::Image;

/// Descriptors: three for each request.
const QUEUE_SIZE: usize = (3 * MOST_DEPTH).next_power_of_two();
/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// The driver of one daemon's disk.
pub(crate) struct Driver {
    queue: VirtioBlkQueue<'static, usize>,
    notifier: Box<dyn QueueNotifier>,
    call: Arc<EventFd>,
    /// The buffer of each request, one behind the other.
    buffers: MmapRegion,
    places: Places,
    /// Buffers of requests that came back.
    back: Vec<usize>,
    /// It has the queue's memory, and goes last.
    _transport: Box<VirtioBlkTransport>,
}

impl Driver {
    /// Connects to whoever listens at `socket`, or soon will.
    pub(crate) fn connect(socket: &Path) -> anyhow::Result<Self> {
        // Without a flush, each write would have to reach the disk.
        let features = VirtioFeatureFlags::VERSION_1 | VirtioFeatureFlags::RING_EVENT_IDX;
        let features = features.bits() | VirtioBlkFeatureFlags::FLUSH.bits();
        let mut transport = front_end(socket, features)?;
        ensure!(transport.get_features() & features == features, "the daemon has other rings");
        let mut queues = VirtioBlkQueue::setup_queues(&mut *transport, 1, QUEUE_SIZE as u16)?;
        let file = File::from(memfd_create("buffers", MemfdFlags::CLOEXEC)?);
        file.set_len(MOST_BYTES as u64)?;
        let descriptor = file.as_raw_fd();
        let buffers = MmapRegion::from_file(FileOffset::new(file, 0), MOST_BYTES)?;
        let start = buffers.as_ptr() as usize;
        transport.map_mem_region(start, MOST_BYTES, descriptor, 0)?;
        Ok(Self {
            queue: queues.pop().context("a queue")?,
            notifier: transport.get_submission_notifier(0),
            call: transport.get_completion_fd(0),
            buffers,
            places: Places { random: 0x9e37_79b9_7f4a_7c15, next: 0 },
            back: Vec::with_capacity(MOST_DEPTH),
            _transport: transport,
        })
    }

    /// Keeps requests in flight for so long, and waits for the last ones. How many there were.
    pub(crate) fn run(&mut self, case: &Case, time: Duration) -> anyhow::Result<u64> {
        self.queue.set_used_notif_enabled(!case.polls);
        let start = Instant::now();
        let mut seen = start;
        self.back.clear();
        self.back.extend(0..case.depth);
        self.submit(case)?;
        let (mut in_flight, mut done) = (case.depth, 0);
        while in_flight > 0 {
            if !case.polls {
                self.sleep()?;
            }
            for completion in self.queue.completions() {
                ensure!(
                    completion.ret == 0,
                    "{case}: {}",
                    io::Error::from_raw_os_error(-completion.ret)
                );
                self.back.push(completion.context);
            }
            let now = Instant::now();
            if self.back.is_empty() {
                ensure!(now - seen < PATIENCE, "{case}: nothing comes back");
                continue;
            }
            seen = now;
            done += self.back.len() as u64;
            if now - start < time {
                self.submit(case)?;
            } else {
                in_flight -= self.back.len();
                self.back.clear();
            }
        }
        Ok(done)
    }

    /// A request for each buffer that came back.
    fn submit(&mut self, case: &Case) -> io::Result<()> {
        for at in self.back.drain(..) {
            let offset = self.places.next(case);
            assert!((at + 1) * case.size <= MOST_BYTES);
            let buffer = self.buffers.as_ptr().wrapping_add(at * case.size);
            if case.writes {
                // SAFETY: the buffer lies in the mapping, which is there as long as the driver, and nobody else
                // has it until the request comes back. It is not looked at as a value.
                unsafe { self.queue.write_raw(offset, buffer, case.size, at) }?;
            } else {
                // SAFETY: as above.
                unsafe { self.queue.read_raw(offset, buffer, case.size, at) }?;
            }
        }
        if self.queue.avail_notif_needed() {
            self.notifier.notify()?;
        }
        Ok(())
    }

    /// Until the daemon calls.
    fn sleep(&self) -> anyhow::Result<()> {
        let mut call = [PollFd::from_borrowed_fd(self.call.as_fd(), PollFlags::IN)];
        let most = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        ensure!(poll(&mut call, Some(&most))? == 1, "nobody calls");
        self.call.read()?;
        Ok(())
    }
}

/// A connection, as soon as somebody listens.
fn front_end(socket: &Path, features: u64) -> anyhow::Result<Box<VirtioBlkTransport>> {
    let (path, start) = (socket.to_str().context("a path in UTF-8")?, Instant::now());
    loop {
        match VhostUser::new(path, features) {
            Ok(front_end) => return Ok(Box::new(front_end)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
                    && start.elapsed() < PATIENCE =>
            {
                std::thread::yield_now();
            }
            Err(error) => return Err(error).context("no daemon"),
        }
    }
}

/// Where requests go.
struct Places {
    random: u64,
    next: usize,
}

impl Places {
    /// In bytes.
    fn next(&mut self, case: &Case) -> u64 {
        let count = Image::LEN / case.size;
        let at = if case.is_sequential() {
            self.next = (self.next + 1) % count;
            self.next
        } else {
            // Xorshift (Marsaglia 2003).
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random as usize % count
        };
        (at * case.size) as u64
    }
}
