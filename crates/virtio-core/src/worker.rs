//! The data plane's thread.

use std::cell::Cell;
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use vmm_sys_util::eventfd::EventFd;

use crate::Handler;
use crate::event_loop::{Loop, serve_all};

thread_local! {
    /// See [`serve_at_start`].
    static AT_START: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body`, in which a device that starts on this thread gets no worker: each of its sources is served
/// once, before `start` returns, and then nothing until the next start.
///
/// For fuzz targets. A start and a stop are then one turn of the device, the same each time, at a fraction
/// of a thread's price; a worker serves as much at the least before it stops.
#[doc(hidden)]
pub fn serve_at_start<R>(body: impl FnOnce() -> R) -> R {
    let before = AT_START.replace(true);
    let result = body();
    AT_START.set(before);
    result
}

/// A running handler. Dropping it stops it.
#[derive(Debug)]
pub struct Running<H>(Option<Worker<H>>);

#[derive(Debug)]
enum Worker<H> {
    Thread {
        thread: JoinHandle<H>,
        stop: EventFd,
    },
    /// By [`serve_at_start`].
    Served(H),
}

impl<H> Running<H> {
    /// Lets the handler finish the event it is at, ends its thread and returns it.
    pub fn stop(mut self) -> H {
        match self.join() {
            Some(Ok(handler)) => handler,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => unreachable!("only `drop` comes after `stop`"),
        }
    }

    fn join(&mut self) -> Option<thread::Result<H>> {
        match self.0.take()? {
            Worker::Thread { thread, stop } => {
                // Cannot fail: nobody else writes to this eventfd.
                let _ = stop.write(1);
                Some(thread.join())
            }
            Worker::Served(handler) => Some(Ok(handler)),
        }
    }
}

impl<H> Drop for Running<H> {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

/// Starts a thread called `name` that serves `handler`. What the host refuses, such as a file that
/// cannot be polled, comes back together with the handler.
pub fn spawn<H: Handler>(name: &str, mut handler: H) -> Result<Running<H>, (io::Error, H)> {
    if AT_START.get() {
        handler.begin();
        serve_all(&mut handler);
        return Ok(Running(Some(Worker::Served(handler))));
    }
    // The handler follows by a channel, so that it is not lost when there can be no thread.
    let (sender, receiver) = mpsc::sync_channel::<Loop<H>>(1);
    let body = move || receiver.recv().ok().map(Loop::run);
    let prepared = EventFd::new(0).and_then(|stop| {
        let thread = thread::Builder::new().name(name.into());
        Ok((stop.try_clone()?, stop, thread))
    });
    let (mine, theirs, thread) = match prepared {
        Ok(all) => all,
        Err(error) => return Err((error, handler)),
    };
    let event_loop = Loop::new(handler, theirs)?;
    match thread.spawn(move || body().expect("a handler was sent")) {
        Ok(thread) => {
            // The thread waits for exactly this message.
            let _ = sender.send(event_loop);
            Ok(Running(Some(Worker::Thread { thread, stop: mine })))
        }
        Err(error) => Err((error, event_loop.into_handler())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Idle, Source};
    use std::fs::File;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    struct Echo {
        input: EventFd,
        output: Sender<u64>,
        served: u64,
    }

    impl Handler for Echo {
        fn sources(&self) -> Vec<Source> {
            vec![Source::readable(&self.input, 0)]
        }
        fn ready(&mut self, _token: u32) {
            if let Ok(count) = self.input.read() {
                self.served += count;
                self.output.send(count).unwrap();
            }
        }
    }

    fn echo() -> (Echo, EventFd, mpsc::Receiver<u64>) {
        let input = EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK).unwrap();
        let ours = input.try_clone().unwrap();
        let (output, told) = channel();
        (Echo { input, output, served: 0 }, ours, told)
    }

    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn events_reach_the_handler_and_the_handler_comes_back() {
        let (handler, input, told) = echo();
        let running = spawn("echo", handler).map_err(|(e, _)| e).unwrap();
        input.write(3).unwrap();
        assert_eq!(told.recv_timeout(DEADLINE), Ok(3));
        input.write(4).unwrap();
        assert_eq!(told.recv_timeout(DEADLINE), Ok(4));
        assert_eq!(running.stop().served, 7);
    }

    #[test]
    fn what_was_there_before_the_start_is_served() {
        let (handler, input, told) = echo();
        input.write(5).unwrap();
        let running = spawn("echo", handler).map_err(|(e, _)| e).unwrap();
        assert_eq!(told.recv_timeout(DEADLINE), Ok(5));
        drop(running);
        assert!(told.recv_timeout(DEADLINE).is_err(), "dropping ends the thread and the handler");
    }

    #[test]
    fn a_handler_has_begun_when_its_worker_is_there() {
        struct Begins(EventFd, Sender<thread::ThreadId>);
        impl Handler for Begins {
            fn sources(&self) -> Vec<Source> {
                vec![Source::readable(&self.0, 0)]
            }
            fn begin(&mut self) {
                self.1.send(thread::current().id()).unwrap();
            }
            fn ready(&mut self, _token: u32) {}
        }
        let (sender, told) = channel();
        let handler = Begins(EventFd::new(0).unwrap(), sender);
        let _running = spawn("begins", handler).map_err(|(e, _)| e).unwrap();
        assert_eq!(told.try_recv(), Ok(thread::current().id()));
    }

    #[test]
    fn a_worker_that_looks_by_itself_serves_its_sources_sleeps_when_it_likes_and_stops_at_once() {
        struct Looks {
            echo: Echo,
            looks: Sender<u32>,
            /// Before it sleeps.
            left: u32,
        }
        impl Handler for Looks {
            fn sources(&self) -> Vec<Source> {
                self.echo.sources()
            }
            fn ready(&mut self, token: u32) {
                self.echo.ready(token);
            }
            fn idle(&mut self) -> Idle {
                // Nobody listens any more at the end.
                let _ = self.looks.send(self.left);
                self.left = self.left.saturating_sub(1);
                if self.left > 0 { Idle::Look } else { Idle::Sleep }
            }
        }
        for left in [3, u32::MAX] {
            let ((echo, input, told), (looks, looked)) = (echo(), channel());
            let running = spawn("looks", Looks { echo, looks, left }).map_err(|(e, _)| e).unwrap();
            for n in (0..3).map(|n| left - n) {
                assert_eq!(looked.recv_timeout(DEADLINE), Ok(n));
            }
            if left == 3 {
                assert!(looked.recv_timeout(Duration::from_millis(20)).is_err(), "it sleeps");
            }
            input.write(5).unwrap();
            assert_eq!(told.recv_timeout(DEADLINE), Ok(5));
            assert_eq!(running.stop().echo.served, 5);
        }
    }

    #[test]
    fn without_a_worker_the_start_serves_what_is_there_and_nothing_later() {
        let (handler, input, told) = echo();
        input.write(5).unwrap();
        let running = serve_at_start(|| spawn("echo", handler).map_err(|(e, _)| e).unwrap());
        assert_eq!(told.try_recv(), Ok(5));
        input.write(6).unwrap();
        assert_eq!(running.stop().served, 5);
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn a_handler_with_a_file_that_cannot_be_polled_comes_back() {
        struct Plain(File);
        impl Handler for Plain {
            fn sources(&self) -> Vec<Source> {
                vec![Source::readable(&self.0, 0)]
            }
            fn ready(&mut self, _token: u32) {}
        }
        let file = File::open("/proc/self/exe").unwrap();
        let (error, handler) = spawn("plain", Plain(file)).err().expect("a plain file is refused");
        assert!(error.to_string().contains("cannot wait"), "{error}");
        assert!(handler.0.metadata().is_ok());
    }
}
