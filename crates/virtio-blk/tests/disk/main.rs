//! What a disk does for its driver, on all of its backends.

mod bench;
mod cache;
mod files;
mod limits;
mod locks;
mod queues;
mod ranges;
mod resize;
mod space;
mod tmpfs;
