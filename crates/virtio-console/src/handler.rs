//! Data plane: two queues between kick and interrupt.

use std::io::ErrorKind;

use cubie_virtio_core::{Handler, QueueState, Source, Virtqueue};
use cubie_virtq::{Chain, Serve};

use crate::ConsoleBackend;
use crate::parked::Parked;

const RECEIVE_KICK: u32 = 0;
const TRANSMIT_KICK: u32 = 1;
const INPUT: u32 = 2;
const OUTPUT: u32 = 3;

/// Bytes that one turn transmits: a guest that prints without end must not keep its input waiting, nor its
/// device from being stopped.
const MOST_BYTES_A_TURN: usize = 1 << 20;

/// Serves both queues of one port.
#[derive(Debug)]
pub(crate) struct ConsoleHandler<B> {
    backend: B,
    receive: Virtqueue,
    transmit: Virtqueue,
    /// Bytes of the next chain to transmit that the host has taken already. The chain itself stays in
    /// the ring, so that nothing is in flight when the console waits for room.
    sent: usize,
}

impl<B: ConsoleBackend> ConsoleHandler<B> {
    pub(crate) fn new(parked: Parked<B>, receive: Virtqueue, transmit: Virtqueue) -> Self {
        let sent = parked.sent(&transmit);
        Self { backend: parked.backend, receive, transmit, sent }
    }

    /// The host end, and how far the queues have got.
    pub(crate) fn park(self) -> (Parked<B>, Vec<QueueState>) {
        let Self { backend, receive, transmit, sent } = self;
        let states = vec![receive.state(), transmit.state()];
        (Parked::with_sent(backend, &transmit, sent), states)
    }

    /// Input goes into the guest's buffers as long as there are both.
    fn receive(&mut self) {
        let backend = &mut self.backend;
        let mut interrupted = false;
        self.receive.drain(|mut chain| {
            let mut room = chain.writable();
            if room.is_empty() {
                return Serve::Done(chain, 0);
            }
            match backend.read(&mut room) {
                Ok(count @ 1..) => Serve::Done(chain, count as u32),
                // Nothing now, or no more at all: the guest cannot be told which.
                Ok(0) => Serve::Stop(chain),
                Err(error) => {
                    interrupted = error.kind() == ErrorKind::Interrupted;
                    Serve::Stop(chain)
                }
            }
        });
        if interrupted {
            self.receive.kick_itself();
        }
    }

    /// The guest's output goes to the host as long as it takes it.
    fn transmit(&mut self) {
        let Self { backend, transmit, sent, .. } = self;
        let mut left = MOST_BYTES_A_TURN;
        transmit.drain(|chain| send(backend, chain, sent, &mut left));
        if left == 0 {
            // Other events have their turn, then this queue has another.
            transmit.kick_itself();
        }
    }
}

/// Sends what is left of a chain of which the first `sent` bytes have gone, until this turn's `left` bytes
/// have gone, too.
fn send<B: ConsoleBackend>(
    backend: &mut B,
    mut chain: Chain,
    sent: &mut usize,
    left: &mut usize,
) -> Serve {
    let mut data = chain.readable();
    data.consume(*sent);
    while !data.is_empty() {
        if *left == 0 {
            return Serve::Stop(chain);
        }
        let before = data.len();
        match backend.write(&mut data) {
            Ok(_) if data.len() < before => {
                let count = before - data.len();
                *sent += count;
                *left = left.saturating_sub(count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Serve::Stop(chain),
            // A signal came first. The turn is over, in case that another one comes each time.
            Err(error) if error.kind() == ErrorKind::Interrupted => *left = 0,
            // Nobody reads any more: the guest prints into the void.
            Ok(_) | Err(_) => break,
        }
    }
    *sent = 0;
    Serve::Done(chain, 0)
}

impl<B: ConsoleBackend> Handler for ConsoleHandler<B> {
    fn sources(&self) -> Vec<Source> {
        let kicks = [
            Source::readable(self.receive.kick(), RECEIVE_KICK),
            Source::readable(self.transmit.kick(), TRANSMIT_KICK),
        ];
        let input = self.backend.input_ready().map(|fd| Source::readable(&fd, INPUT));
        let output = self.backend.output_ready().map(|fd| Source::read_write(&fd, OUTPUT));
        kicks.into_iter().chain(input).chain(output).collect()
    }

    fn ready(&mut self, token: u32) {
        match token {
            RECEIVE_KICK | INPUT => self.receive(),
            _ => self.transmit(),
        }
    }
}
