//! A file of frames, for Wireshark and its like (pcapng, draft-ietf-opsawg-pcapng).

use std::borrow::Cow;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use cubie_virtq::Segments;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use rustix::process::{Resource, getrlimit};

/// A time is in units of 10⁻⁹ seconds.
const NANOSECONDS: u8 = 9;

/// Which way a frame goes, as `epb_flags` has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    /// To the guest.
    In = 1,
    /// From the guest.
    Out = 2,
}

/// A file that frames are written to as they pass: pcapng, with times in nanoseconds and the direction of
/// each as the guest sees it. Clones share it, such as the host ends of a card with several pairs of queues,
/// and take turns.
///
/// Each frame is a system call, so that who follows the file sees it at once, and what a killed program leaves
/// can be read. When the file takes no more (a full disk, or a limit of the process's), the capture ends with one
/// line in the log, without half a frame, and nothing else does.
#[derive(Clone)]
pub struct Capture(Arc<Mutex<Written>>);

struct Written {
    path: PathBuf,
    /// Nothing more is written without it.
    file: Option<File>,
    /// Bytes in the file, each frame of which is whole.
    len: u64,
    /// Blocks on their way to the file.
    blocks: PcapNgWriter<Vec<u8>>,
    /// A frame in one piece.
    frame: Vec<u8>,
    snap_len: usize,
}

/// Why frames cannot be written to a file.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be made or opened.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It would make the network wait for its reader, or is a disk.
    #[error("{} is no file: give one, or a name for a new one", .0.display())]
    Special(PathBuf),
    /// Somebody else captures into it.
    #[error("{} is being written by another capture: give each a file of its own", .0.display())]
    Busy(PathBuf),
}

impl Capture {
    /// Begins a file, in place of what was in one of that name. A character device, such as `/dev/null`, is
    /// written as it is.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, CaptureError> {
        Self::with_snap_len(path, 0)
    }

    /// As [`Capture::create`], with the first `snap_len` bytes of each frame only, or all if that is 0.
    pub fn with_snap_len(path: impl AsRef<Path>, snap_len: u32) -> Result<Self, CaptureError> {
        let path = path.as_ref().to_owned();
        let failed = |source| CaptureError::File { path: path.clone(), source };
        let file = open(&path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if kind.is_file() {
            // Not before it is ours. A file system without locks has no two either.
            if let Err(TryLockError::WouldBlock) = file.try_lock() {
                return Err(CaptureError::Busy(path));
            }
            file.set_len(0).map_err(failed)?;
        } else if !kind.is_char_device() {
            return Err(CaptureError::Special(path));
        }
        let blocks = begin(snap_len).map_err(|error| failed(io::Error::other(error)))?;
        let snap_len = if snap_len == 0 { usize::MAX } else { snap_len as usize };
        let (frame, path) = (vec![], path.clone());
        let mut written = Written { path, file: Some(file), len: 0, blocks, frame, snap_len };
        match written.flush() {
            Ok(()) => Ok(Self(Arc::new(Mutex::new(written)))),
            Err(source) => Err(CaptureError::File { path: written.path, source }),
        }
    }

    /// Writes the first `len` bytes of `frame`.
    pub(crate) fn write(&self, direction: Direction, frame: &mut Segments, len: usize) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.file.is_some()
            && let Err(error) = written.write(direction, frame, len)
        {
            written.give_up(&error);
        }
    }
}

impl Written {
    fn write(&mut self, direction: Direction, frame: &mut Segments, len: usize) -> io::Result<()> {
        self.frame.resize(len.min(self.snap_len), 0);
        frame.read(&mut self.frame);
        // A clock that is set to before 1970 is the host's business.
        let timestamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: timestamp.unwrap_or_default(),
            original_len: len as u32,
            data: Cow::Borrowed(&self.frame),
            options: vec![EnhancedPacketOption::Flags(direction as u32)],
        };
        self.blocks.write_pcapng_block(block).map_err(io::Error::other)?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = self.blocks.get_mut();
        if let Some(file) = &mut self.file {
            // Beyond its limit the kernel would end the process (setrlimit(2), SIGXFSZ).
            let end = self.len + bytes.len() as u64;
            if getrlimit(Resource::Fsize).current.is_some_and(|most| end > most) {
                return Err(ErrorKind::FileTooLarge.into());
            }
            file.write_all(bytes)?;
            self.len += bytes.len() as u64;
        }
        bytes.clear();
        Ok(())
    }

    fn give_up(&mut self, error: &io::Error) {
        tracing::warn!(%error, "nothing more is captured in {}", self.path.display());
        if let Some(file) = self.file.take() {
            // Half a frame may be there, if it is a file at all.
            let _ = file.set_len(self.len);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A pipe would wait for its reader, and a terminal for its person.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).custom_flags(flags).open(path)
}

/// What precedes all frames: the file's header, and the one interface that they pass.
fn begin(snap_len: u32) -> pcap_file::PcapResult<PcapNgWriter<Vec<u8>>> {
    let mut blocks = PcapNgWriter::new(vec![])?;
    blocks.write_pcapng_block(InterfaceDescriptionBlock {
        linktype: DataLink::ETHERNET,
        snaplen: snap_len,
        options: vec![InterfaceDescriptionOption::IfTsResol(NANOSECONDS)],
    })?;
    Ok(blocks)
}
