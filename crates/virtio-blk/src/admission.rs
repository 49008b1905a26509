//! Which requests get to a backend.

use cubie_virtq::Chain;

use crate::protocol::{Command, MOST_DISCARDED, MOST_ZEROED, RANGE_SIZE, Range, Status, locate};
use crate::request::Answer;
use crate::{Operation, Request, Serial};

/// What a request is checked against.
pub(crate) struct Disk<'a> {
    pub(crate) size: u64,
    pub(crate) read_only: bool,
    /// Every write goes through to stable storage.
    pub(crate) through: bool,
    /// What was negotiated.
    pub(crate) discard: bool,
    pub(crate) write_zeroes: bool,
    pub(crate) serial: &'a Serial,
}

/// What becomes of a command that is none for the backend.
enum Refused {
    With(Status),
    /// It asks for nothing, and has it.
    Nothing,
}

const IO_ERROR: Refused = Refused::With(Status::IoError);
const UNSUPPORTED: Refused = Refused::With(Status::Unsupported);

impl Disk<'_> {
    /// Takes header and status off a chain. What is no work for a backend is answered here.
    pub(crate) fn admit(&self, mut chain: Chain) -> Result<Request, Answer> {
        if !chain.reserve_status() {
            tracing::debug!("a block request without room for a status");
            return Err(Answer { chain, written: 0 });
        }
        let command = chain.readable().read_array().map(Command::parse);
        let room = chain.writable().len();
        if command == Some(Command::GetId) {
            return Err(self.identify(chain, room));
        }
        match command.ok_or(IO_ERROR).and_then(|command| self.operation(command, &mut chain)) {
            Ok(operation) => Ok(Request::new(chain, operation)),
            Err(Refused::Nothing) => Err(Answer::refuse(chain, Status::Ok)),
            Err(Refused::With(status)) => {
                tracing::debug!(?command, ?status, "a block request that cannot be");
                Err(Answer::refuse(chain, status))
            }
        }
    }

    fn operation(&self, command: Command, chain: &mut Chain) -> Result<Operation, Refused> {
        let (data, room) = (chain.readable().len() as u64, chain.writable().len() as u64);
        let through = self.through;
        match command {
            // Payload on the wrong side is a mistake, not an empty request: nothing of it was asked for.
            Command::Read { sector } if data == 0 => locate(sector, room, self.size)
                .map(|offset| Operation::Read { offset })
                .ok_or(IO_ERROR),
            Command::Write { sector } if room == 0 && !self.read_only => {
                let offset = locate(sector, data, self.size).ok_or(IO_ERROR)?;
                Ok(Operation::Write { offset, through })
            }
            Command::Read { .. } | Command::Write { .. } => Err(IO_ERROR),
            Command::Flush => Ok(Operation::Flush),
            Command::Discard if self.discard => {
                let range = range(chain)?;
                if range.unmap {
                    return Err(UNSUPPORTED);
                }
                let offset = self.place(&range, MOST_DISCARDED)?;
                Ok(Operation::Discard { offset, len: range.len() })
            }
            Command::WriteZeroes if self.write_zeroes => {
                let range = range(chain)?;
                let (offset, unmap) = (self.place(&range, MOST_ZEROED)?, range.unmap);
                Ok(Operation::WriteZeroes { offset, len: range.len(), unmap, through })
            }
            Command::GetId | Command::Discard | Command::WriteZeroes | Command::Unsupported(_) => {
                Err(UNSUPPORTED)
            }
        }
    }

    /// Where a range begins that may be changed and is no longer than `most` sectors.
    fn place(&self, range: &Range, most: u32) -> Result<u64, Refused> {
        let offset = locate(range.sector, range.len(), self.size).ok_or(IO_ERROR)?;
        match range.sectors {
            _ if self.read_only => Err(IO_ERROR),
            0 => Err(Refused::Nothing),
            sectors if sectors > most => Err(IO_ERROR),
            _ => Ok(offset),
        }
    }

    fn identify(&self, mut chain: Chain, room: usize) -> Answer {
        let filled = chain.writable().write(self.serial.bytes());
        Answer::new(chain, Status::Ok, filled, room)
    }
}

/// The one range of a request, and no room for an answer.
fn range(chain: &mut Chain) -> Result<Range, Refused> {
    if chain.readable().len() != RANGE_SIZE || !chain.writable().is_empty() {
        return Err(IO_ERROR);
    }
    let range = chain.readable().read_array().map(Range::parse).ok_or(IO_ERROR)?;
    // The standard has the flags checked before all else (VIRTIO 1.4 §5.2.6.2).
    if range.unknown { Err(UNSUPPORTED) } else { Ok(range) }
}
