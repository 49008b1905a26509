//! The device's end of this crate.

use std::sync::Arc;

use crate::history::{Device, Taken, params};
use cubie_virtq::{Chain, Features, OnFault, QueueResources, QueueState, Virtqueue};
use cubie_vm_irq::Interrupt;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub(crate) struct Ours {
    pub(crate) queue: Virtqueue,
    interrupt: EventFd,
    taken: Vec<Chain>,
}

impl Ours {
    pub(crate) fn new(memory: &Arc<GuestMemoryMmap>, size: u16, features: Features) -> Self {
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        let queue = Virtqueue::new(QueueResources {
            index: 0,
            params: params(size, features),
            state: QueueState::fresh(features),
            features,
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            interrupt: Interrupt::new(interrupt.try_clone().unwrap()),
            fault: OnFault::unheard(),
            memory: memory.clone(),
        });
        Self { queue: queue.unwrap(), interrupt, taken: vec![] }
    }
}

impl Device for Ours {
    const HOLDS_BACK: bool = true;

    fn take(&mut self) -> Option<Taken> {
        let chain = self.queue.pop();
        assert_eq!(self.queue.error(), None);
        let mut chain = chain?;
        let mut read = vec![0; chain.readable().len()];
        chain.readable().read(&mut read);
        let room = chain.writable().len();
        self.taken.push(chain);
        Some(Taken { read, room })
    }

    fn complete(&mut self, chains: Vec<(usize, Vec<u8>)>) {
        for (_, data) in &chains {
            let mut chain = self.taken.remove(chains[0].0);
            assert_eq!(chain.writable().write(data), data.len());
            self.queue.push(chain, data.len() as u32);
        }
        self.queue.signal();
    }

    fn wants_interrupt(&mut self) -> bool {
        self.interrupt.read().is_ok()
    }

    fn arm(&mut self) -> bool {
        self.queue.look_again()
    }
}
