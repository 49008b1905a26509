//! How a worker waits. The only file that knows event-manager.

use std::io;

use event_manager::{
    EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberId, SubscriberOps,
};
use vmm_sys_util::eventfd::EventFd;

use crate::{Handler, Idle, Source};

/// Token of the eventfd that ends the loop; a handler's own tokens are smaller.
const STOP: u32 = u32::MAX;

/// What was there before the start.
pub(crate) fn serve_all(handler: &mut impl Handler) {
    for source in handler.sources() {
        handler.ready(source.token);
    }
}

/// The handler, and what it waits for.
pub(crate) struct Loop<H: Handler> {
    manager: EventManager<Subscriber<H>>,
    id: SubscriberId,
}

impl<H: Handler> Loop<H> {
    /// Registers the handler's sources.
    pub(crate) fn new(handler: H, stop: EventFd) -> Result<Self, (io::Error, H)> {
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

    pub(crate) fn run(mut self) -> H {
        serve_all(&mut self.subscriber().handler);
        while !self.subscriber().ended {
            let milliseconds = match self.subscriber().handler.idle() {
                Idle::Sleep => -1,
                Idle::Look => 0,
            };
            // Fails only on a bad epoll descriptor, which this value owns.
            self.manager.run_with_timeout(milliseconds).expect("an event loop of our own");
        }
        self.into_handler()
    }

    fn subscriber(&mut self) -> &mut Subscriber<H> {
        self.manager.subscriber_mut(self.id).expect("the only subscriber")
    }

    pub(crate) fn into_handler(mut self) -> H {
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
        for Source { fd, token, read, write } in self.handler.sources().into_iter().chain([stop]) {
            let mut events = EventSet::EDGE_TRIGGERED;
            events.set(EventSet::IN, read);
            events.set(EventSet::OUT, write);
            let events = Events::with_data_raw(fd, token, events);
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
