//! Steps as lines for people.

use std::fmt::{self, Display, Write};

use virtio_bindings::virtio_mmio::*;

use super::names::{register, value};
use super::step::{Bytes, Chain, Piece, Step};

/// So many bytes of a piece are shown.
const SHOWN: usize = 16;

/// Writes steps down, one after the other: what some of them mean depends on those before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    device_word: u32,
    driver_word: u32,
}

impl Text {
    /// The lines of a step, each with its end.
    pub(crate) fn lines(&mut self, step: &Step) -> String {
        match step {
            Step::Load { at, bytes } => self.access("reads ", *at, bytes),
            Step::Store { at, bytes } => self.access("writes", *at, bytes),
            Step::Lend { queue, chains, .. } => {
                chains.iter().map(|chain| lends(*queue, chain)).collect()
            }
            Step::Take { queue, id, written, wrote } => {
                format!("takes  queue {queue}, chain {id}: {written} written{}\n", pieces(wrote))
            }
            Step::Missed { queue, id } => {
                format!("takes  queue {queue}, chain {id}: nobody has seen it\n")
            }
            Step::Interrupt => "takes  the interrupt\n".to_owned(),
            Step::Config { bytes } => format!("finds  the configuration changed: {bytes}\n"),
            Step::Note { text } => format!("-- {text}\n"),
        }
    }

    fn access(&mut self, verb: &str, at: u64, bytes: &Bytes) -> String {
        let word = <[u8; 4]>::try_from(&bytes.0[..]).map(u32::from_le_bytes);
        let known = u32::try_from(at).ok().and_then(|at| Some((at, register(at)?)));
        let (Some((offset, name)), Ok(word)) = (known, word) else {
            let (at, place) = match at.checked_sub(VIRTIO_MMIO_CONFIG.into()) {
                Some(at) => (at, "configuration "),
                None => (at, "registers "),
            };
            return format!("{verb} {place}{at:#x}: {bytes}\n");
        };
        match offset {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_word = word,
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_word = word,
            VIRTIO_MMIO_QUEUE_NOTIFY => return format!("kicks  queue {}\n", word & 0xffff),
            _ => {}
        }
        let selected = match offset {
            VIRTIO_MMIO_DEVICE_FEATURES => self.device_word,
            _ => self.driver_word,
        };
        format!("{verb} {name}: {}\n", value(offset, word, selected))
    }
}

fn lends(queue: u32, chain: &Chain) -> String {
    let mut line = format!("lends  queue {queue}, chain {}:", chain.id);
    for (n, buffer) in chain.buffers.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let _ = match &buffer.readable {
            Some(bytes) => write!(line, "{comma} {} to read ({bytes})", buffer.len),
            None => write!(line, "{comma} {} to write", buffer.len),
        };
    }
    line + "\n"
}

fn pieces(pieces: &[Piece]) -> String {
    let show =
        |piece: &Piece| format!(", {} at {} ({})", piece.bytes.0.len(), piece.at, piece.bytes);
    pieces.iter().map(show).collect()
}

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{byte:02x}", if n == 0 { "" } else { " " })?;
        }
        if self.0.len() > SHOWN { f.write_str(" …") } else { Ok(()) }
    }
}
