//! Two streams between a guest and its host, as long as a test likes, whatever it does to them meanwhile.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::network::CHECKSUM_ERRORS;
use crate::vm::{Vm, until};

/// Bytes that a stream has moved on by when it goes on.
const MORE: u64 = 256 << 10;

/// Zeros each way, over TCP, in pieces longer than a frame. Both ends look for anything else.
pub(crate) struct Traffic {
    streams: [TcpStream; 2],
    /// Bytes to the guest and from it, as the host's end has them.
    counts: [Arc<AtomicU64>; 2],
}

impl Traffic {
    /// Starts them from the guest, which knows `address` of the host by the name of `host`.
    pub(crate) fn start(vm: &mut Vm, address: &str, host: &str) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let listeners = [(); 2].map(|()| TcpListener::bind((address, 0)).unwrap());
        let [to, from] = listeners.each_ref().map(|end| end.local_addr().unwrap().port());
        vm.run(&format!(
            "{{ (nc {host} {to} </dev/null | tr -d '\\000' | wc -c >/tmp/strange) & \
             nc {host} {from} -e dd if=/dev/zero bs=64k & }} 2>/dev/null"
        ));
        let streams = listeners.map(|listener| listener.accept().unwrap().0);
        let counts = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let [to, from] = streams.each_ref().map(|stream| stream.try_clone().unwrap());
        let [sent, received] = counts.clone();
        thread::spawn(move || pour(to, &sent));
        thread::spawn(move || drain(from, &received));
        let traffic = Self { streams, counts };
        traffic.goes_on();
        traffic
    }

    /// Waits until both streams have moved on from where they are.
    #[track_caller]
    pub(crate) fn goes_on(&self) {
        for (count, way) in self.counts.iter().zip(["to the guest", "from the guest"]) {
            let before = count.load(Ordering::Relaxed);
            let moves = || count.load(Ordering::Relaxed) > before + MORE;
            until(&format!("the traffic {way} goes on"), moves);
        }
    }

    /// Bytes so far, both ways together.
    pub(crate) fn bytes(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Ends both streams. What the guest has received was all zeros too, and no checksum was wrong.
    pub(crate) fn end(self, vm: &mut Vm) {
        let [to, from] = &self.streams;
        to.shutdown(Shutdown::Write).unwrap();
        vm.ask_until("cat /tmp/strange", "\n0\r\n");
        from.shutdown(Shutdown::Both).unwrap();
        assert_eq!(vm.run(CHECKSUM_ERRORS), "0");
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Both); // its other end may be gone with the network
        }
    }
}

fn pour(mut stream: TcpStream, count: &AtomicU64) {
    let zeros = [0; 1 << 14];
    while let Ok(len @ 1..) = stream.write(&zeros) {
        count.fetch_add(len as u64, Ordering::Relaxed);
    }
}

fn drain(mut stream: TcpStream, count: &AtomicU64) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(len @ 1..) = stream.read(&mut bytes) {
        assert!(bytes[..len].iter().all(|byte| *byte == 0), "the guest sends zeros");
        count.fetch_add(len as u64, Ordering::Relaxed);
    }
}
