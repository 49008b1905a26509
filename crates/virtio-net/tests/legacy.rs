//! The card behind the legacy interface, through the driver of `virtio-drivers`: its header is shorter.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, RegisterTransport, within};
use cubie_virtio_net::{Loopback, Mac, Net};
use virtio_drivers::device::net::VirtIONetRaw;

const DEADLINE: Duration = Duration::from_secs(20);

type Eth = VirtIONetRaw<GuestHal, RegisterTransport, 16>;

#[test]
fn frames_come_back_from_a_loopback_behind_headers_of_ten_bytes() {
    within(DEADLINE, || {
        let net = Net::new(Loopback::new().unwrap(), Mac::made_from("test"));
        let counters = net.counters();
        let slot = Guest::new().socket().legacy().plug(Box::new(net));
        for _ in 0..2 {
            let mut eth = Eth::new(slot.transport()).unwrap();
            assert_eq!(eth.mac_address(), Mac::made_from("test").bytes());
            for len in [14, 60, 1514] {
                let sent: Vec<_> = (0..len).map(|n| n as u8).collect();
                eth.send(&sent).unwrap();
                let mut buffer = [0xff; 1526];
                let (header, received) = eth.receive_wait(&mut buffer).unwrap();
                assert_eq!(buffer[..header], [0; 10], "a plain frame");
                assert!(buffer[header..header + received] == sent, "a frame of {len} bytes");
            }
        }
        assert_eq!((counters.transmit().drops.total(), counters.receive().drops.total()), (0, 0));
    });
}
