//! The crate `virtio-driver`, a driver and front-end that others wrote (blkio's), with a disk.
#![expect(unsafe_code, reason = "virtio-driver takes buffers by pointers")]

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use cubie_virtio_blk::{Blk, RawFile};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virtio_driver::{
    EventFd, QueueNotifier, VhostUser, VirtioBlkFeatureFlags, VirtioBlkQueue, VirtioBlkTransport,
    VirtioFeatureFlags,
};
use vm_memory::GuestRegionMmap;

use crate::daemon::Served;
use crate::guest::shared;
use crate::wire::DEADLINE;

const BLOCK: usize = 4096;
const BLOCKS: usize = 256;
/// Requests at once.
const DEPTH: usize = 32;

/// What is at a place of the disk, in that round.
fn pattern(block: usize, round: u8) -> [u8; BLOCK] {
    std::array::from_fn(|n| (n as u8).wrapping_mul(31) ^ (block as u8) ^ round)
}

struct Driver {
    transport: Box<VirtioBlkTransport>,
    queue: VirtioBlkQueue<'static, usize>,
    /// Without it, the driver looks at the device's flag too early, and each request needs a kick.
    event_idx: bool,
    notifier: Box<dyn QueueNotifier>,
    call: Arc<EventFd>,
    /// A block for each request.
    buffers: GuestRegionMmap,
    free: VecDeque<usize>,
    /// What the requests in flight are for, by their buffers.
    blocks: [usize; DEPTH],
}

impl Driver {
    fn new(path: &str, rings: VirtioFeatureFlags) -> Self {
        let wanted = VirtioFeatureFlags::VERSION_1 | rings;
        let features = wanted.bits() | VirtioBlkFeatureFlags::FLUSH.bits();
        let mut transport: Box<VirtioBlkTransport> =
            Box::new(VhostUser::new(path, features).unwrap());
        assert_eq!(transport.get_features() & features, features);
        let capacity = u64::from(transport.get_config().unwrap().capacity);
        assert_eq!(capacity, (BLOCK * BLOCKS / 512) as u64);
        let mut queues = VirtioBlkQueue::setup_queues(&mut *transport, 1, 128).unwrap();
        // While the queue is already served.
        let buffers = shared(0, (DEPTH * BLOCK) as u64);
        let file = buffers.file_offset().unwrap().file().as_raw_fd();
        let start = buffers.as_ptr() as usize;
        transport.map_mem_region(start, DEPTH * BLOCK, file, 0).unwrap();
        let mut queue = queues.remove(0);
        queue.set_used_notif_enabled(true);
        Self {
            queue,
            event_idx: rings.contains(VirtioFeatureFlags::RING_EVENT_IDX),
            notifier: transport.get_submission_notifier(0),
            call: transport.get_completion_fd(0),
            transport,
            buffers,
            free: (0..DEPTH).collect(),
            blocks: [0; DEPTH],
        }
    }

    fn buffer(&self, at: usize) -> *mut u8 {
        assert!(at < DEPTH);
        self.buffers.as_ptr().wrapping_add(at * BLOCK)
    }

    /// Waits for completions, and hands the blocks of reads to `check`.
    fn wait(&mut self, check: &mut impl FnMut(usize, &[u8])) {
        let mut call = [PollFd::from_borrowed_fd(self.call.as_fd(), PollFlags::IN)];
        let deadline = Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
        assert_eq!(poll(&mut call, Some(&deadline)).unwrap(), 1, "no completion");
        self.call.read().unwrap();
        let done: Vec<_> = self.queue.completions().collect();
        for done in done {
            assert_eq!(done.ret, 0);
            // SAFETY: the request is done, so that nobody writes to its buffer, which lies in the mapping.
            let bytes = unsafe { std::slice::from_raw_parts(self.buffer(done.context), BLOCK) };
            check(self.blocks[done.context], bytes);
            self.free.push_back(done.context);
        }
    }

    /// A request for each block, as many at once as there are buffers.
    fn all(&mut self, write: Option<u8>, mut check: impl FnMut(usize, &[u8])) {
        for block in 0..BLOCKS {
            while self.free.is_empty() {
                self.wait(&mut check);
            }
            let at = self.free.pop_front().expect("one came back");
            self.blocks[at] = block;
            let (buffer, offset) = (self.buffer(at), (block * BLOCK) as u64);
            if let Some(round) = write {
                let bytes = pattern(block, round);
                // SAFETY: the buffer has as many bytes, and no request has it.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer, BLOCK) };
                // SAFETY: the buffer is there as long as the driver, and left alone until the completion.
                unsafe { self.queue.write_raw(offset, buffer, BLOCK, at) }.unwrap();
            } else {
                // SAFETY: as above.
                unsafe { self.queue.read_raw(offset, buffer, BLOCK, at) }.unwrap();
            }
            if !self.event_idx || self.queue.avail_notif_needed() {
                self.notifier.notify().unwrap();
            }
        }
        while self.free.len() < DEPTH {
            self.wait(&mut check);
        }
    }

    fn flush(&mut self) {
        let at = self.free.pop_front().unwrap();
        self.queue.flush(at).unwrap();
        self.notifier.notify().unwrap();
        self.wait(&mut |_, _| ());
        assert_eq!(self.free.len(), DEPTH);
    }
}

#[test]
fn a_driver_that_others_wrote_finds_on_the_disk_what_it_has_written() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    std::fs::write(&image, vec![0; BLOCK * BLOCKS]).unwrap();
    let disk = RawFile::open(&image, false).unwrap();
    let served = Served::new(Blk::new(disk, "blkio".parse().unwrap()));
    let rings = [
        VirtioFeatureFlags::empty(),
        VirtioFeatureFlags::RING_EVENT_IDX,
        VirtioFeatureFlags::RING_INDIRECT_DESC | VirtioFeatureFlags::RING_EVENT_IDX,
    ];
    // One front-end after the other.
    for (round, rings) in (1..).zip(rings) {
        let mut driver = Driver::new(&served.path(), rings);
        driver.all(None, |block, bytes| match round {
            1 => assert!(bytes.iter().all(|byte| *byte == 0)),
            _ => assert!(bytes == pattern(block, round - 1), "block {block}"),
        });
        driver.all(Some(round), |_, _| ());
        driver.flush();
        driver.all(None, |block, bytes| assert!(bytes == pattern(block, round), "block {block}"));
        let bytes = std::fs::read(&image).unwrap();
        for (block, bytes) in bytes.chunks(BLOCK).enumerate() {
            assert!(bytes == pattern(block, round), "block {block} of the file");
        }
        let (start, len) = (driver.buffers.as_ptr() as usize, DEPTH * BLOCK);
        driver.transport.unmap_mem_region(start, len).unwrap();
    }
    served.end();
}
