//! A session that can be kept.
//!
//! # The file
//!
//! Text, one JSON value a line, so that git and people can read what has changed:
//!
//! ```text
//! {"cubie-session":1,"device":4,"legacy":false,"trapped":false,"memory":[[1073741824,8388608],[1082130432,8388608]]}
//! {"store":{"at":112,"bytes":"00000000"}}
//! {"load":{"at":16,"bytes":"00000030"}}
//! {"lend":{"queue":0,"area":[{"at":2,"bytes":"01"}],"chains":[{"id":0,
//!     "descriptors":[{"at":1073741824,"bytes":"00ff7f40…"}],
//!     "buffers":[{"at":1082130176,"len":16,"readable":"00000000…"},{"at":1082130192,"len":512}]}]}}
//! {"take":{"queue":0,"id":0,"written":513,"wrote":[{"at":0,"bytes":"0707…"},{"at":512,"bytes":"00"}]}}
//! {"missed":{"queue":0,"id":0}}
//! {"config":{"bytes":"50001900"}}
//! "interrupt"
//! {"note":{"text":"the person types"}}
//! {"end":8}
//! ```
//!
//! (A chain stands on one line.) The first line has the format's version, the device's number and how it was
//! plugged in; the last one has the number of steps, so that a file that was cut off is known. Bytes are
//! pairs of hexadecimal digits. `at` is an offset in the registers for loads and stores, in the driver's
//! part of the ring for an `area`, in the chain's writable bytes for what a device `wrote`, and a guest
//! address elsewhere. A buffer without `readable` is for the device to write.

use std::env;
use std::fmt::{self, Display};
use std::fs;
use std::io;
use std::path::Path;

use cubie_virtio_core::{DeviceId, Interface, VirtioDevice};
use serde::{Deserialize, Serialize};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::error::RecordingError;
use super::step::Step;
use super::text::Text;
use crate::{Difference, Played, Player};

/// What the first line says it is.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    #[serde(rename = "cubie-session")]
    pub(crate) version: u32,
    pub(crate) device: u32,
    pub(crate) legacy: bool,
    pub(crate) trapped: bool,
    /// First address and length of each region.
    pub(crate) memory: Vec<(u64, u64)>,
}

/// Of a header that may be another version's.
#[derive(Deserialize)]
struct AnyHeader {
    #[serde(rename = "cubie-session")]
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct End {
    end: usize,
}

/// A session of a driver and a device, from [`Slot::recording`](crate::Slot::recording) or from a file.
///
/// Shown, it is the transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    pub(crate) header: Header,
    pub(crate) steps: Vec<Step>,
}

impl Header {
    pub(crate) fn new(
        device: DeviceId,
        interface: Interface,
        trapped: bool,
        memory: &GuestMemoryMmap,
    ) -> Self {
        let legacy = interface == Interface::Legacy;
        Self { version: VERSION, device: device.0, legacy, trapped, memory: regions(memory) }
    }

    pub(crate) fn interface(&self) -> Interface {
        if self.legacy { Interface::Legacy } else { Interface::Modern }
    }
}

/// First address and length of each region.
pub(crate) fn regions(memory: &GuestMemoryMmap) -> Vec<(u64, u64)> {
    memory.iter().map(|region| (region.start_addr().raw_value(), region.len())).collect()
}

