//! A disk, a card and a source of entropy, each behind a socket of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

use cubie::blk::{Blk, RawFile};
use cubie::net::{Mac, Net};
use cubie::rng::{HostEntropy, Rng};
use cubie::user_net::{Config, UserNet};
use cubie::vhost_user::{Listener, Server};
use cubie::virtio::VirtioDevice;
use rustix::event::{EventfdFlags, eventfd};

use crate::pc::{Pc, is_here};

const DISK: usize = 4 << 20;
const WRITTEN: usize = 1 << 20;

/// The guest's part: what is on the disk is what the test has put there, what is written is read again, and comes
/// back through the card from a server of the host's.
const CHECKS: &str = r#"
for device in /sys/bus/virtio/devices/*; do
    echo "features $(cat $device/device) $(cat $device/features)"
done
echo "sectors $(cat /sys/block/vda/size)"
cmp /dev/vda /disk && echo "the disk is read"
dd if=/written of=/dev/vda bs=64k seek=16 conv=fsync,notrunc 2>/dev/null
drop_caches
dd if=/dev/vda bs=64k skip=16 count=16 2>/dev/null | cmp - /written && echo "the disk is written"
echo "entropy $(dd if=/dev/hwrng bs=512 count=1 2>/dev/null | wc -c)"
ip link set eth0 up
udhcpc -i eth0 -n -q -t 10 >/dev/null 2>&1
nc 10.0.2.2 PORT </written | cmp - /written && echo "the card carries"
"#;

/// A device behind the socket `name`, until `stop` is readable.
fn serve(
    folder: &Path,
    name: &str,
    device: impl VirtioDevice + 'static,
    stop: &OwnedFd,
) -> thread::JoinHandle<()> {
    let listener = Listener::bind(folder.join(name)).unwrap();
    let stop = stop.try_clone().unwrap();
    thread::spawn(move || Server::new(Box::new(device)).run(&listener, stop).unwrap())
}

fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Returns what it gets, connection by connection.
fn echo_server() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut bytes = vec![0; WRITTEN];
            // A guest that gives up is seen by the test.
            let _ = (&stream).read_exact(&mut bytes).and_then(|()| (&stream).write_all(&bytes));
        }
    });
    port
}

#[test]
fn qemus_guest_works_with_our_disk_card_and_entropy_over_split_and_packed_rings() {
    if !is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (folder, stop) = (folder.path(), eventfd(0, EventfdFlags::CLOEXEC).unwrap());
    let image = folder.join("disk.img");
    let (mut disk, written) = (pattern(DISK, 1), pattern(WRITTEN, 2));
    fs::write(&image, &disk).unwrap();
    let blk = Blk::new(RawFile::open(&image, false).unwrap(), "vhost-user".parse().unwrap());
    // As QEMU's queues are by default.
    let blk = blk.with_segments(126);
    let net = Net::new(UserNet::new(&Config::default()).unwrap(), Mac::made_from("a PC's"));
    let daemons = [
        serve(folder, "blk", blk, &stop),
        serve(folder, "net", net, &stop),
        serve(folder, "rng", Rng::new(HostEntropy), &stop),
    ];
    let checks = CHECKS.replace("PORT", &echo_server().to_string());
    // The same daemons, for one guest after the other.
    for (ring, packed) in [("", '0'), (",packed=on", '1')] {
        // QEMU 7.2 ends itself when it has no KVM and a vhost-user card has MSI-X.
        let devices = format!(
            "-chardev socket,id=b,path=blk -device vhost-user-blk-pci,chardev=b,num-queues=1{ring} \
             -chardev socket,id=n,path=net -netdev vhost-user,id=n,chardev=n \
             -device virtio-net-pci,netdev=n,vectors=0,romfile={ring} \
             -chardev socket,id=r,path=rng -device vhost-user-rng-pci,chardev=r{ring}"
        );
        let files: [(&str, &[u8]); 2] = [("disk", &disk), ("written", &written)];
        let text = Pc::start(folder, &devices, &checks, &files).output();
        for line in
            ["sectors 8192", "disk is read", "disk is written", "entropy 512", "card carries"]
        {
            assert!(text.contains(line), "{line}: {text}");
        }
        // Feature 34 is RING_PACKED.
        let features: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("features ")).collect();
        assert_eq!(features.len(), 3, "{text}");
        for features in features {
            let (_, bits) = features.trim().split_once(' ').unwrap();
            assert_eq!(bits.chars().nth(34), Some(packed), "{text}");
        }
        disk[WRITTEN..2 * WRITTEN].copy_from_slice(&written);
        assert!(fs::read(&image).unwrap() == disk, "the image has what the guest has written");
    }
    rustix::io::write(&stop, &1u64.to_ne_bytes()).unwrap();
    daemons.into_iter().for_each(|daemon| daemon.join().unwrap());
}
