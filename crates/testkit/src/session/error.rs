//! Why a recording cannot be read.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with a recording's file, in one line, which Debug shows as well.
#[derive(thiserror::Error)]
#[error("{}{what}", path.display())]
pub struct RecordingError {
    path: PathBuf,
    what: What,
}

#[derive(Debug, thiserror::Error)]
enum What {
    #[error(": {0}")]
    File(io::Error),
    #[error(" is no recording of a session")]
    Foreign,
    #[error(" is a recording of version {found}, and only version {known} is known here")]
    Version { found: u32, known: u32 },
    #[error(", line {line}: {error}")]
    Line { line: usize, error: serde_json::Error },
    #[error(" was cut off after {steps} steps")]
    CutOff { steps: usize },
}

impl fmt::Debug for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl RecordingError {
    fn new(path: &Path, what: What) -> Self {
        Self { path: path.to_owned(), what }
    }

    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |error| Self::new(path, What::File(error))
    }

    pub(super) fn foreign(path: &Path) -> Self {
        Self::new(path, What::Foreign)
    }

    pub(super) fn version(path: &Path, found: u32, known: u32) -> Self {
        Self::new(path, What::Version { found, known })
    }

    pub(super) fn line(path: &Path, line: usize) -> impl FnOnce(serde_json::Error) -> Self {
        move |error| Self::new(path, What::Line { line, error })
    }

    pub(super) fn cut_off(path: &Path, steps: usize) -> Self {
        Self::new(path, What::CutOff { steps })
    }
}
