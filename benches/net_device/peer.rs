//! A card over rust-vmm's `virtio-queue`, reduced to what no card can leave out.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::Context;
use cubie::irq::Interrupt;
use cubie::net::NetHeader;
use cubie::virtio::{Handler, Source};
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};
use vmm_sys_util::eventfd::EventFd;

use crate::case::{Case, Direction, SIZE};
use crate::driver::Pair;

const HONEST: &str = "an honest driver";

/// Serves one queue of a pair.
pub(crate) struct Peer {
    queue: Queue,
    memory: Arc<GuestMemoryMmap>,
    kick: EventFd,
    interrupt: Interrupt,
    direction: Direction,
    /// What is received.
    frame: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(case: &Case, pair: Pair) -> anyhow::Result<Self> {
        let resources = pair.queues.into_iter().next().context("a queue")?;
        let mut queue = Queue::new(SIZE)?;
        let params = resources.params;
        queue.set_size(params.size);
        queue.set_desc_table_address(Some(params.desc as u32), Some(0));
        queue.set_avail_ring_address(Some(params.driver as u32), Some(0));
        queue.set_used_ring_address(Some(params.device as u32), Some(0));
        queue.set_event_idx(true);
        queue.set_ready(true);
        Ok(Self {
            queue,
            memory: resources.memory,
            kick: resources.kick,
            interrupt: resources.interrupt,
            direction: case.direction,
            frame: vec![0; case.frame as usize],
        })
    }

    /// All frames that the driver has made available.
    fn transmit(&mut self, memory: &GuestMemoryMmap) {
        let mut pieces = Vec::with_capacity(SIZE.into());
        while let Some(chain) = self.queue.pop_descriptor_chain(memory) {
            let head = chain.head_index();
            pieces.clear();
            gather(memory, chain, &mut pieces);
            let mut header = [0; NetHeader::LEN];
            pieces[0].copy_to(&mut header);
            pieces[0] = pieces[0].offset(NetHeader::LEN).expect(HONEST);
            black_box((NetHeader::from_bytes(header), &pieces));
            self.queue.add_used(memory, head, 0).expect(HONEST);
        }
    }

    /// As many frames as there are buffers for.
    fn receive(&mut self, memory: &GuestMemoryMmap) {
        let whole = NetHeader::LEN + self.frame.len();
        let (mut pieces, mut chains) = (Vec::with_capacity(SIZE.into()), Vec::new());
        loop {
            let mut room = 0;
            pieces.clear();
            chains.clear();
            while room < whole {
                let Some(chain) = self.queue.pop_descriptor_chain(memory) else {
                    // They are for a frame to come.
                    chains.iter().for_each(|_| self.queue.go_to_previous_position());
                    return;
                };
                let head = chain.head_index();
                let len = gather(memory, chain, &mut pieces);
                chains.push((head, len.min(whole - room)));
                room += len;
            }
            let num_buffers = chains.len() as u16;
            let header = NetHeader { num_buffers, ..NetHeader::default() }.to_bytes();
            pieces[0].copy_from(&header);
            pieces[0] = pieces[0].offset(NetHeader::LEN).expect(HONEST);
            let mut left = self.frame.as_slice();
            for piece in &pieces {
                let (here, behind) = left.split_at(left.len().min(piece.len()));
                piece.copy_from(here);
                left = behind;
            }
            for (head, len) in &chains {
                self.queue.add_used(memory, *head, *len as u32).expect(HONEST);
            }
        }
    }
}

/// Adds the pieces of a chain. How many bytes they have.
fn gather<'m>(
    memory: &'m GuestMemoryMmap,
    chain: DescriptorChain<&GuestMemoryMmap>,
    pieces: &mut Vec<VolatileSlice<'m>>,
) -> usize {
    let mut sum = 0;
    for desc in chain {
        let piece = memory.get_slice(desc.addr(), desc.len() as usize).expect(HONEST);
        sum += piece.len();
        pieces.push(piece);
    }
    sum
}

impl Handler for Peer {
    fn sources(&self) -> Vec<Source> {
        vec![Source::readable(&self.kick, 0)]
    }

    fn ready(&mut self, _token: u32) {
        let memory = Arc::clone(&self.memory);
        loop {
            self.queue.disable_notification(&*memory).expect(HONEST);
            match self.direction {
                Direction::Transmit => self.transmit(&memory),
                Direction::Receive => self.receive(&memory),
            }
            if self.queue.needs_notification(&*memory).expect(HONEST) {
                self.interrupt.trigger();
            }
            if !self.queue.enable_notification(&*memory).expect(HONEST) {
                return;
            }
        }
    }
}
