//! Frames out of a stream.

use crate::protocol::FRAME_LEN;

/// Bytes of a length.
pub(super) const PREFIX: usize = 4;
/// Room for the longest frame, and for many usual ones at once.
const ROOM: usize = 128 << 10;

/// What has come and was not yet taken.
pub(super) struct Incoming {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { bytes: vec![0; ROOM].into(), start: 0, end: 0 }
    }
}

impl Incoming {
    /// Takes a frame, if all of it is there; an error is a length that no frame has.
    pub(super) fn next_frame(&mut self) -> Result<Option<&[u8]>, u32> {
        let frame = look(&self.bytes[self.start..self.end])?;
        self.start += frame.map_or(0, |frame| PREFIX + frame.len());
        Ok(frame)
    }

    /// Whether all of a frame is there.
    pub(super) fn has_frame(&self) -> bool {
        matches!(look(&self.bytes[self.start..self.end]), Ok(Some(_)))
    }

    /// Where more is to be put. There is some once [`Incoming::next_frame`] has found none.
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        &mut self.bytes[self.end..]
    }

    /// The first `len` bytes of the space are filled.
    pub(super) fn filled(&mut self, len: usize) {
        self.end += len;
    }
}

/// The frame at the front, if all of it is there.
fn look(bytes: &[u8]) -> Result<Option<&[u8]>, u32> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let len = u32::from_be_bytes(*prefix);
    if !FRAME_LEN.contains(&(len as usize)) {
        return Err(len);
    }
    Ok(rest.get(..len as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The frames that come out of `stream` when it arrives in pieces of these lengths, again and again, and
    /// the length that ended it.
    fn decode(stream: &[u8], pieces: &[usize]) -> (Vec<Vec<u8>>, Option<u32>) {
        let (mut incoming, mut frames, mut left) = (Incoming::default(), vec![], stream);
        let mut pieces = pieces.iter().cycle();
        loop {
            match incoming.next_frame() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) if left.is_empty() => return (frames, None),
                Ok(None) => {
                    let space = incoming.space();
                    let len = pieces.next().copied().unwrap_or(1).min(space.len()).min(left.len());
                    assert!(len > 0, "there is always space");
                    space[..len].copy_from_slice(&left[..len]);
                    incoming.filled(len);
                    left = &left[len..];
                }
                Err(len) => return (frames, Some(len)),
            }
        }
    }

    fn encode(frames: &[Vec<u8>]) -> Vec<u8> {
        let prefixed = |frame: &Vec<u8>| [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat();
        frames.iter().flat_map(prefixed).collect()
    }

    fn lengths() -> impl Strategy<Value = usize> {
        prop_oneof![3 => 14..100usize, 1 => 14..=65_550usize, 1 => Just(65_550)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            lens in prop::collection::vec(lengths(), 0..8),
            pieces in prop::collection::vec(prop_oneof![1..10usize, 1..200_000usize], 1..10),
        ) {
            let frame = |(n, len): (usize, usize)| (0..len).map(|at| (n * 31 + at) as u8).collect();
            let frames: Vec<Vec<u8>> = lens.into_iter().enumerate().map(frame).collect();
            prop_assert_eq!(decode(&encode(&frames), &pieces), (frames, None));
        }

        #[test]
        fn whatever_comes_a_frame_is_one_and_nothing_follows_a_bad_length(
            stream in prop::collection::vec(prop_oneof![4 => Just(0u8), 1 => any::<u8>()], 0..4096),
            pieces in prop::collection::vec(1..100usize, 1..10),
        ) {
            let (frames, end) = decode(&stream, &pieces);
            let whole = encode(&frames);
            prop_assert!(stream.starts_with(&whole));
            prop_assert!(frames.iter().all(|frame| FRAME_LEN.contains(&frame.len())));
            let next = stream[whole.len()..].first_chunk().map(|prefix| u32::from_be_bytes(*prefix));
            let bad = next.filter(|len| !FRAME_LEN.contains(&(*len as usize)));
            prop_assert_eq!(end, bad);
        }
    }

    #[test]
    fn lengths_that_no_frame_has_end_the_stream() {
        for len in [0u32, 13, 65_551, 1 << 31, u32::MAX] {
            assert_eq!(decode(&len.to_be_bytes(), &[1]), (vec![], Some(len)));
        }
    }
}
