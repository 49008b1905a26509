//! A daemon with which all is negotiated.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use cubie_virtio_core::Features;
use vhost::VhostUserMemoryRegionInfo;
use vhost::vhost_user::VhostUserProtocolFeatures as Protocol;
use vhost::vhost_user::message::{
    FrontendReq, VhostUserConfig, VhostUserConfigFlags, VhostUserMemory, VhostUserMemoryRegion,
    VhostUserVringState,
};
use vm_memory::{ByteValued, GuestMemoryBackend, GuestMemoryMmap};

use super::link::Link;
use super::notes::Notes;
use super::ring::Ring;
use super::session::Work;
use super::{ConnectError, DaemonError, DaemonKind};

/// VHOST_USER_F_PROTOCOL_FEATURES: the daemon has features of the protocol.
const PROTOCOL_FEATURES: Features = Features::bit(30);
/// What of those is of use here.
const WANTED: Protocol = Protocol::MQ
    .union(Protocol::REPLY_ACK)
    .union(Protocol::CONFIG)
    .union(Protocol::BACKEND_REQ)
    .union(Protocol::INFLIGHT_SHMFD);

/// A daemon, and what it can do.
#[derive(Debug)]
pub(crate) struct Daemon {
    link: Link,
    offered: Features,
    protocol: Protocol,
    /// On which it says that the configuration has changed.
    channel: Option<UnixStream>,
}

impl Daemon {
    /// Connects to the one that listens at `path` and negotiates all but what the driver decides.
    pub(crate) fn connect(
        path: &Path,
        kind: &DaemonKind,
        stop: &Arc<OwnedFd>,
    ) -> Result<Self, ConnectError> {
        let link = Link::open(path, Arc::clone(stop));
        let link = link.map_err(|error| ConnectError::of(path, error))?;
        let failed = |source| ConnectError::Daemon { path: path.into(), source };
        let daemon = Self::negotiate(link).map_err(failed)?;
        if !daemon.offered.has(Features::VERSION_1) {
            return Err(ConnectError::Legacy(path.into()));
        }
        if kind.needs_config() && !daemon.has_config() {
            return Err(ConnectError::NoConfig(path.into()));
        }
        if let Some(queues) = kind.queues_to_ask_for() {
            let most = daemon.queues().map_err(failed)?;
            if most < queues.into() {
                return Err(ConnectError::Queues { path: path.into(), most });
            }
        }
        Ok(daemon)
    }

    fn negotiate(mut link: Link) -> Result<Self, DaemonError> {
        link.tell(FrontendReq::SET_OWNER, &[], &[])?;
        let offered = Features(link.number(FrontendReq::GET_FEATURES)?);
        let mut protocol = Protocol::empty();
        if offered.has(PROTOCOL_FEATURES) {
            let bits = link.number(FrontendReq::GET_PROTOCOL_FEATURES)?;
            protocol = Protocol::from_bits_truncate(bits) & WANTED;
            link.tell(FrontendReq::SET_PROTOCOL_FEATURES, protocol.bits().as_slice(), &[])?;
        }
        link.acknowledges = protocol.contains(Protocol::REPLY_ACK);
        let mut channel = None;
        if protocol.contains(Protocol::BACKEND_REQ | Protocol::CONFIG) {
            let (ours, theirs) = UnixStream::pair()?;
            link.tell(FrontendReq::SET_BACKEND_REQ_FD, &[], &[theirs.as_raw_fd()])?;
            channel = Some(ours);
        }
        Ok(Self { link, offered, protocol, channel })
    }

