//! One front-end, from its first message to its last.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use cubie_virtio_core::{DeviceId, Features, VirtioDevice};
use cubie_vm_irq::Interrupt;
use rustix::net::{SendFlags, send};
use vhost::vhost_user::message::{BackendReq, VhostUserInflight, VhostUserVringState};
use vhost::vhost_user::{VhostUserProtocolFeatures as Protocol, VhostUserVirtioFeatures};
use vm_memory::ByteValued;
use vmm_sys_util::eventfd::EventFd;

use crate::Dropped;
use crate::connection::notice;
use crate::event::eventfd;
use crate::inflight::Notes;
use crate::memory::{MOST_REGIONS, Memory};
use crate::request::{Request, RingRequest};
use crate::ring::Ring;
use crate::status::Status;

/// The front-end asks for what vhost-user has beyond the kernel's vhost; also enables rings one by one.
pub(crate) const PROTOCOL_FEATURES: Features =
    Features(VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits());

/// VIRTIO_NET_F_MQ (VIRTIO 1.4 §5.1.3).
const NET_F_MQ: Features = Features::bit(22);

/// As many entries as any ring can have (VIRTIO 1.4 §2.7, §2.8): a front-end does not ask what the device's
/// own are, and the rings do not care.
const MOST_ENTRIES: u32 = 1 << 15;

/// What the front-end is answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// That it is done, if it wants to know.
    Done,
    /// What it has asked for.
    Bytes(Vec<u8>),
    /// The same, with a file.
    File(Vec<u8>, OwnedFd),
}

impl Answer {
    pub(crate) fn number(value: u64) -> Self {
        Self::Bytes(value.to_ne_bytes().into())
    }
}

/// What a front-end has said so far, and the device that it is said to.
pub(crate) struct Session<'d> {
    pub(crate) device: &'d mut dyn VirtioDevice,
    offered: Features,
    pub(crate) features: Features,
    pub(crate) protocol: Protocol,
    pub(crate) memory: Memory,
    pub(crate) rings: Vec<Ring>,
    pub(crate) status: Arc<Status>,
    /// Where the front-end hears that the configuration has changed.
    channel: Option<UnixStream>,
    pub(crate) running: bool,
    /// What is in flight is noted here, for the next daemon should this one be killed.
    pub(crate) notes: Option<Notes>,
}

impl<'d> Session<'d> {
    pub(crate) fn new(device: &'d mut dyn VirtioDevice, rings: Features) -> Self {
        let rings = rings.and(device.rings());
        let mut offered = device.features().with(rings).with(Features::VERSION_1);
        if device.id() == DeviceId::NET {
            // Front-ends keep the control queue: how many pairs the driver wants would never be heard of here.
            offered = Features(offered.0 & !NET_F_MQ.0);
        }
        let rings = device.queue_sizes().iter().map(|most| Ring::new(*most)).collect();
        Self {
            offered: offered.with(PROTOCOL_FEATURES),
            features: Features(0),
            protocol: Protocol::empty(),
            memory: Memory::default(),
            rings,
            status: Arc::new(Status::new(device.id())),
            channel: None,
            running: false,
            notes: None,
            device,
        }
    }

    /// What it can do beyond the kernel's vhost.
    fn protocol_offered(&self) -> Protocol {
        let all = Protocol::MQ
            | Protocol::REPLY_ACK
            | Protocol::BACKEND_REQ
            | Protocol::INFLIGHT_SHMFD
            | Protocol::RESET_DEVICE
            | Protocol::CONFIGURE_MEM_SLOTS
            | Protocol::STATUS;
        match self.device.config().is_empty() {
            true => all,
            false => all | Protocol::CONFIG,
        }
    }

    /// Does what the front-end asks for.
    pub(crate) fn handle(&mut self, request: Request) -> Result<Answer, Dropped> {
        match request {
            Request::Owner => {}
            Request::GetFeatures => return Ok(Answer::number(self.offered.0)),
            Request::SetFeatures(features) => self.set_features(Features(features))?,
            Request::GetProtocolFeatures => {
                return Ok(Answer::number(self.protocol_offered().bits()));
            }
            Request::SetProtocolFeatures(bits) => self.set_protocol(bits)?,
            Request::QueueCount => return Ok(Answer::number(self.rings.len() as u64)),
            Request::MostRegions => return Ok(Answer::number(MOST_REGIONS as u64)),
            Request::SetMemory(regions) => {
                let memory = Memory::new(regions)?;
                self.change(|session| session.memory = memory)?;
            }
            Request::AddRegion(region) => {
                let memory = self.memory.with(region)?;
                self.change(|session| session.memory = memory)?;
            }
            Request::RemoveRegion(place) => {
                let memory = self.memory.without(place)?;
                self.change(|session| session.memory = memory)?;
            }
            Request::GetConfig(at) => {
                let mut bytes = vec![0; at.size as usize];
                self.device.config().read(at.offset as usize, &mut bytes);
                return Ok(Answer::Bytes([at.as_slice(), &bytes].concat()));
            }
            Request::SetConfig(at, bytes) => self.write_config(at.offset as usize, &bytes),
            Request::SetChannel(socket) => {
                self.channel = Some(UnixStream::from(socket));
            }
            Request::GetInflight(wanted) => return self.create_notes(&wanted),
            Request::SetInflight(given, file) => {
                let notes = Notes::of(&given, file)?;
                self.change(|session| session.notes = Some(notes))?;
            }
            Request::Reset => self.reset(),
            Request::GetStatus => return Ok(Answer::number(self.status.bits().into())),
            // Eight bits (VIRTIO 1.4 §2.1), whatever else there is.
            Request::SetStatus(bits) => self.set_status(bits as u8),
            Request::Ring(at, request) => return self.handle_ring(at, request),
        }
        Ok(Answer::Done)
    }

