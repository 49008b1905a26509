//! Reading what a person names.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The person's blame: the file of an option.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Missing, not permitted, a folder, or the disk's failure.
    #[error("{option}: cannot read {}: {source}", .path.display())]
    Read {
        /// The option that named it, such as `--kernel`.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file without bytes.
    #[error("{option}: {} is empty", .path.display())]
    Empty {
        /// The option that named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// More than there is room for.
    #[error("{option}: {} has more than {} MiB, and no more can be loaded", .path.display(), .limit >> 20)]
    TooLarge {
        /// The option that named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Bytes allowed.
        limit: usize,
    },
}

/// Reads a file of at most `limit` bytes: [`KERNEL_LIMIT`](super::KERNEL_LIMIT) for a kernel, the
/// guest's memory for an initrd. `option` is what the error blames.
///
/// # Errors
/// When the file cannot be read, is empty or is larger.
pub fn read_file(option: &'static str, path: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
    let blame = |source| FileError::Read { option, path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(blame)?
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(blame)?;
    let path = || path.to_owned();
    match bytes.len() {
        0 => Err(FileError::Empty { option, path: path() }),
        len if len > limit => Err(FileError::TooLarge { option, path: path(), limit }),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("initrd");
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(read_file("--initrd", &path, 100).unwrap(), [7; 100]);
        let error = read_file("--initrd", &path, 99).unwrap_err();
        assert!(matches!(error, FileError::TooLarge { limit: 99, .. }));
    }

    #[test]
    fn a_file_without_end_is_too_large() {
        let error = read_file("--kernel", Path::new("/dev/zero"), 3 << 20).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--kernel: /dev/zero has more than 3 MiB, and no more can be loaded"
        );
    }

    #[test]
    fn a_file_without_bytes_is_refused() {
        let error = read_file("--initrd", Path::new("/dev/null"), 1).unwrap_err();
        assert_eq!(error.to_string(), "--initrd: /dev/null is empty");
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_option() {
        for path in ["/missing/kernel", "/"] {
            let error = read_file("--kernel", Path::new(path), 1).unwrap_err().to_string();
            let start = format!("--kernel: cannot read {path}: ");
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
