//! The newc archive format, as the kernel unpacks it into its root file system.
//!
//! An initramfs may hold several archives one after the other (Linux, `Documentation/driver-api/
//! early-userspace/buffer-format.rst`): later ones add files to, and overwrite files of, earlier ones.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// Writes one newc archive; [`Writer::finish`] must end it.
pub(crate) struct Writer<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Writer { out, inode: 0 }
    }

    pub(crate) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// A regular file with the permission bits `mode`.
    pub(crate) fn file(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.entry(name, REGULAR | (mode & 0o7777), (0, 0), bytes)
    }

    pub(crate) fn symlink(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.entry(name, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// A character device with the numbers `(major, minor)`; making one in an archive needs no root.
    pub(crate) fn character(&mut self, name: &str, device: (u32, u32)) -> io::Result<()> {
        self.entry(name, CHARACTER | 0o600, device, &[])
    }

    /// Writes the trailer and hands the sink back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> io::Result<()> {
        let name = name.trim_start_matches('/');
        let size = u32::try_from(bytes.len()).map_err(|_| {
            io::Error::new(io::ErrorKind::FileTooLarge, format!("{name}: over 4 GiB"))
        })?;
        self.inode += 1;
        let links = if mode & DIRECTORY != 0 { 2 } else { 1 };
        let (major, minor) = device;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        // ino, mode, uid, gid, nlink, mtime, filesize, dev, rdev, namesize, check
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.align(6 + 13 * 8 + name.len() + 1)?;
        self.out.write_all(bytes)?;
        self.align(bytes.len())
    }

    fn align(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

/// Writes to `out` a copy of `initrd` with `files` (path in the guest, permission bits, content) added,
/// folders above them included. A file that is there already is replaced.
///
/// # Errors
/// When `initrd` cannot be read or `out` cannot be written; a half-written `out` is removed.
pub fn append(initrd: &Path, out: &Path, files: &[(&str, u32, &[u8])]) -> io::Result<()> {
    append_to(initrd, out, files).inspect_err(|_| {
        let _ = fs::remove_file(out); // it may not even exist: the first error is the one to report
    })
}

fn append_to(initrd: &Path, out: &Path, files: &[(&str, u32, &[u8])]) -> io::Result<()> {
    let mut sink = io::BufWriter::new(File::create(out)?);
    let copied = io::copy(&mut File::open(initrd)?, &mut sink)?;
    // The kernel looks for the next archive at multiples of four.
    let padding = copied.next_multiple_of(4) - copied;
    io::copy(&mut io::Read::take(io::repeat(0), padding), &mut sink)?;
    let mut archive = Writer::new(sink);
    for (name, mode, bytes) in files {
        let name = name.trim_start_matches('/');
        for (end, _) in name.match_indices('/') {
            archive.directory(&name[..end])?;
        }
        archive.file(name, *mode, bytes)?;
    }
    archive.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry as a reader sees it: name, mode, content.
    type Entry = (String, u32, Vec<u8>);

    /// Reads archives back, independently of the writer: every header is checked, padding is skipped.
    fn read_back(mut bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let at = 6 + 8 * index;
                let digits = std::str::from_utf8(&bytes[at..at + 8]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = std::str::from_utf8(&bytes[110..110 + name_size - 1]).unwrap();
            let data = (110 + name_size).next_multiple_of(4);
            entries.push((name.to_owned(), mode as u32, bytes[data..data + size].to_vec()));
            bytes = &bytes[(data + size).next_multiple_of(4)..];
        }
        entries
    }

    #[test]
    fn an_archive_reads_back_as_it_was_written() {
        let mut writer = Writer::new(Vec::new());
        writer.directory("dev").unwrap();
        writer.character("dev/console", (5, 1)).unwrap();
        writer.file("/init", 0o755, b"hello").unwrap();
        writer.symlink("bin/sh", "busybox").unwrap();
        let bytes = writer.finish().unwrap();
        let entry = |name: &str, mode, bytes: &[u8]| (name.to_owned(), mode, bytes.to_vec());
        let expected = vec![
            entry("dev", 0o040_755, b""),
            entry("dev/console", 0o020_600, b""),
            entry("init", 0o100_755, b"hello"),
            entry("bin/sh", 0o120_777, b"busybox"),
            entry("TRAILER!!!", 0, b""),
        ];
        assert_eq!(read_back(&bytes), expected);
    }

    #[test]
    fn appended_files_follow_the_first_archive_at_a_multiple_of_four() {
        let folder = tempfile::tempdir().unwrap();
        let (initrd, out) = (folder.path().join("initrd"), folder.path().join("out"));
        fs::write(&initrd, b"12345").unwrap();
        append(&initrd, &out, &[("/tests/deep/run", 0o755, b"exit 0")]).unwrap();
        let bytes = fs::read(&out).unwrap();
        assert_eq!(&bytes[..8], b"12345\0\0\0");
        let names: Vec<_> = read_back(&bytes[8..]).into_iter().map(|entry| entry.0).collect();
        assert_eq!(names, ["tests", "tests/deep", "tests/deep/run", "TRAILER!!!"]);
    }

    #[test]
    fn a_failed_append_leaves_no_file_behind() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        append(&folder.path().join("missing"), &out, &[]).unwrap_err();
        assert!(!out.exists());
    }
}
