//! A message taken apart, by the types and the checks of the crate `vhost`.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, fstat};
use vhost::vhost_user::message::{
    FrontendReq, VhostUserConfig, VhostUserInflight, VhostUserMemory, VhostUserMemoryRegion,
    VhostUserMsgValidator, VhostUserSingleMemoryRegion, VhostUserU64, VhostUserVringAddr,
    VhostUserVringState,
};

use crate::Dropped;
use crate::request::{Addresses, Place, Region};

/// In the number of an eventfd's message: the queue, and whether there is no eventfd.
const QUEUE: u64 = 0xff;
const NO_FILE: u64 = 1 << 8;

/// A message behind its header.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) request: FrontendReq,
    pub(crate) bytes: Vec<u8>,
    pub(crate) files: Vec<OwnedFd>,
}

impl Body {
    pub(crate) fn wrong(&self, what: &'static str) -> Dropped {
        Dropped::Body { request: self.request, what }
    }

    /// The value at the beginning, if it can be one.
    fn front<T: VhostUserMsgValidator + Default>(&self) -> Result<T, Dropped> {
        let mut value = T::default();
        let bytes = self.bytes.get(..size_of::<T>()).ok_or_else(|| self.wrong("too short"))?;
        value.as_mut_slice().copy_from_slice(bytes);
        if value.is_valid() { Ok(value) } else { Err(self.wrong("a value that cannot be")) }
    }

    /// The value that is all of it.
    fn all<T: VhostUserMsgValidator + Default>(&self) -> Result<T, Dropped> {
        if self.bytes.len() > size_of::<T>() {
            return Err(self.wrong("too long"));
        }
        self.front()
    }

    fn no_files(&self) -> Result<(), Dropped> {
        match self.files.len() {
            0 => Ok(()),
            got => Err(Dropped::Files { request: self.request, got }),
        }
    }

    fn one_file(&mut self) -> Result<OwnedFd, Dropped> {
        let got = self.files.len();
        self.files.pop().filter(|_| got == 1).ok_or(Dropped::Files { request: self.request, got })
    }

    /// `request`, which is nothing else than its name.
    pub(crate) fn empty<R>(&self, request: R) -> Result<R, Dropped> {
        self.no_files()?;
        if self.bytes.is_empty() { Ok(request) } else { Err(self.wrong("too long")) }
    }

    pub(crate) fn number(&self) -> Result<u64, Dropped> {
        self.no_files()?;
        Ok(self.all::<VhostUserU64>()?.value)
    }

    /// A queue, and a number.
    pub(crate) fn state(&self) -> Result<(u32, u32), Dropped> {
        self.no_files()?;
        let VhostUserVringState { index, num } = self.all()?;
        Ok((index, num))
    }

    pub(crate) fn addresses(&self) -> Result<(u32, Addresses), Dropped> {
        self.no_files()?;
        let VhostUserVringAddr { index, descriptor, available, used, .. } = self.all()?;
        Ok((index, Addresses { desc: descriptor, driver: available, device: used }))
    }

    /// A queue, and an eventfd unless it does without.
    pub(crate) fn event(&mut self) -> Result<(u32, Option<OwnedFd>), Dropped> {
        let value = self.all::<VhostUserU64>()?.value;
        if value & !(QUEUE | NO_FILE) != 0 {
            return Err(self.wrong("a value that cannot be"));
        }
        let file = match value & NO_FILE {
            0 => Some(self.one_file()?),
            _ => self.no_files().map(|()| None)?,
        };
        Ok(((value & QUEUE) as u32, file))
    }

    /// A part of the configuration space, and the bytes there.
    pub(crate) fn config(&mut self) -> Result<(VhostUserConfig, Vec<u8>), Dropped> {
        self.no_files()?;
        let at = self.front::<VhostUserConfig>()?;
        let bytes = self.bytes.split_off(size_of::<VhostUserConfig>());
        if bytes.len() == at.size as usize {
            Ok((at, bytes))
        } else {
            Err(self.wrong("not as many bytes as it says"))
        }
    }

    /// How large notes on what is in flight are, and where they lie in their file.
    pub(crate) fn inflight(&self) -> Result<VhostUserInflight, Dropped> {
        self.all()
    }

    /// The same, with the file.
    pub(crate) fn inflight_file(&mut self) -> Result<(VhostUserInflight, File), Dropped> {
        let file = File::from(self.one_file()?);
        Ok((self.inflight()?, file))
    }

    /// A stream socket.
    pub(crate) fn channel(&mut self) -> Result<OwnedFd, Dropped> {
        let socket = self.one_file()?;
        self.empty(())?;
        let is_socket = FileType::from_raw_mode(fstat(&socket)?.st_mode) == FileType::Socket;
        if is_socket { Ok(socket) } else { Err(self.wrong("the file is not a socket")) }
    }

    /// All regions of memory, with a file for each.
    pub(crate) fn regions(self) -> Result<Vec<Region>, Dropped> {
        let count = self.front::<VhostUserMemory>()?.num_regions as usize;
        let places = &self.bytes[size_of::<VhostUserMemory>()..];
        if places.len() != count * size_of::<VhostUserMemoryRegion>() {
            return Err(self.wrong("not as many regions as it says"));
        }
        if self.files.len() != count {
            return Err(Dropped::Files { request: self.request, got: self.files.len() });
        }
        let places: Vec<_> = places
            .chunks_exact(size_of::<VhostUserMemoryRegion>())
            .map(|bytes| {
                let region = Self { bytes: bytes.to_vec(), files: vec![], ..self };
                region.all().map(|region: VhostUserMemoryRegion| Place::from(&region))
            })
            .collect::<Result<_, _>>()?;
        let regions = places.into_iter().zip(self.files);
        Ok(regions.map(|(place, file)| Region { place, file: File::from(file) }).collect())
    }

    /// One region, with its file.
    pub(crate) fn region(&mut self) -> Result<Region, Dropped> {
        let file = File::from(self.one_file()?);
        Ok(Region { place: self.place()?, file })
    }

    /// One region. A file that comes along counts for nothing: some front-ends send one where there should be
    /// none.
    pub(crate) fn place(&self) -> Result<Place, Dropped> {
        let single: VhostUserSingleMemoryRegion = self.all()?;
        let region = VhostUserMemoryRegion { ..*single };
        if region.is_valid() {
            Ok(Place::from(&region))
        } else {
            Err(self.wrong("a value that cannot be"))
        }
    }
}

impl From<&VhostUserMemoryRegion> for Place {
    fn from(region: &VhostUserMemoryRegion) -> Self {
        let VhostUserMemoryRegion { guest_phys_addr, memory_size, user_addr, mmap_offset } =
            *region;
        Self { guest: guest_phys_addr, size: memory_size, user: user_addr, offset: mmap_offset }
    }
}
