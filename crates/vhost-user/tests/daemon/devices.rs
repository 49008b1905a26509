//! The other devices: several queues, configurations that change, queues that are disabled.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cubie_virtio_console::{Console, Memory, WindowSize};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Loopback, Mac, Net};
use cubie_virtio_rng::{HostEntropy, Rng};
use cubie_virtq::driver::Buffer;
use vhost::vhost_user::message::{FrontendReq, VhostUserConfigFlags};
use vhost::vhost_user::{FrontendReqHandler, VhostUserFrontend, VhostUserFrontendReqHandlerMut};
use vm_memory::{Bytes, GuestAddress};

use crate::daemon::Daemon;
use crate::guest::{FREE, Guest};
use crate::wire::{DEADLINE, Wire};

const RINGS: Features = Features::INDIRECT.with(Features::EVENT_IDX);

#[test]
fn entropy_comes_through_the_socket() {
    let (daemon, socket) = Daemon::of(Rng::new(HostEntropy));
    let mut guest = Guest::new(socket, RINGS.with(Features::PACKED), &[8]);
    guest.start(0);
    let used = guest.exchange(0, &[Buffer::writable(FREE, 64)]);
    assert_eq!(used.written, 64);
    let mut bytes = [0; 64];
    guest.memory.read_slice(&mut bytes, GuestAddress(FREE)).unwrap();
    assert_ne!(bytes, [0; 64]);
    drop(guest);
    daemon.end().unwrap();
}

#[test]
fn a_console_has_two_queues_and_tells_when_its_window_changes() {
    let (backend, person) = Memory::new().unwrap();
    let console = Console::new(backend, WindowSize { columns: 80, rows: 25 });
    let resizer = console.resizer();
    let (_daemon, socket) = Daemon::of(console);
    let mut guest = Guest::new(socket, RINGS, &[8, 8]);
    assert_eq!(guest.front.get_queue_num().unwrap(), 2);
    guest.start(0);
    guest.start(1);
    guest.memory.write_slice(b"hello", GuestAddress(FREE)).unwrap();
    guest.exchange(1, &[Buffer::readable(FREE, 5)]);
    assert_eq!(person.wait_for(5, DEADLINE), b"hello");
    person.type_in(b"hi");
    assert_eq!(guest.exchange(0, &[Buffer::writable(FREE, 64)]).written, 2);

    #[derive(Default)]
    struct Told(u32);
    impl VhostUserFrontendReqHandlerMut for Told {
        fn handle_config_change(&mut self) -> std::io::Result<u64> {
            self.0 += 1;
            Ok(0)
        }
    }
    let told = Arc::new(Mutex::new(Told::default()));
    let mut channel = FrontendReqHandler::new(told.clone()).unwrap();
    let end = RawEnd(channel.get_tx_raw_fd());
    guest.front.set_backend_request_fd(&end).unwrap();
    resizer.resize(WindowSize { columns: 132, rows: 43 });
    channel.handle_request().unwrap();
    assert_eq!(told.lock().unwrap().0, 1);
    let flags = VhostUserConfigFlags::empty();
    let (_, bytes) = guest.front.get_config(0, 4, flags, &[0; 4]).unwrap();
    assert_eq!(bytes, [132, 0, 43, 0]);
    // Beyond its end there is nothing.
    let (_, bytes) = guest.front.get_config(2, 40, flags, &[0; 40]).unwrap();
    assert_eq!((bytes[0], &bytes[30..]), (43, &[0; 10][..]));
}

struct RawEnd(std::os::fd::RawFd);
impl std::os::fd::AsRawFd for RawEnd {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0
    }
}

#[test]
fn a_card_serves_the_queues_that_are_enabled() {
    let (card, cable) = Loopback::pair().unwrap();
    let net = Net::new(card, "52:54:00:00:00:01".parse::<Mac>().unwrap());
    let (_daemon, socket) = Daemon::of(net);
    let mut guest = Guest::new(socket, RINGS, &[8, 8]);
    guest.start(0);
    guest.start(1);
    let frame = [7u8; 100];
    let send = [Buffer::readable(FREE, 12 + 100)];
    guest.memory.write_slice(&[0; 12], GuestAddress(FREE)).unwrap();
    guest.memory.write_slice(&frame, GuestAddress(FREE + 12)).unwrap();
    guest.exchange(1, &send);
    assert_eq!(cable.wait_frame(DEADLINE).unwrap(), frame);

    // The queue for sending is off: what is offered waits in it, and the other one goes on.
    guest.front.set_vring_enable(1, false).unwrap();
    guest.offer(1, &send);
    assert!(cable.send_frame(&frame));
    assert_eq!(guest.exchange(0, &[Buffer::writable(FREE + 4096, 2048)]).written, 112);
    assert_eq!(cable.wait_frame(Duration::ZERO), None);
    guest.front.set_vring_enable(1, true).unwrap();
    guest.wait_used(1);
    assert_eq!(cable.wait_frame(DEADLINE).unwrap(), frame);
}

#[test]
fn the_status_is_a_note_and_zero_a_reset() {
    let (daemon, socket) = Daemon::of(Rng::new(HostEntropy));
    let wire = Wire(socket);
    let features = wire.ask(FrontendReq::GET_FEATURES);
    let protocol = wire.ask(FrontendReq::GET_PROTOCOL_FEATURES);
    wire.tell(FrontendReq::SET_PROTOCOL_FEATURES, protocol);
    // A legacy driver's features are none that it can work with.
    wire.tell(FrontendReq::SET_STATUS, 0b1011);
    assert_eq!(wire.ask(FrontendReq::GET_STATUS), 0b0011);
    wire.tell(FrontendReq::SET_FEATURES, features);
    wire.tell(FrontendReq::SET_STATUS, 0b1111);
    assert_eq!(wire.ask(FrontendReq::GET_STATUS), 0b1111);
    wire.tell(FrontendReq::SET_STATUS, 0);
    assert_eq!(wire.ask(FrontendReq::GET_STATUS), 0);
    drop(wire);
    daemon.end().unwrap();
}

#[test]
fn a_daemon_that_stops_hangs_up() {
    let (daemon, socket) = Daemon::of(Rng::new(HostEntropy));
    let wire = Wire(socket);
    wire.ask(FrontendReq::GET_FEATURES);
    rustix::io::write(daemon.stop.as_fd(), &1u64.to_ne_bytes()).unwrap();
    daemon.end().unwrap();
    assert_eq!(wire.answer(), None);
    let _: UnixStream = wire.0;
}
