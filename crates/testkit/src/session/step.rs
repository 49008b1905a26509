//! What a driver and a device do to each other, step by step.

/// Bytes that are shown in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// Bytes and where they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) at: u64,
    pub(crate) bytes: Bytes,
}

/// A buffer of a chain: with the bytes that the device may read, or for it to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) readable: Option<Bytes>,
}

/// A chain as the device finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Its first descriptor in a split ring, its buffer id in a packed one.
    pub(crate) id: u16,
    /// Its descriptors and tables of them, the first one first.
    pub(crate) descriptors: Vec<Piece>,
    pub(crate) buffers: Vec<Lent>,
}

impl Chain {
    /// The buffers that the device may write.
    pub(crate) fn writable(&self) -> impl Iterator<Item = &Lent> {
        self.buffers.iter().filter(|buffer| buffer.readable.is_none())
    }
}

/// All that happens is put as what the driver does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A load from the registers, and the answer.
    Load { at: u64, bytes: Bytes },
    /// A store to them.
    Store { at: u64, bytes: Bytes },
    /// The driver has made chains available, or changed its own part of the ring otherwise: the bytes
    /// that are new there, counted from its beginning.
    Lend { queue: u32, area: Vec<Piece>, chains: Vec<Chain> },
    /// The driver takes back a chain that the device has finished with. What the device wrote is counted
    /// from the first writable byte of the chain; behind the first `written` bytes, it is what has changed.
    Take { queue: u32, id: u16, written: u32, wrote: Vec<Piece> },
    /// The driver takes the interrupt.
    Interrupt,
    /// The configuration space has changed by the time of the next step.
    Config { bytes: Bytes },
    /// What the test had to say.
    Note { text: String },
}
