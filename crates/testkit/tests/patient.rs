//! The suite passes a device that always has chains in flight.

use cubie_virtio_core::{
    Config, DeviceId, Features, Handler, QueueState, Queues, Source, StartError, Station,
    VirtioDevice, Virtqueue,
};
use cubie_virtq::{Chain, Serve};

/// Answers with the next kick, or when it is stopped.
struct Patient {
    config: Config,
    station: Station<(), Server>,
}

struct Server {
    queue: Virtqueue,
    waiting: Vec<Chain>,
}

impl Server {
    /// The latest first.
    fn answer(&mut self) {
        for mut chain in self.waiting.drain(..).rev() {
            let written = chain.writable().write(&[7; 100]) as u32;
            self.queue.push(chain, written);
        }
        self.queue.signal();
    }

    fn park(mut self) -> ((), Vec<QueueState>) {
        self.answer();
        ((), vec![self.queue.state()])
    }
}

impl Handler for Server {
    fn sources(&self) -> Vec<Source> {
        vec![Source::readable(self.queue.kick(), 0)]
    }
    fn ready(&mut self, _token: u32) {
        self.answer();
        let waiting = &mut self.waiting;
        self.queue.drain(|chain| {
            waiting.push(chain);
            Serve::Later
        });
    }
}

impl VirtioDevice for Patient {
    fn id(&self) -> DeviceId {
        DeviceId::RNG
    }
    fn features(&self) -> Features {
        Features::default()
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16]
    }
    fn config(&self) -> &Config {
        &self.config
    }
    fn start(&mut self, _features: Features, mut queues: Queues) -> Result<(), StartError> {
        let queue = queues.take(0)?;
        let build = |()| Server { queue, waiting: vec![] };
        Ok(self.station.start("patient", build, |_| ())?)
    }
    fn stop(&mut self) -> Vec<QueueState> {
        self.station.stop(Server::park).unwrap_or_default()
    }
}

fn patient() -> Box<dyn VirtioDevice> {
    Box::new(Patient { config: Config::default(), station: Station::Parked(()) })
}

cubie_testkit::conformance!(patient);
