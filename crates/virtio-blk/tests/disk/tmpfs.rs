//! An image that lies in memory. For root, in a namespace of its own; says so and does nothing elsewhere.

use std::ffi::CStr;
use std::fs::write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cubie_testkit::within;
use cubie_virtio_blk::{BlockBackend, Completion, Image, ImageOptions, Request, RingFile};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use tempfile::TempDir;

use crate::bench::{Bench, DEADLINE, F_FLUSH, OK, device};

/// A folder in memory, which this thread sees and those that it starts. `None` to who may not have one.
pub(crate) fn tmpfs(options: &CStr) -> Option<TempDir> {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
        eprintln!("skipped: {error}");
        return None;
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).unwrap();
    let dir = tempfile::tempdir().unwrap();
    mount("memory", dir.path(), "tmpfs", MountFlags::empty(), options).unwrap();
    Some(dir)
}

/// Counts requests that were not finished at once.
struct Counting {
    disk: RingFile,
    later: Arc<AtomicUsize>,
}

impl BlockBackend for Counting {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn submit(&mut self, request: Request) -> Option<Completion> {
        let done = self.disk.submit(request);
        self.later.fetch_add(usize::from(done.is_none()), Ordering::Relaxed);
        done
    }
    fn start(&mut self) {
        self.disk.start();
    }
    fn complete(&mut self) -> Option<Completion> {
        self.disk.complete()
    }
    fn wait(&mut self) -> Option<Completion> {
        self.disk.wait()
    }
    fn ready_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.disk.ready_fd()
    }
}

#[test]
fn what_lies_in_memory_is_read_and_written_at_once() {
    within(DEADLINE, || {
        let Some(dir) = tmpfs(c"size=1m") else { return };
        let path = dir.path().join("disk");
        write(&path, [3; 64 << 10]).unwrap();
        let image = Image::open(&path, ImageOptions::default()).unwrap();
        let later = Arc::<AtomicUsize>::default();
        let disk = Counting { disk: RingFile::new(image).unwrap(), later: Arc::clone(&later) };
        let mut bench = Bench::new(device(disk), F_FLUSH, 1);
        assert_eq!(bench.write(0, 8, &[5; 512]), OK);
        assert!(bench.read(0, 7, 1024) == (OK, [[3; 512], [5; 512]].concat()));
        assert_eq!(later.load(Ordering::Relaxed), 0);
    });
}
