//! What a hostile driver does.

/// What one case plays.
#[derive(Clone, Debug)]
pub(super) struct Attack {
    /// Registers that are trapped, instead of in a page.
    pub(super) trapped: bool,
    pub(super) begin: Begin,
    pub(super) steps: Vec<Step>,
    /// What another thread writes meanwhile, again and again: each place changes
    /// back and forth.
    pub(super) meanwhile: Vec<Poke>,
}

/// How a driver begins, which it does well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin {
    /// Features that shape a ring, by their bits.
    pub(super) rings: u8,
    /// Of the device's first 32 features those that are chosen.
    pub(super) own: u32,
    /// Most descriptors of a queue.
    pub(super) size: u16,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Another driver.
    Start(Begin),
    /// A chain that is in order but for its payload, see [`Arena`](crate::garbage::Arena); indirect if
    /// that was chosen.
    Offer { queue: u8, garbage: u32, indirect: bool },
    /// A kick by the register, or by the eventfd behind it.
    Kick { queue: u8, trapped: bool },
    /// Looks for used buffers, and asks for an interrupt.
    Collect { queue: u8 },
    /// A driver with manners has its turn: so many chains for each queue, and patience. When the device
    /// does not run, it begins anew.
    Serve { garbage: u32, chains: u8 },
    /// A store to memory.
    Poke(Poke),
    /// A store to the registers.
    Write { offset: u16, value: u32, width: usize },
    /// A load from them.
    Read { offset: u16, width: usize },
    /// One queue is reset,
    ResetQueue { queue: u8 },
    /// or set up as it was.
    RenewQueue { queue: u8 },
}

/// A store to guest memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Poke {
    pub(super) place: Place,
    pub(super) value: u64,
    /// Bytes.
    pub(super) width: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// A field of a descriptor, by its offset.
    Descriptor { queue: u8, index: u16, field: u64 },
    /// What the driver writes of a ring beside descriptors.
    DriverArea { queue: u8, offset: u16 },
    /// What the device writes.
    DeviceArea { queue: u8, offset: u16 },
    /// A table of indirect descriptors.
    Table { offset: u16 },
    /// What chains consist of.
    Payload { writable: bool, offset: u32 },
}
