//! What one run is made of.

use arbitrary::{Arbitrary, Result, Unstructured};
use cubie_virtq::{Features, QueueParams, QueueState};

use crate::guest::{AVAIL, DATA, DESC, REGIONS, TABLE, USED};

/// One run.
#[derive(Arbitrary, Debug)]
pub struct Script {
    pub(crate) setup: Setup,
    /// At most [`MOST_STEPS`] of them are carried out.
    pub(crate) steps: Vec<Step>,
}

pub(crate) const MOST_STEPS: usize = 100;

/// How the queue begins.
#[derive(Debug)]
pub(crate) struct Setup {
    size: u16,
    /// The parts' addresses, unless they lie where they belong.
    parts: Option<[u64; 3]>,
    index: u16,
    event_idx: bool,
    in_order: bool,
}

impl<'a> Arbitrary<'a> for Setup {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let part = |u: &mut Unstructured<'a>| Ok(Place::arbitrary(u)?.address());
        let parts = match u.ratio(1, 16)? {
            true => Some([part(u)?, part(u)?, part(u)?]),
            false => None,
        };
        Ok(Self {
            size: u.int_in_range(0..=40)?,
            parts,
            index: if u.ratio(1, 4)? { u.arbitrary()? } else { 0 },
            event_idx: u.arbitrary()?,
            in_order: u.arbitrary()?,
        })
    }
}

/// What a target makes of a [`Setup`].
pub(crate) struct Start {
    pub(crate) params: QueueParams,
    pub(crate) state: QueueState,
    pub(crate) features: Features,
    pub(crate) packed: bool,
    /// The parts lie where they belong and nowhere else.
    pub(crate) well_placed: bool,
}

impl Setup {
    /// A queue with what the target has `negotiated`, and what the script asks for beside it.
    pub(crate) fn start(&self, negotiated: Features) -> Start {
        let packed = negotiated.has(Features::PACKED);
        let mut features = negotiated;
        if self.event_idx {
            features = features.with(Features::EVENT_IDX);
        }
        if self.in_order {
            features = features.with(Features::IN_ORDER);
        }
        let size = match self.parts {
            Some(_) => self.size,
            None if packed => self.size.max(1),
            None => self.size.clamp(1, 32).next_power_of_two(),
        };
        let [desc, driver, device] = self.parts.unwrap_or([DESC, AVAIL, USED]);
        let index =
            if packed { self.index & 1 << 15 | self.index % size.max(1) } else { self.index };
        let next = QueueState::fresh(features).next_avail ^ index;
        Start {
            params: QueueParams { size, desc, driver, device },
            state: QueueState { next_avail: next, next_used: next },
            features,
            packed,
            well_placed: self.parts.is_none(),
        }
    }
}

/// A guest address, mostly one where something is.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Place {
    Data(u16),
    Table(u8),
    Desc(u8),
    Driver(u8),
    Device(u8),
    /// This many bytes before the end of a region.
    Edge(u8, u8),
    Anywhere(u64),
}

impl Place {
    pub(crate) fn address(self) -> u64 {
        match self {
            Self::Data(offset) => DATA + u64::from(offset % 0x2000),
            Self::Table(index) => TABLE + 16 * u64::from(index % 64),
            Self::Desc(offset) => DESC + u64::from(offset),
            Self::Driver(offset) => AVAIL + u64::from(offset),
            Self::Device(offset) => USED + u64::from(offset),
            Self::Edge(region, before) => {
                let (first, len) = REGIONS[usize::from(region) % REGIONS.len()];
                first + len as u64 - u64::from(before)
            }
            Self::Anywhere(address) => address,
        }
    }
}

/// A buffer's or a table's length in bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Length {
    Short(u8),
    Long(u16),
    Descriptors(u8),
    Any(u32),
    /// Little less than 2³².
    Most(u8),
}

impl Length {
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::Short(len) => len.into(),
            Self::Long(len) => len.into(),
            Self::Descriptors(count) => 16 * u32::from(count % 48),
            Self::Any(len) => len,
            Self::Most(less) => u32::MAX - u32::from(less),
        }
    }
}

/// A descriptor of either ring: in the split ring `link` is the next one, in the packed its buffer's id.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    pub(crate) place: Place,
    pub(crate) length: Length,
    pub(crate) flags: u8,
    pub(crate) link: u8,
}

/// What the guest or the device does next.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Step {
    /// The guest writes a descriptor, into the table or into an indirect one.
    Describe {
        indirect: bool,
        index: u8,
        descriptor: Descriptor,
    },
    /// The guest makes a chain available: in a packed ring, the next descriptor.
    Offer(u8),
    /// The guest moves its index, or its position.
    Jump(i16),
    /// The guest writes anywhere.
    Poke(Place, u32),
    Drain(Vec<Serving>),
    Pop(Vec<Touch>),
    Unpop,
    /// The device completes one of those it has.
    Push(u8, u32),
    /// The device loses one of those it has.
    Lose(u8),
    Signal,
    LookAgain,
    /// Stop and start again.
    Restart,
    /// The memory map has changed, to the same.
    Remap,
}

/// What the device does with a chain while it drains.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) touches: Vec<Touch>,
    /// Meanwhile the guest writes.
    pub(crate) poke: Option<(Place, u32)>,
    pub(crate) answer: Answer,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Answer {
    Done(u32),
    Later,
    Stop,
}

/// What the device does with a chain's segments.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Touch {
    Read(u8),
    Write(u8, u8),
    Skip(u16),
    ReserveHeader(u8),
    WriteHeader(u8),
    ReserveStatus,
    SetStatus(u8),
}
