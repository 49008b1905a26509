//! The host end while the console is stopped.

use cubie_virtio_core::{QueueState, RestoreError, Virtqueue};

/// First byte of a saved console.
const VERSION: u8 = 1;

#[derive(Debug)]
pub(crate) struct Parked<B> {
    pub(crate) backend: B,
    half_sent: Option<HalfSent>,
}

/// How much of which chain the host had taken: a transmit queue that goes on in this state does not print
/// it twice.
#[derive(Clone, Copy, Debug)]
struct HalfSent {
    at: QueueState,
    bytes: usize,
}

impl<B> Parked<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self { backend, half_sent: None }
    }

    /// Of the next chain in `transmit`, `sent` bytes are out.
    pub(crate) fn with_sent(backend: B, transmit: &Virtqueue, sent: usize) -> Self {
        let half_sent = (sent > 0).then(|| HalfSent { at: transmit.state(), bytes: sent });
        Self { backend, half_sent }
    }

    /// Bytes of the next chain in `transmit` that are out.
    pub(crate) fn sent(&self, transmit: &Virtqueue) -> usize {
        // Only a queue that goes on has the rest of that chain. One in the state of a new queue is
        // taken for a new one: after a reset the driver has its buffers back.
        let (state, fresh) = (transmit.state(), QueueState::fresh(transmit.features()));
        let goes_on = self.half_sent.filter(|half| half.at == state && state != fresh);
        goes_on.map_or(0, |half| half.bytes)
    }

    /// The version; then, of a half sent chain, the two positions of its queue and the number of bytes, little
    /// endian.
    pub(crate) fn save(&self) -> Vec<u8> {
        let mut saved = vec![VERSION];
        if let Some(HalfSent { at, bytes }) = self.half_sent {
            saved.extend(at.next_avail.to_le_bytes());
            saved.extend(at.next_used.to_le_bytes());
            saved.extend((bytes as u64).to_le_bytes());
        }
        saved
    }

    pub(crate) fn restore(&mut self, saved: &[u8]) -> Result<(), RestoreError> {
        let refused = |why: &str| Err(RestoreError::Refused(format!("a console: {why}")));
        self.half_sent = match *saved {
            [VERSION] => None,
            [VERSION, a, b, c, d, ref bytes @ ..] => {
                let at = QueueState {
                    next_avail: u16::from_le_bytes([a, b]),
                    next_used: u16::from_le_bytes([c, d]),
                };
                let bytes = bytes.try_into().map(u64::from_le_bytes).map(usize::try_from);
                let Ok(Ok(bytes)) = bytes else {
                    return refused("no number of bytes that are out already");
                };
                Some(HalfSent { at, bytes })
            }
            [VERSION, ..] => return refused("its state is cut off"),
            [] => return refused("no state at all"),
            [version, ..] => {
                return refused(&format!("a state of version {version}, not {VERSION}"));
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_takes_what_another_saved_and_nothing_else() {
        let at = QueueState { next_avail: 0x1234, next_used: 0x8001 };
        let half_sent = Some(HalfSent { at, bytes: 7 });
        let saved = Parked { backend: (), half_sent }.save();
        assert_eq!(saved, [1, 0x34, 0x12, 1, 0x80, 7, 0, 0, 0, 0, 0, 0, 0]);
        let mut parked = Parked::new(());
        for bad in (0..saved.len()).filter(|len| *len != 1).map(|len| &saved[..len]) {
            parked.restore(bad).unwrap_err();
        }
        parked.restore(&[2]).unwrap_err();
        assert_eq!(parked.save(), [1], "as it was");
        parked.restore(&saved).unwrap();
        assert_eq!(parked.save(), saved);
        parked.restore(&[1]).unwrap();
        assert_eq!(parked.save(), [1]);
    }
}
