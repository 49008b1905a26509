//! Cards that the kernel shall serve. That it does is shown with real guests (`tests/machine/vhost.rs`).

use std::path::Path;
use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, within};
use cubie_virtio_net::{Loopback, Mac, Net, Tap, VhostError};
use virtio_drivers::device::net::VirtIONetRaw;

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn a_card_that_the_kernel_cannot_serve_is_as_it_was() {
    within(DEADLINE, || {
        let (cable, far_end) = Loopback::pair().unwrap();
        let mut card = Net::new(cable, Mac::made_from("test"));
        let error = card.use_vhost().unwrap_err();
        assert!(matches!(error, VhostError::NoTap), "{error}");
        let slot = Guest::new().plug(Box::new(card));
        let mut eth0 = VirtIONetRaw::<GuestHal, _, 16>::new(slot.transport()).unwrap();
        eth0.send(b"a frame that takes the usual road").unwrap();
        assert!(far_end.wait_frame(DEADLINE).is_some());
    });
}

#[test]
fn a_kernel_without_vhost_net_is_named_with_the_command_that_helps() {
    if Path::new("/dev/vhost-net").exists() {
        return eprintln!("skipped: there is a vhost-net here");
    }
    let Ok(tap) = Tap::open(None) else { return eprintln!("skipped: no tap here") };
    let error = Net::new(tap, Mac::made_from("test")).use_vhost().unwrap_err();
    assert!(error.to_string().contains("`modprobe vhost_net`"), "{error}");
}
