//! The outer terminal: raw while a command runs on it, as before afterwards.

use crate::wire::Size;
use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, OutputModes, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io;

/// Standard input in raw mode, until dropped.
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// With `output`, both output streams are this terminal too, and the inner terminal alone makes CR LF of
    /// LF. Else the outer one goes on doing it, for the other programs that write to it.
    pub(super) fn enter(output: bool) -> Result<RawTerminal> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).context("reading the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        if !output {
            raw.output_modes |= before.output_modes & (OutputModes::OPOST | OutputModes::ONLCR);
        }
        tcsetattr(&stdin, OptionalActions::Now, &raw)
            .context("setting the terminal to raw mode")?;
        Ok(RawTerminal { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // After a hang-up there is nothing left to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Size of the terminal on standard input or output; zero when there is none.
pub(super) fn size() -> Size {
    let found = tcgetwinsize(io::stdin()).or_else(|_| tcgetwinsize(io::stdout()));
    let found = found.or_else(|_| tcgetwinsize(io::stderr()));
    found.map_or(Size::default(), |size| Size { rows: size.ws_row, columns: size.ws_col })
}
