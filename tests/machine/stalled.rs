//! A program of the host's that does not read: what the guest has for it waits, and nobody is busy waiting.

use std::fs::{read_dir, read_to_string};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use crate::network::pieces;
use crate::vm::{DEADLINE, Vm, until};

/// Bytes that the host's sockets keep, which is little.
const SOCKET: usize = 64 << 10;
/// More than is ever sent.
const MOST: usize = 1 << 30;
/// So that the guest's keep little, too.
const SMALL: &str = "echo '4096 65536 262144' | tee /proc/sys/net/ipv4/tcp_[rw]mem";

/// Those threads or processes in `folder` whose name begins so.
pub(crate) fn threads_called(name: &str, folder: &str) -> Vec<PathBuf> {
    let all = read_dir(folder).unwrap().flatten().map(|thread| thread.path());
    let is_called =
        |path: &PathBuf| read_to_string(path.join("comm")).is_ok_and(|comm| comm.starts_with(name));
    all.filter(is_called).collect()
}

/// Time that the card's threads have run for, ours and the kernel's.
fn time_of_threads(vm: &Vm) -> Duration {
    let ours = threads_called("virtio-net", &format!("/proc/{}/task", vm.pid()));
    assert!(!ours.is_empty(), "a card has a thread");
    let threads = ours.into_iter().chain(threads_called(&format!("vhost-{}", vm.pid()), "/proc"));
    let ticks = threads.map(|thread| {
        let stat = read_to_string(thread.join("stat")).unwrap();
        // proc(5): behind the name in brackets come the state, ten numbers, and the time in the program and
        // in the kernel.
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>()
    });
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// The card's threads sleep while the guest runs `command`.
pub(crate) fn sleeps_while(vm: &mut Vm, command: &str) {
    assert!(is_asleep_while(vm, command), "the card's threads are busy");
}

/// Whether the card's threads sleep, most of the time at least, while the guest runs `command`.
fn is_asleep_while(vm: &mut Vm, command: &str) -> bool {
    let (start, before) = (Instant::now(), time_of_threads(vm));
    vm.run(command);
    let (ran, passed) = (time_of_threads(vm) - before, start.elapsed());
    eprintln!("{command}: the card's threads ran for {ran:?} of {passed:?}");
    assert!(passed > Duration::from_secs(1), "too short to tell");
    ran < passed / 4
}

/// All that the guest has got from its host goes back as soon as somebody reads it.
pub(crate) fn waits_for_who_does_not_read(vm: &mut Vm, address: &str, host: &str) {
    let address: IpAddr = address.parse().unwrap();
    let listeners = [(); 2].map(|()| TcpListener::bind((address, 0)).unwrap());
    for listener in &listeners {
        setsockopt(listener, sockopt::RcvBuf, &SOCKET).unwrap();
        setsockopt(listener, sockopt::SndBuf, &SOCKET).unwrap();
    }
    let [to, from] = listeners.each_ref().map(|end| end.local_addr().unwrap().port());
    vm.run(SMALL);
    vm.run(&format!("{{ nc {host} {to} </dev/null | nc {host} {from} & }} 2>/dev/null"));
    let [mut to, mut from] = listeners.map(|listener| listener.accept().unwrap().0);
    let (sent, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, is_enough) = (sent.clone(), enough.clone());
    let sender = thread::spawn(move || {
        for piece in pieces(MOST).take_while(|_| !is_enough.load(Ordering::Relaxed)) {
            to.write_all(&piece).unwrap();
            count.fetch_add(piece.len(), Ordering::Relaxed);
        }
        to.shutdown(Shutdown::Write).unwrap();
    });
    until("all on the way is full, and nobody is busy", || {
        let before = sent.load(Ordering::Relaxed);
        is_asleep_while(vm, "sleep 2") && before > 0 && before == sent.load(Ordering::Relaxed)
    });
    enough.store(true, Ordering::Relaxed);
    from.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut back = vec![];
    from.read_to_end(&mut back).unwrap();
    sender.join().unwrap();
    eprintln!("{} bytes had waited", back.len());
    assert_eq!(back.len(), sent.load(Ordering::Relaxed), "nothing is missing");
    assert!(back.into_iter().zip(pieces(MOST).flatten()).all(|(came, went)| came == went));
}
