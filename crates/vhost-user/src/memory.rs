//! The guest's memory, as the front-end has shown it.

use std::sync::Arc;

use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MmapRegion,
};

use crate::Dropped;
use crate::request::{Place, Region};

/// As many regions as QEMU's own library takes, which is more than any board has places for memory.
pub(crate) const MOST_REGIONS: usize = 509;

/// The regions that there are, mapped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    regions: Vec<Mapped>,
    map: Arc<GuestMemoryMmap>,
}

#[derive(Clone, Debug)]
struct Mapped {
    place: Place,
    region: Arc<GuestRegionMmap>,
}

impl Memory {
    /// These regions and no others.
    pub(crate) fn new(regions: Vec<Region>) -> Result<Self, Dropped> {
        let regions = regions.into_iter().map(Mapped::new).collect::<Result<_, _>>()?;
        Self::of(regions)
    }

    /// All regions as they are, and one more.
    pub(crate) fn with(&self, region: Region) -> Result<Self, Dropped> {
        let place = region.place;
        if self.regions.len() == MOST_REGIONS {
            return Err(place.refused("there are as many regions as there can be"));
        }
        let mut regions = self.regions.clone();
        regions.push(Mapped::new(region)?);
        Self::of(regions)
    }

    /// All regions but the one at this guest address, of this size, and at this address of the front-end.
    pub(crate) fn without(&self, place: Place) -> Result<Self, Dropped> {
        let is_it = |at: &Place| Place { offset: place.offset, ..*at } == place;
        let index = self.regions.iter().position(|mapped| is_it(&mapped.place));
        let index = index.ok_or_else(|| place.refused("there is no such region"))?;
        let mut regions = self.regions.clone();
        regions.remove(index);
        Self::of(regions)
    }

    fn of(mut regions: Vec<Mapped>) -> Result<Self, Dropped> {
        regions.sort_by_key(|mapped| mapped.place.guest);
        // An empty map has a constructor of its own.
        let map = match regions.last().map(|mapped| mapped.place) {
            None => GuestMemoryMmap::new(),
            Some(last) => {
                let all = regions.iter().map(|mapped| Arc::clone(&mapped.region)).collect();
                GuestMemoryMmap::from_arc_regions(all).map_err(|error| last.refused(error))?
            }
        };
        Ok(Self { regions, map: Arc::new(map) })
    }

    /// For the device.
    pub(crate) fn map(&self) -> &Arc<GuestMemoryMmap> {
        &self.map
    }

    /// The guest-physical address of what the front-end has at `user`.
    pub(crate) fn guest_address(&self, user: u64) -> Option<u64> {
        self.regions.iter().find_map(|Mapped { place, region }| {
            let offset = user.checked_sub(place.user).filter(|offset| *offset < place.size)?;
            Some(region.start_addr().0 + offset)
        })
    }
}

impl Mapped {
    /// Of a place whose parts have been checked: no sum of them is more than 64 bits.
    fn new(Region { place, file }: Region) -> Result<Self, Dropped> {
        let metadata = file.metadata()?;
        // What is mapped beyond its end is no memory: who touches it dies. A device's file has no length.
        if metadata.is_file() && metadata.len() < place.offset + place.size {
            return Err(place.refused("its file is shorter"));
        }
        let size = usize::try_from(place.size).map_err(|error| place.refused(error))?;
        let mapping = MmapRegion::from_file(FileOffset::new(file, place.offset), size)
            .map_err(|error| place.refused(error))?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(place.guest));
        let region = region.ok_or_else(|| place.refused("it ends beyond all addresses"))?;
        Ok(Self { place, region: Arc::new(region) })
    }
}

impl Place {
    pub(crate) fn refused(&self, what: impl ToString) -> Dropped {
        Dropped::Memory { guest: self.guest, size: self.size, what: what.to_string() }
    }
}
