//! What a front-end asks for: bytes to values, no I/O.

use std::fs::File;
use std::os::fd::OwnedFd;

use vhost::vhost_user::VhostUserProtocolFeatures as Protocol;
use vhost::vhost_user::message::{FrontendReq, VhostUserConfig, VhostUserInflight};

use crate::Dropped;
use crate::body::Body;
use crate::connection::Message;

/// A region of guest memory, and the file that it is a part of.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) place: Place,
    pub(crate) file: File,
}

/// Where a region lies: guest-physical address, bytes, address in the front-end, offset in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) guest: u64,
    pub(crate) size: u64,
    pub(crate) user: u64,
    pub(crate) offset: u64,
}

/// The parts of a ring, by the front-end's own addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) desc: u64,
    pub(crate) driver: u64,
    pub(crate) device: u64,
}

/// What is asked of one of the queues.
#[derive(Debug)]
pub(crate) enum RingRequest {
    SetSize(u32),
    SetAddresses(Addresses),
    SetBase(u32),
    /// And stop.
    GetBase,
    SetKick(Option<OwnedFd>),
    SetCall(Option<OwnedFd>),
    SetError(Option<OwnedFd>),
    Enable(bool),
}

/// A request, well formed.
pub(crate) enum Request {
    GetFeatures,
    SetFeatures(u64),
    GetProtocolFeatures,
    SetProtocolFeatures(u64),
    /// Two of the oldest, of which one means nothing and the other means nothing any more.
    Owner,
    QueueCount,
    MostRegions,
    SetMemory(Vec<Region>),
    AddRegion(Region),
    RemoveRegion(Place),
    /// About the queue of this index, which may be that of none.
    Ring(u32, RingRequest),
    GetConfig(VhostUserConfig),
    SetConfig(VhostUserConfig, Vec<u8>),
    /// A socket on which the back-end may ask for something.
    SetChannel(OwnedFd),
    /// New memory for notes on what is in flight.
    GetInflight(VhostUserInflight),
    /// The notes, as another process may have left them.
    SetInflight(VhostUserInflight, File),
    Reset,
    GetStatus,
    SetStatus(u64),
}

impl Request {
    /// What `message` asks for, of a front-end that has negotiated `protocol`.
    pub(crate) fn parse(message: Message, protocol: Protocol) -> Result<Self, Dropped> {
        let request = FrontendReq::try_from(message.code);
        let request = request.map_err(|_| Dropped::Unknown(message.code))?;
        let feature = belongs_to(request);
        if !protocol.contains(feature) {
            return Err(Dropped::NotNegotiated { request, feature });
        }
        Self::of(Body { request, bytes: message.body, files: message.files })
    }

    fn of(mut body: Body) -> Result<Self, Dropped> {
        match body.request {
            FrontendReq::GET_FEATURES => body.empty(Self::GetFeatures),
            FrontendReq::SET_FEATURES => body.number().map(Self::SetFeatures),
            FrontendReq::GET_PROTOCOL_FEATURES => body.empty(Self::GetProtocolFeatures),
            FrontendReq::SET_PROTOCOL_FEATURES => body.number().map(Self::SetProtocolFeatures),
            FrontendReq::SET_OWNER | FrontendReq::RESET_OWNER => body.empty(Self::Owner),
            FrontendReq::GET_QUEUE_NUM => body.empty(Self::QueueCount),
            FrontendReq::GET_MAX_MEM_SLOTS => body.empty(Self::MostRegions),
            FrontendReq::SET_MEM_TABLE => body.regions().map(Self::SetMemory),
            FrontendReq::ADD_MEM_REG => body.region().map(Self::AddRegion),
            FrontendReq::REM_MEM_REG => body.place().map(Self::RemoveRegion),
            FrontendReq::GET_CONFIG => body.config().map(|(at, _)| Self::GetConfig(at)),
            FrontendReq::SET_CONFIG => body.config().map(|(at, to)| Self::SetConfig(at, to)),
            FrontendReq::SET_BACKEND_REQ_FD => body.channel().map(Self::SetChannel),
            FrontendReq::GET_INFLIGHT_FD => body.inflight().map(Self::GetInflight),
            FrontendReq::SET_INFLIGHT_FD => {
                body.inflight_file().map(|(at, file)| Self::SetInflight(at, file))
            }
            FrontendReq::RESET_DEVICE => body.empty(Self::Reset),
            FrontendReq::GET_STATUS => body.empty(Self::GetStatus),
            FrontendReq::SET_STATUS => body.number().map(Self::SetStatus),
            _ => RingRequest::of(body).map(|(at, request)| Self::Ring(at, request)),
        }
    }
}

impl RingRequest {
    fn of(mut body: Body) -> Result<(u32, Self), Dropped> {
        Ok(match body.request {
            FrontendReq::SET_VRING_NUM => with(body.state()?, Self::SetSize),
            FrontendReq::SET_VRING_ADDR => with(body.addresses()?, Self::SetAddresses),
            FrontendReq::SET_VRING_BASE => with(body.state()?, Self::SetBase),
            FrontendReq::GET_VRING_BASE => with(body.state()?, |_| Self::GetBase),
            FrontendReq::SET_VRING_KICK => with(body.event()?, Self::SetKick),
            FrontendReq::SET_VRING_CALL => with(body.event()?, Self::SetCall),
            FrontendReq::SET_VRING_ERR => with(body.event()?, Self::SetError),
            FrontendReq::SET_VRING_ENABLE => match body.state()? {
                (at, on @ 0..=1) => (at, Self::Enable(on == 1)),
                _ => return Err(body.wrong("neither 0 nor 1")),
            },
            unknown => return Err(Dropped::Unknown(unknown.into())),
        })
    }
}

/// What is asked of a queue.
fn with<T>((at, value): (u32, T), request: impl FnOnce(T) -> RingRequest) -> (u32, RingRequest) {
    (at, request(value))
}

/// The protocol feature that a request is of, if any.
fn belongs_to(request: FrontendReq) -> Protocol {
    match request {
        FrontendReq::GET_QUEUE_NUM => Protocol::MQ,
        FrontendReq::GET_CONFIG | FrontendReq::SET_CONFIG => Protocol::CONFIG,
        FrontendReq::SET_BACKEND_REQ_FD => Protocol::BACKEND_REQ,
        FrontendReq::RESET_DEVICE => Protocol::RESET_DEVICE,
        FrontendReq::GET_INFLIGHT_FD | FrontendReq::SET_INFLIGHT_FD => Protocol::INFLIGHT_SHMFD,
        FrontendReq::GET_MAX_MEM_SLOTS | FrontendReq::ADD_MEM_REG | FrontendReq::REM_MEM_REG => {
            Protocol::CONFIGURE_MEM_SLOTS
        }
        FrontendReq::SET_STATUS | FrontendReq::GET_STATUS => Protocol::STATUS,
        _ => Protocol::empty(),
    }
}
