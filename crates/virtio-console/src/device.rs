//! Control plane: identity, configuration, start and stop.

use cubie_virtio_core::{
    Config, DeviceId, Features, QueueState, Queues, RestoreError, StartError, Station, VirtioDevice,
};

use crate::ConsoleBackend;
use crate::handler::ConsoleHandler;
use crate::parked::Parked;
use crate::protocol::{F_SIZE, RECEIVE, TRANSMIT, WindowSize};

/// Chains that fit into each queue: Linux fills its receive queue with a page a chain.
const QUEUE_SIZE: u16 = 64;

/// The virtio console: one port, `hvc0` in a Linux guest.
pub struct Console<B: ConsoleBackend> {
    config: Config,
    station: Station<Parked<B>, ConsoleHandler<B>>,
}

/// Tells the guest the size of its window, at any time and from any thread.
#[derive(Clone, Debug)]
pub struct Resizer(Config);

impl<B: ConsoleBackend> Console<B> {
    /// A console whose host end is `backend`, in a window of this size.
    pub fn new(backend: B, size: WindowSize) -> Self {
        Self {
            config: Config::new(size.to_config()),
            station: Station::Parked(Parked::new(backend)),
        }
    }

    /// A handle for later changes of the window's size.
    pub fn resizer(&self) -> Resizer {
        Resizer(self.config.clone())
    }
}

impl Resizer {
    /// The window has this size from now on. The guest is interrupted if it had another.
    pub fn resize(&self, size: WindowSize) {
        let (mut old, new) = ([0; 4], size.to_bytes());
        self.0.read(0, &mut old);
        if old != new {
            self.0.update(|config| config[..new.len()].copy_from_slice(&new));
        }
    }
}

impl<B: ConsoleBackend> VirtioDevice for Console<B> {
    fn id(&self) -> DeviceId {
        DeviceId::CONSOLE
    }

    fn features(&self) -> Features {
        Features::bit(F_SIZE)
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; 2]
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn start(&mut self, _features: Features, mut queues: Queues) -> Result<(), StartError> {
        let (receive, transmit) = (queues.take(RECEIVE)?, queues.take(TRANSMIT)?);
        self.station.start(
            "virtio-console",
            |parked| ConsoleHandler::new(parked, receive, transmit),
            |handler| handler.park().0,
        )?;
        // Linux reads the size only when it is told of a change, also the first time.
        self.config.update(|_| ());
        Ok(())
    }

    fn stop(&mut self) -> Vec<QueueState> {
        self.station.stop(ConsoleHandler::park).unwrap_or_default()
    }

    /// How much of a half printed chain is out. The window's size is in the configuration: a guest that
    /// goes on in another window is told by [`Resizer::resize`].
    fn save(&self) -> Vec<u8> {
        self.station.parked().map(Parked::save).unwrap_or_default()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let runs = || RestoreError::Refused("the console runs already".into());
        self.station.parked_mut().ok_or_else(runs)?.restore(state)
    }
}
