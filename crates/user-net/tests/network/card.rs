//! Through the real device: rings, registers, a worker thread, and a driver that somebody else wrote.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use cubie_testkit::{Guest, GuestHal, RegisterTransport, within};
use cubie_user_net::{Config, UserNet};
use cubie_virtio_net::{Mac, Net};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use virtio_drivers::device::net::{TxBuffer, VirtIONet};

use crate::cable::Cable;
use crate::stack::{DEADLINE, MAC, Stack, host, spawn};

type Driver = VirtIONet<GuestHal, RegisterTransport, 32>;

/// A driver that looks again every millisecond.
struct Card {
    driver: RefCell<Driver>,
    tick: OwnedFd,
}

impl Cable for Card {
    fn send(&mut self, frame: &[u8], _: Instant) {
        self.driver.get_mut().send(TxBuffer::from(frame)).unwrap();
    }
    fn receive(&mut self, _: Instant) -> Option<Vec<u8>> {
        let _ = rustix::io::read(&self.tick, &mut [0; 8]);
        let driver = self.driver.get_mut();
        let buffer = driver.receive().ok()?;
        let frame = buffer.packet().to_vec();
        driver.recycle_rx_buffer(buffer).unwrap();
        Some(frame)
    }
    fn ready(&self) -> BorrowedFd<'_> {
        self.tick.as_fd()
    }
}

#[test]
fn a_driver_of_virtio_drivers_reaches_a_server_through_the_device() {
    within(DEADLINE, || {
        let net = UserNet::new(&Config::default()).unwrap();
        let guest = Guest::new();
        let mac: Mac = "02:00:00:00:00:0f".parse().unwrap();
        assert_eq!(mac.bytes(), MAC);
        let slot = guest.plug(Box::new(Net::new(net, mac)));
        let driver = Driver::new(slot.transport(), 2048).unwrap();
        let tick = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).unwrap();
        let millisecond = rustix::event::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let each = Itimerspec { it_interval: millisecond, it_value: millisecond };
        timerfd_settime(&tick, TimerfdTimerFlags::empty(), &each).unwrap();
        let mut stack = Stack::on(Card { driver: RefCell::new(driver), tick });

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let end = host(listener.local_addr().unwrap());
        let server = spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut came = vec![];
            stream.read_to_end(&mut came).unwrap();
            stream.write_all(&came).unwrap();
        });
        let socket = stack.connect(end);
        assert!(stack.is_open(socket));
        let data: Vec<u8> = (0..300_000u32).map(|i| (i >> 3) as u8).collect();
        stack.write(socket, &data);
        stack.tcp(socket).close();
        assert!(stack.read_to_end(socket) == data, "what went there came back");
        stack.join(server);
    });
}
