//! The data plane's thread. The only file that knows event-manager.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use event_manager::{
    EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberId, SubscriberOps,
};
use vmm_sys_util::eventfd::EventFd;

/// Token of the eventfd that ends the loop; a handler's own tokens are smaller.
const STOP: u32 = u32::MAX;

/// A file descriptor that a handler waits for. The handler keeps it open as long as it runs.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    fd: RawFd,
    token: u32,
    events: EventSet,
}

impl Source {
    /// [`Handler::ready`] is called with `token` when there is something to read.
    pub fn readable(fd: &(impl AsRawFd + ?Sized), token: u32) -> Self {
        Self { fd: fd.as_raw_fd(), token, events: EventSet::IN }
    }

    /// [`Handler::ready`] is called with `token` when there is something to read, or room to write.
    pub fn read_write(fd: &impl AsRawFd, token: u32) -> Self {
        Self { fd: fd.as_raw_fd(), token, events: EventSet::IN | EventSet::OUT }
    }

    /// [`Handler::ready`] is called with `token` when there is room to write, or nobody reads any more.
    pub fn writable(fd: &impl AsRawFd, token: u32) -> Self {
        Self { fd: fd.as_raw_fd(), token, events: EventSet::OUT }
    }
}

/// The data plane of a device: owns its queues and its host end while the device runs.
pub trait Handler: Send + 'static {
    /// What to wait for. Asked once, when the worker starts.
    fn sources(&self) -> Vec<Source>;

    /// All sources are waited for from now on. On the thread that starts the worker, before anything else: what
    /// this does is done when the device has started.
    fn begin(&mut self) {}

    /// Source `token` is ready. Edge triggered: serve until there is no more, since another call comes
    /// only with new events. Never waits for the guest, a person or the network: the device cannot be
    /// stopped meanwhile. Called once for each source at the start, ready or not, for what was there
    /// before.
    fn ready(&mut self, token: u32);
}

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

/// What was there before the start.
fn serve_all(handler: &mut impl Handler) {
    for source in handler.sources() {
        handler.ready(source.token);
    }
}

struct Loop<H: Handler> {
    manager: EventManager<Subscriber<H>>,
    id: SubscriberId,
}

impl<H: Handler> Loop<H> {
    /// Registers the handler's sources.
    fn new(handler: H, stop: EventFd) -> Result<Self, (io::Error, H)> {
        let mut manager = match EventManager::new() {
            Ok(manager) => manager,
            Err(error) => return Err((io::Error::other(error.to_string()), handler)),
        };
        let id = manager.add_subscriber(Subscriber { handler, stop, ended: false, refused: None });
        let mut this = Self { manager, id };
        match this.subscriber().refused.take() {
            None => {
                this.subscriber().handler.begin();
                Ok(this)
            }
            Some(error) => Err((error, this.into_handler())),
        }
    }

    fn run(mut self) -> H {
        serve_all(&mut self.subscriber().handler);
        while !self.subscriber().ended {
            // Fails only on a bad epoll descriptor, which this value owns.
            self.manager.run().expect("an event loop of our own");
        }
        self.into_handler()
    }

    fn subscriber(&mut self) -> &mut Subscriber<H> {
        self.manager.subscriber_mut(self.id).expect("the only subscriber")
    }

    fn into_handler(mut self) -> H {
        self.manager.remove_subscriber(self.id).expect("the only subscriber").handler
    }
}

struct Subscriber<H> {
    handler: H,
    stop: EventFd,
    ended: bool,
    refused: Option<io::Error>,
}

impl<H: Handler> MutEventSubscriber for Subscriber<H> {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let stop = Source::readable(&self.stop, STOP);
        for Source { fd, token, events } in self.handler.sources().into_iter().chain([stop]) {
            let events = Events::with_data_raw(fd, token, events | EventSet::EDGE_TRIGGERED);
            if let Err(error) = ops.add(events) {
                self.refused = Some(io::Error::other(format!("cannot wait for a file: {error}")));
            }
        }
    }

    fn process(&mut self, events: Events, _ops: &mut EventOps<'_>) {
        match events.data() {
            STOP => self.ended = true,
            _ if self.ended => {}
            token => self.handler.ready(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
