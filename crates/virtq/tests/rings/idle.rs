//! A queue that its driver has reset.

use std::sync::Arc;

use cubie_virtq::{Drained, Features, OnFault, QueueParams, QueueResources, QueueState, Virtqueue};
use cubie_vm_irq::Interrupt;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

#[test]
fn it_is_empty_at_the_beginning_and_lies_nowhere() {
    for features in [Features::RING, Features::RING.with(Features::PACKED), Features::IN_ORDER] {
        let (told, memory) = (EventFd::new(EFD_NONBLOCK).unwrap(), [(GuestAddress(0), 0x1000)]);
        let told_of_all = || Interrupt::new(told.try_clone().unwrap());
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&memory).unwrap());
        let mut queue = Virtqueue::idle(QueueResources {
            index: 3,
            params: QueueParams { size: 3, desc: !0, driver: 1, device: 1 },
            state: QueueState { next_avail: 7, next_used: 5 },
            features,
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            interrupt: told_of_all(),
            fault: OnFault::new(|queue, error| panic!("{queue}: {error}")),
            memory: memory.clone(),
        })
        .unwrap();
        queue.kick().write(1).unwrap();
        for _ in 0..3 {
            assert_eq!(queue.drain(|_| unreachable!("no driver")), Drained::Empty);
            assert!(queue.pop().is_none() && !queue.look_again());
            queue.signal();
            queue.remap(memory.clone()).unwrap();
        }
        assert_eq!((queue.state(), queue.error()), (QueueState::fresh(features), None));
        assert_eq!(queue.features(), features);
        assert!(told.read().is_err(), "nobody hears of it");
    }
}
