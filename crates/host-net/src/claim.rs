//! A name that one process holds, until it ends however it ends.

use std::io::{self, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// A name in the abstract namespace of Unix sockets (unix(7)): it belongs to a network namespace, as do
/// interfaces, and the kernel frees it with the process. So who asks for it learns whether its holder is
/// alive, across processes' namespaces and without a file that could be stale or a number that could be
/// another process's meanwhile.
#[derive(Debug)]
pub(crate) struct Claim(#[expect(dead_code, reason = "held")] UnixListener);

impl Claim {
    /// Takes the name, if nobody has it.
    pub(crate) fn take(name: &str) -> io::Result<Option<Self>> {
        match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?) {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the name as soon as nobody has it.
    pub(crate) fn wait(name: &str, time: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(claim) = Self::take(name)? {
                return Ok(claim);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // Nobody answers, but the connection ends with the holder's socket.
            if let Ok(mut holder) = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
            {
                holder.set_read_timeout(Some(left))?;
                let _ = holder.read(&mut [0]); // gone, or the time is over: seen above
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;

    fn name(what: &str) -> String {
        format!("cubie-host-net test {what} {}", std::process::id())
    }

    #[test]
    fn a_name_has_one_holder() {
        let name = name("one holder");
        let claim = Claim::take(&name).unwrap();
        assert!(claim.is_some());
        assert!(Claim::take(&name).unwrap().is_none());
        drop(claim);
        assert!(Claim::take(&name).unwrap().is_some());
    }

    #[test]
    fn who_waits_gets_the_name_when_its_holder_is_gone() {
        let name = name("waits");
        let held = Claim::take(&name).unwrap();
        let (waits, waiting) = channel();
        let wanted = name.clone();
        let waiter = thread::spawn(move || {
            waits.send(()).unwrap();
            Claim::wait(&wanted, Duration::from_secs(20)).map(drop)
        });
        waiting.recv().unwrap();
        drop(held);
        waiter.join().unwrap().unwrap();
    }

    #[test]
    fn who_waits_in_vain_is_told() {
        let name = name("in vain");
        let _held = Claim::take(&name).unwrap();
        let error = Claim::wait(&name, Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
