//! Initialisation (VIRTIO 1.4 §3.1, §2.1).

use cubie_virtio_core::Features;
use cubie_virtq::QueueParams;
use virtio_bindings::virtio_config::*;
use virtio_bindings::virtio_mmio::*;
use vm_memory::{Bytes, GuestAddress};

use super::load::Bench;
use super::{Make, sockets};
use crate::{Guest, RegisterTransport};

const ACKNOWLEDGE: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE;
const DRIVER: u32 = ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
const AGREED: u32 = DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
pub(super) const RUNNING: u32 = AGREED | VIRTIO_CONFIG_S_DRIVER_OK;
/// Times that a device is started.
const STARTS: usize = 20;

/// A store to a register: offset and value.
type Store = (u32, u32);

/// Up to FEATURES_OK, choosing `features`.
fn negotiation(features: Features) -> Vec<Store> {
    let Features(bits) = features;
    vec![
        (VIRTIO_MMIO_STATUS, ACKNOWLEDGE),
        (VIRTIO_MMIO_STATUS, DRIVER),
        (VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0),
        (VIRTIO_MMIO_DRIVER_FEATURES, bits as u32),
        (VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1),
        (VIRTIO_MMIO_DRIVER_FEATURES, (bits >> 32) as u32),
        (VIRTIO_MMIO_STATUS, AGREED),
    ]
}

/// All stores of an initialisation, one queue after the other.
pub(super) fn initialisation(bench: &Bench) -> Vec<Store> {
    let features = Features::VERSION_1;
    let queues = bench.sizes.iter().zip(0..).flat_map(|(size, index)| {
        let (_, bytes) = QueueParams::contiguous(0, *size, features);
        let base = bench.guest.take_rings(bytes, 64);
        let zeros = vec![0; bytes as usize];
        bench.guest.memory().write_slice(&zeros, GuestAddress(base)).expect("rings lie in memory");
        let (params, _) = QueueParams::contiguous(base, *size, features);
        set_up(index, params)
    });
    let driver_ok = (VIRTIO_MMIO_STATUS, RUNNING);
    negotiation(features).into_iter().chain(queues).chain([driver_ok]).collect()
}

fn set_up(index: u32, params: QueueParams) -> [Store; 9] {
    let QueueParams { size, desc, driver, device } = params;
    let high = |address: u64| (address >> 32) as u32;
    [
        (VIRTIO_MMIO_QUEUE_SEL, index),
        (VIRTIO_MMIO_QUEUE_NUM, size.into()),
        (VIRTIO_MMIO_QUEUE_DESC_LOW, desc as u32),
        (VIRTIO_MMIO_QUEUE_DESC_HIGH, high(desc)),
        (VIRTIO_MMIO_QUEUE_AVAIL_LOW, driver as u32),
        (VIRTIO_MMIO_QUEUE_AVAIL_HIGH, high(driver)),
        (VIRTIO_MMIO_QUEUE_USED_LOW, device as u32),
        (VIRTIO_MMIO_QUEUE_USED_HIGH, high(device)),
        (VIRTIO_MMIO_QUEUE_READY, 1),
    ]
}

fn write(transport: &mut RegisterTransport, stores: &[Store]) {
    stores.iter().for_each(|(offset, value)| transport.write(*offset, *value));
}

#[track_caller]
fn check_status(transport: &RegisterTransport, expected: u32, when: &str) {
    assert_eq!(transport.read(VIRTIO_MMIO_STATUS), expected, "{when}");
}

/// The driver gives up after each store of the initialisation.
pub fn a_reset_at_every_step_leads_back_to_the_beginning(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let bench = Bench::new(socket, make);
        let stores = initialisation(&bench);
        let mut transport = bench.slot.transport();
        for steps in 0..=stores.len() {
            write(&mut transport, &stores[..steps]);
            transport.write(VIRTIO_MMIO_STATUS, 0);
            check_fresh(&mut transport, bench.sizes.len() as u32, steps);
        }
        write(&mut transport, &stores);
        check_status(&transport, RUNNING, "in the end");
    }
}

#[track_caller]
fn check_fresh(transport: &mut RegisterTransport, queues: u32, steps: usize) {
    for offset in [VIRTIO_MMIO_STATUS, VIRTIO_MMIO_INTERRUPT_STATUS] {
        assert_eq!(transport.read(offset), 0, "register {offset:#x}, reset after {steps} stores");
    }
    for queue in 0..queues {
        transport.write(VIRTIO_MMIO_QUEUE_SEL, queue);
        let ready = transport.read(VIRTIO_MMIO_QUEUE_READY);
        assert_eq!(ready, 0, "queue {queue} is ready, reset after {steps} stores");
    }
}

/// No step is left out, none is taken back, and a driver that has failed has to reset.
pub fn steps_out_of_order_are_refused(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let bench = Bench::new(socket, make);
        let mut transport = bench.slot.transport();
        let mut status = |wanted, expected| {
            transport.write(VIRTIO_MMIO_STATUS, wanted);
            check_status(&transport, expected, &format!("{wanted:#x} was written"));
        };
        status(VIRTIO_CONFIG_S_DRIVER, 0);
        status(ACKNOWLEDGE, ACKNOWLEDGE);
        status(ACKNOWLEDGE | VIRTIO_CONFIG_S_FEATURES_OK, ACKNOWLEDGE);
        status(DRIVER, DRIVER);
        status(DRIVER | VIRTIO_CONFIG_S_DRIVER_OK, DRIVER);
        status(ACKNOWLEDGE, DRIVER);
        status(DRIVER | VIRTIO_CONFIG_S_FAILED, DRIVER | VIRTIO_CONFIG_S_FAILED);
        status(RUNNING, DRIVER | VIRTIO_CONFIG_S_FAILED);
        status(0, 0);
    }
}

/// FEATURES_OK does not stay, and the device does not start.
pub fn features_that_were_not_offered_are_refused(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let bench = Bench::new(socket, make);
        let mut transport = bench.slot.transport();
        let offered = virtio_drivers::transport::Transport::read_device_features(&mut transport);
        let foreign = (0..64).map(Features::bit).filter(|bit| bit.0 & offered == 0);
        let wrong = foreign.map(|bit| bit.with(Features::VERSION_1)).chain([Features::default()]);
        for features in wrong {
            transport.write(VIRTIO_MMIO_STATUS, 0);
            write(&mut transport, &negotiation(features));
            check_status(&transport, DRIVER, &format!("{features:x?} were chosen"));
            transport.write(VIRTIO_MMIO_STATUS, RUNNING);
            check_status(&transport, DRIVER, &format!("{features:x?} were chosen"));
        }
    }
}

/// In the same slot and in another one; DRIVER_OK a second time changes nothing.
pub fn a_device_starts_and_stops_again_and_again(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let mut bench = Bench::new(socket.clone(), make);
        for _ in 0..STARTS {
            let mut load = bench.drive(Features::RING, u16::MAX);
            load.driver.transport().write(VIRTIO_MMIO_STATUS, RUNNING);
            load.round();
            drop(load);
            bench.slot = socket.clone().plug(bench.slot.unplug());
        }
    }
}