    /// The same for one of the rings.
    fn handle_ring(&mut self, at: u32, request: RingRequest) -> Result<Answer, Dropped> {
        let index = u16::try_from(at).ok().filter(|index| usize::from(*index) < self.rings.len());
        let index = index.ok_or(Dropped::Queue(at))?;
        let (features, mut base) = (self.features, None);
        let change: Box<dyn FnOnce(&mut Ring) + '_> = match request {
            RingRequest::SetSize(size @ 1..=MOST_ENTRIES) => {
                Box::new(move |ring| ring.size = size as u16)
            }
            RingRequest::SetSize(size) => return Err(Dropped::Size { index, size }),
            RingRequest::SetAddresses(parts) => Box::new(move |ring| ring.addresses = Some(parts)),
            RingRequest::SetBase(base) => Box::new(move |ring| ring.set_base(base)),
            RingRequest::GetBase => Box::new(|ring| base = Some(ring.stop(features))),
            RingRequest::SetKick(fd) => {
                // Nobody would ever look at it.
                let missing = Dropped::NoEvent { role: "kick", index };
                let kick = event("kick", index, fd)?.ok_or(missing)?;
                Box::new(move |ring| ring.start(kick))
            }
            RingRequest::SetCall(fd) => {
                let call = event("call", index, fd)?.map(Interrupt::new);
                Box::new(move |ring| ring.set_call(call))
            }
            RingRequest::SetError(fd) => {
                let error = event("error", index, fd)?.map(Interrupt::new);
                Box::new(move |ring| ring.error = error)
            }
            RingRequest::Enable(on) => Box::new(move |ring| ring.enabled = on),
        };
        self.change_ring(index, change)?;
        Ok(match base {
            Some(base) => Answer::Bytes(VhostUserVringState::new(at, base).as_slice().into()),
            None => Answer::Done,
        })
    }

    fn set_features(&mut self, features: Features) -> Result<(), Dropped> {
        if !self.offered.has(features) {
            return Err(Dropped::Features(Features(features.0 & !self.offered.0)));
        }
        self.change(|session| session.features = features)
    }

    fn set_protocol(&mut self, bits: u64) -> Result<(), Dropped> {
        let chosen =
            Protocol::from_bits(bits).filter(|bits| self.protocol_offered().contains(*bits));
        self.protocol = chosen.ok_or(Dropped::ProtocolFeatures(bits))?;
        Ok(())
    }

    /// What lies within the configuration space reaches the device.
    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(room @ 1..) = self.device.config().len().checked_sub(offset) {
            self.device.write_config(offset, &bytes[..bytes.len().min(room)]);
        }
    }

    /// Memory for notes. None of packed rings, of which nothing is noted.
    fn create_notes(&self, wanted: &VhostUserInflight) -> Result<Answer, Dropped> {
        if self.features.has(Features::PACKED) {
            let none = VhostUserInflight { mmap_size: 0, mmap_offset: 0, ..*wanted };
            return Ok(Answer::Bytes(inflight_bytes(&none)));
        }
        let (at, file) = Notes::create(wanted)?;
        Ok(Answer::File(inflight_bytes(&at), file))
    }

    fn set_status(&mut self, bits: u8) {
        match bits {
            0 => self.reset(),
            bits => self.status.set(bits, self.features.has(Features::VERSION_1)),
        }
    }

    /// As at the beginning, but for what belongs to the connection: features, memory, and whom to tell.
    fn reset(&mut self) {
        self.stop();
        self.rings.iter_mut().for_each(Ring::reset);
        self.status.reset();
        self.notes = None;
    }

    /// Tells the front-end that the configuration has changed, if it wants to know.
    pub(crate) fn tell_config(&mut self) {
        let wanted = self.protocol.contains(Protocol::CONFIG | Protocol::BACKEND_REQ);
        let Some(channel) = self.channel.as_ref().filter(|_| wanted) else { return };
        let message = notice(BackendReq::CONFIG_CHANGE_MSG.into());
        // One that has not read the notes before it will look anyway when it does; one that has left will be
        // found out elsewhere. The flags say it each time: that the socket does not block is for its other end to
        // undo.
        let _ = send(channel, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

/// As C has it, with padding.
pub(crate) fn inflight_bytes(at: &VhostUserInflight) -> Vec<u8> {
    let VhostUserInflight { mmap_size, mmap_offset, num_queues, queue_size } = *at;
    let long = [mmap_size, mmap_offset].into_iter().flat_map(u64::to_ne_bytes);
    let short = [num_queues, queue_size, 0, 0].into_iter().flat_map(u16::to_ne_bytes);
    long.chain(short).collect()
}

/// The eventfd that the front-end has sent, or said that it does without.
fn event(role: &'static str, index: u16, fd: Option<OwnedFd>) -> Result<Option<EventFd>, Dropped> {
    let Some(fd) = fd else { return Ok(None) };
    let event = eventfd(fd)?.ok_or(Dropped::NoEvent { role, index })?;
    Ok(Some(event))
}
