//! A card that is stopped in the middle and goes on where it was, as for a snapshot.

use std::sync::Arc;
use std::time::Duration;

use cubie_testkit::within;
use cubie_virtio_core::{Features, QueueResources, QueueState, Queues, VirtioDevice};
use cubie_virtio_net::{Loopback, Mac, Net, NetHeader};
use cubie_virtq::{OnFault, QueueParams};
use cubie_vm_irq::Interrupt;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const DEADLINE: Duration = Duration::from_secs(20);
const SIZE: u16 = 512;
/// Frames that fit into a cable: when so many of the queue are used, the next one waits.
const CABLE: u16 = 256;
const LEN: u64 = NetHeader::LEN as u64 + 20;
/// Each queue's parts lie in 64 KiB of its own.
const QUEUE: u64 = 0x1_0000;
const AVAIL: u64 = 0x4000;
const USED: u64 = 0x8000;
const DATA: u64 = 0x10_0000;

/// Guest memory with all chains of both queues available, the transmitted ones numbered.
fn guest() -> Arc<GuestMemoryMmap> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x20_0000)]).unwrap();
    for queue in 0..2 {
        let base = QUEUE * queue;
        let write_flag = (1 - queue) << 33;
        for n in 0..SIZE {
            let index = u64::from(n);
            let data = DATA + 64 * index + 0x8_0000 * queue;
            let desc = GuestAddress(base + 16 * index);
            memory.write_obj([data, LEN | write_flag], desc).unwrap();
            memory.write_obj(n, GuestAddress(base + AVAIL + 4 + 2 * index)).unwrap();
            if queue == 1 {
                let number = GuestAddress(data + NetHeader::LEN as u64);
                memory.write_obj(u32::from(n), number).unwrap();
            }
        }
        memory.write_obj(SIZE, GuestAddress(base + AVAIL + 2)).unwrap();
    }
    Arc::new(memory)
}

fn start(net: &mut Net<Loopback>, memory: &Arc<GuestMemoryMmap>, states: &[QueueState]) {
    let queues = (0..).zip(states).map(|(index, state)| {
        let desc = QUEUE * u64::from(index);
        QueueResources {
            index,
            params: QueueParams { size: SIZE, desc, driver: desc + AVAIL, device: desc + USED },
            state: *state,
            features: Features::VERSION_1,
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            interrupt: Interrupt::silent(),
            fault: OnFault::unheard(),
            memory: memory.clone(),
        }
    });
    net.start(Features::VERSION_1, Queues::new(queues.collect())).unwrap();
}

/// Spins until the device has given back `count` chains of `queue`.
fn wait_for_used(memory: &GuestMemoryMmap, queue: u64, count: u16) {
    let index = GuestAddress(QUEUE * queue + USED + 2);
    while memory.read_obj::<u16>(index).unwrap() != count {
        std::thread::yield_now();
    }
}

#[test]
fn room_on_a_full_cable_wakes_the_card() {
    within(DEADLINE, || {
        let (cable, far_end) = Loopback::pair().unwrap();
        let mut net = Net::new(cable, Mac::made_from("test"));
        let memory = guest();
        start(&mut net, &memory, &[QueueState::default(); 2]);
        wait_for_used(&memory, 1, CABLE);
        for n in 0..u32::from(SIZE) {
            let frame = far_end.wait_frame(DEADLINE / 2).expect("a frame from the guest");
            assert_eq!(frame[..4], n.to_le_bytes());
        }
    });
}

#[test]
fn frames_in_both_directions_pass_once_and_in_order() {
    within(DEADLINE, || {
        let (cable, far_end) = Loopback::pair().unwrap();
        let mut net = Net::new(cable, Mac::made_from("test"));
        let memory = guest();
        let mut states = vec![QueueState::default(); 2];
        for round in 0..4u32 {
            start(&mut net, &memory, &states);
            if round == 0 {
                wait_for_used(&memory, 1, CABLE);
            }
            for n in 100 * round..100 * (round + 1) {
                let frame = far_end.wait_frame(DEADLINE).expect("a frame from the guest");
                assert_eq!(frame[..4], n.to_le_bytes());
                assert!(far_end.send_frame(&[n as u8; 20]));
            }
            states = net.stop();
            assert!(net.stop().is_empty(), "a second stop does nothing");
        }
        start(&mut net, &memory, &states);
        for n in 400..u32::from(SIZE) {
            let frame = far_end.wait_frame(DEADLINE).expect("a frame from the guest");
            assert_eq!(frame[..4], n.to_le_bytes());
            assert!(far_end.send_frame(&[n as u8; 20]));
        }
        wait_for_used(&memory, 0, SIZE);
        let done = QueueState { next_avail: SIZE, next_used: SIZE };
        assert_eq!(net.stop(), [done, done, QueueState::default()], "there is no control queue");
        for n in 0..u64::from(SIZE) {
            let first = GuestAddress(DATA + 64 * n + NetHeader::LEN as u64);
            assert_eq!(memory.read_obj::<u8>(first).unwrap(), n as u8);
        }
    });
}