    fn queues(&self) -> Result<u64, DaemonError> {
        match self.protocol.contains(Protocol::MQ) {
            true => self.link.number(FrontendReq::GET_QUEUE_NUM),
            false => Ok(1),
        }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn channel(&self) -> Option<&UnixStream> {
        self.channel.as_ref()
    }

    /// Of the device and of rings.
    pub(crate) fn offered(&self) -> Features {
        self.offered
    }

    pub(crate) fn has_config(&self) -> bool {
        self.protocol.contains(Protocol::CONFIG)
    }

    /// The configuration space that a guest sees of a device of this kind.
    pub(crate) fn config(&self, kind: &DaemonKind) -> Result<Vec<u8>, DaemonError> {
        let mut bytes = vec![0; kind.config_len()];
        if self.has_config() && kind.asks_config() {
            let request = FrontendReq::GET_CONFIG;
            let at = at(0, bytes.len());
            let answer = self.link.ask(request, &[at.as_slice(), &bytes].concat())?;
            match answer.get(at.as_slice().len()..) {
                Some(said) if said.len() == bytes.len() => bytes.copy_from_slice(said),
                _ => {
                    let what = format!("{} bytes", answer.len());
                    return Err(DaemonError::Nonsense { request, what });
                }
            }
        }
        kind.finish_config(&mut bytes);
        Ok(bytes)
    }

    /// The driver has written into it.
    pub(crate) fn set_config(&self, offset: usize, bytes: &[u8]) -> Result<(), DaemonError> {
        let body = [at(offset as u32, bytes.len()).as_slice(), bytes].concat();
        self.link.tell(FrontendReq::SET_CONFIG, &body, &[])
    }

    /// Has the daemon serve rings, which may be another daemon's until now.
    pub(crate) fn serve(&self, work: &mut Work) -> Result<(), DaemonError> {
        let features = work.features.with(PROTOCOL_FEATURES).and(self.offered);
        self.link.tell(FrontendReq::SET_FEATURES, features.0.as_slice(), &[])?;
        if self.protocol.contains(Protocol::INFLIGHT_SHMFD) {
            if work.notes.is_none() {
                work.notes = Notes::ask(&self.link, &work.rings)?;
            }
            work.notes.iter().try_for_each(|notes| notes.show(&self.link))?;
        }
        work.served = true;
        self.show_memory(&work.memory)?;
        work.rings.iter().try_for_each(|ring| self.show(ring))?;
        work.rings.iter().for_each(Ring::begin);
        Ok(())
    }

    fn show_memory(&self, memory: &GuestMemoryMmap) -> Result<(), DaemonError> {
        let regions = memory.iter().map(VhostUserMemoryRegionInfo::from_guest_region);
        let regions: Vec<_> = regions.collect::<Result<_, _>>().map_err(std::io::Error::other)?;
        let count = VhostUserMemory::new(regions.len() as u32);
        let mut body = count.as_slice().to_vec();
        for region in &regions {
            let region: VhostUserMemoryRegion = region.to_region();
            body.extend_from_slice(region.as_slice());
        }
        let files: Vec<_> = regions.iter().map(|region| region.mmap_handle).collect();
        self.link.tell(FrontendReq::SET_MEM_TABLE, &body, &files)
    }

    fn show(&self, ring: &Ring) -> Result<(), DaemonError> {
        let index = ring.index();
        let set = |request, number| {
            let state = VhostUserVringState::new(index.into(), number);
            self.link.tell(request, state.as_slice(), &[])
        };
        set(FrontendReq::SET_VRING_NUM, ring.size().into())?;
        set(FrontendReq::SET_VRING_BASE, ring.base())?;
        self.link.tell(FrontendReq::SET_VRING_ADDR, ring.parts().as_slice(), &[])?;
        let events =
            [FrontendReq::SET_VRING_CALL, FrontendReq::SET_VRING_ERR, FrontendReq::SET_VRING_KICK];
        for (request, event) in events.into_iter().zip(ring.events()) {
            self.link.tell(request, u64::from(index).as_slice(), &[event.as_raw_fd()])?;
        }
        if self.offered.has(PROTOCOL_FEATURES) {
            set(FrontendReq::SET_VRING_ENABLE, 1)?;
        }
        Ok(())
    }

    /// Takes a ring back, of which nothing is in flight then.
    pub(crate) fn take_back(&self, ring: &mut Ring) -> Result<(), DaemonError> {
        let request = FrontendReq::GET_VRING_BASE;
        let index = VhostUserVringState::new(ring.index().into(), 0);
        let state: VhostUserVringState = self.link.value(request, index.as_slice())?;
        ring.stopped_at(state.num);
        Ok(())
    }
}

fn at(offset: u32, len: usize) -> VhostUserConfig {
    VhostUserConfig::new(offset, len as u32, VhostUserConfigFlags::empty())
}