impl Recording {
    /// Reads what [`Recording::write`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read, is no recording, is another version's, or was cut off. The message
    /// names the file, and the line if there is one.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, RecordingError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(RecordingError::file(path))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, RecordingError> {
        let mut lines = (1..).zip(text.lines()).peekable();
        let (_, first) = lines.next().unwrap_or_default();
        let any: AnyHeader =
            serde_json::from_str(first).map_err(|_| RecordingError::foreign(path))?;
        if any.version != VERSION {
            return Err(RecordingError::version(path, any.version, VERSION));
        }
        let header = serde_json::from_str(first).map_err(RecordingError::line(path, 1))?;
        let mut steps = vec![];
        while let Some((number, line)) = lines.next() {
            // The last line, if it is whole, is the end; a step that breaks off was cut.
            if lines.peek().is_none() {
                let whole = serde_json::from_str(line).is_ok_and(|End { end }| end == steps.len());
                return match whole {
                    true => Ok(Self { header, steps }),
                    false => Err(RecordingError::cut_off(path, steps.len())),
                };
            }
            steps.push(serde_json::from_str(line).map_err(RecordingError::line(path, number))?);
        }
        Err(RecordingError::cut_off(path, steps.len()))
    }

    /// Writes the session to a file that [`Recording::read`] reads, in place of what was there.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let steps = self.steps.iter().map(serde_json::to_string);
        let ends = [serde_json::to_string(&self.header)].into_iter().chain(steps);
        let end = serde_json::to_string(&End { end: self.steps.len() });
        let lines = ends.chain([end]).collect::<Result<Vec<_>, _>>()?;
        fs::write(path, lines.join("\n") + "\n")
    }

    /// The recording that is in this file. If `CUBIE_RECORD` is set in the environment, this one is written
    /// there before: so a test makes the recording that it plays, when it is told to.
    ///
    /// # Errors
    /// As [`Recording::read`], and when the file cannot be written.
    pub fn keep(&self, path: impl AsRef<Path>) -> Result<Self, RecordingError> {
        let path = path.as_ref();
        if env::var_os("CUBIE_RECORD").is_some() {
            self.write(path).map_err(RecordingError::file(path))?;
        }
        Self::read(path)
    }

    /// Does all that the driver did with this device, and compares what it answers, as [`Player`] has it
    /// unless told otherwise.
    ///
    /// # Errors
    /// Where the device first answers differently.
    pub fn play(&self, device: Box<dyn VirtioDevice>) -> Result<Played, Difference> {
        self.player().play(device)
    }

    /// To play it in another way than [`Recording::play`].
    pub fn player(&self) -> Player<'_> {
        Player::new(self)
    }
}

impl Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text::default();
        self.steps.iter().try_for_each(|step| f.write_str(&text.lines(step)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::step::{Bytes, Chain, Lent, Piece};

    fn piece(at: u64, bytes: &[u8]) -> Piece {
        Piece { at, bytes: Bytes(bytes.to_vec()) }
    }

    /// A step of each kind.
    fn recording() -> Recording {
        let bytes = Bytes(vec![0x00, 0xff]);
        let buffers = vec![
            Lent { at: 7, len: 2, readable: Some(bytes.clone()) },
            Lent { at: 9, len: 512, readable: None },
        ];
        let chain = Chain { id: 3, descriptors: vec![piece(16, &[1; 16])], buffers };
        let header = Header {
            version: VERSION,
            device: 4,
            legacy: true,
            trapped: false,
            memory: vec![(1 << 30, 8 << 20)],
        };
        let steps = vec![
            Step::Load { at: 1, bytes: bytes.clone() },
            Step::Store { at: u64::MAX, bytes: Bytes(vec![]) },
            Step::Lend { queue: 1, area: vec![piece(2, &[1])], chains: vec![chain] },
            Step::Take { queue: 1, id: 3, written: 2, wrote: vec![piece(0, &[1, 2])] },
            Step::Missed { queue: 0, id: 9 },
            Step::Interrupt,
            Step::Config { bytes },
            Step::Note { text: "\"\n".to_owned() },
        ];
        Recording { header, steps }
    }

    fn written(recording: &Recording) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        recording.write(file.path()).unwrap();
        assert_eq!(&Recording::read(file.path()).unwrap(), recording);
        fs::read_to_string(file.path()).unwrap()
    }

    fn parse(text: &str) -> Result<Recording, String> {
        Recording::parse(Path::new("a.session"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_kind_of_step_is_read_as_it_was_written() {
        assert_eq!(written(&recording()).lines().count(), 10);
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_is_no_recording() {
        let text = written(&recording());
        // The last byte is the end of the last line.
        for len in 0..text.len() - 1 {
            let error = parse(&text[..len]).unwrap_err();
            assert!(error.starts_with("a.session "), "after {len} bytes: {error}");
            assert_eq!(error.lines().count(), 1, "after {len} bytes: {error}");
        }
        assert!(parse(&text[..text.len() - 1]).is_ok());
        let lines: Vec<_> = text.lines().collect();
        let without_one = [&lines[..4], &lines[5..]].concat().join("\n");
        assert_eq!(parse(&without_one).unwrap_err(), "a.session was cut off after 7 steps");
    }

    #[test]
    fn a_file_of_another_kind_says_what_is_wrong_with_it() {
        let text = written(&recording());
        let error = |text: &str| parse(text).unwrap_err();
        assert_eq!(error("#!/bin/sh\n"), "a.session is no recording of a session");
        assert_eq!(
            error(&text.replace("\"cubie-session\":1", "\"cubie-session\":2")),
            "a.session is a recording of version 2, and only version 1 is known here"
        );
        assert_eq!(
            error(&text.replace("00ff", "00f")),
            "a.session, line 2: invalid value: string \"00f\", expected pairs of hex digits at line 1 column 30"
        );
    }
}
