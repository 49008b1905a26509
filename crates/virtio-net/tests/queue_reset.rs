//! A driver takes the receive queue back and sets another one up, while frames go out as before.

use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver, within};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Loopback, Mac, Net, NetHeader};
use vm_memory::{Bytes, GuestAddress};

const DEADLINE: Duration = Duration::from_secs(20);
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const LEN: u32 = NetHeader::LEN as u32 + 20;

#[test]
fn frames_go_out_while_the_receive_queue_is_reset_and_come_in_when_it_is_back() {
    within(DEADLINE, || {
        let (cable, far_end) = Loopback::pair().unwrap();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(Net::new(cable, Mac::made_from("test"))));
        let mut driver = RawDriver::new(&slot, Features::RING_RESET, &[8, 8]);
        let (frame, old, new) =
            (guest.buffer(LEN as usize), guest.buffer(LEN as usize), guest.buffer(LEN as usize));
        let send = |driver: &mut RawDriver| {
            driver.offer(TRANSMIT, &[Descriptor::readable(frame.0, LEN)]);
            assert_eq!(far_end.wait_frame(DEADLINE), Some(vec![0; 20]));
            driver.wait_used(TRANSMIT, DEADLINE);
        };
        driver.offer(RECEIVE, &[Descriptor::writable(old.0, LEN)]);
        send(&mut driver);

        driver.reset_queue(RECEIVE);
        assert!(far_end.send_frame(&[7; 20]), "a frame that has to wait");
        driver.kick(RECEIVE);
        send(&mut driver);

        driver.renew_queue(RECEIVE, 4);
        driver.offer(RECEIVE, &[Descriptor::writable(new.0, LEN)]);
        assert_eq!(driver.wait_used(RECEIVE, DEADLINE).written, LEN);
        let byte = |buffer: GuestAddress| {
            let at = GuestAddress(buffer.0 + NetHeader::LEN as u64);
            guest.memory().read_obj::<u8>(at).unwrap()
        };
        assert_eq!((byte(old), byte(new)), (0, 7), "nothing reached what was taken back");
        send(&mut driver);
    });
}
