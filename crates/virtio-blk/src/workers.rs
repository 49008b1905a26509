//! Who serves the queues while the disk runs: a worker for each.

use cubie_virtio_core::{QueueState, Queues, StartError, Station, Virtqueue};

use crate::BlockBackend;
use crate::handler::{BlkHandler, Common};
use crate::protocol::F_MQ;
use crate::throttle::Throttle;

/// The backends of a disk, with their workers while it runs.
#[derive(Debug)]
pub(crate) struct Workers<B: BlockBackend> {
    stations: Vec<Station<B, BlkHandler<B>>>,
    /// How far queues had got at the start: those that nobody serves are there still.
    states: Vec<QueueState>,
}

impl<B: BlockBackend> Workers<B> {
    /// All of them parked.
    pub(crate) fn new(backends: Vec<B>) -> Self {
        Self { stations: backends.into_iter().map(Station::Parked).collect(), states: vec![] }
    }

    /// Whether they run.
    pub(crate) fn run(&self) -> bool {
        self.stations.iter().any(|station| station.parked().is_none())
    }

    /// Starts a worker for each queue that the driver has set up and may use.
    pub(crate) fn start(
        &mut self,
        queues: Queues,
        common: &Common,
        throttle: Option<&Throttle>,
    ) -> Result<(), StartError> {
        self.start_all(queues, common, throttle).inspect_err(|_| _ = self.stop())
    }

    fn start_all(
        &mut self,
        mut queues: Queues,
        common: &Common,
        throttle: Option<&Throttle>,
    ) -> Result<(), StartError> {
        let known = if common.features.has(F_MQ) { self.stations.len() } else { 1 };
        let fresh = QueueState::fresh(common.features);
        self.states = vec![fresh; self.stations.len()];
        for (index, station) in (0..).zip(&mut self.stations) {
            let queue = match queues.take(index) {
                // The driver need not set up all of several queues.
                Err(StartError::MissingQueue(_)) if index > 0 => continue,
                queue => queue?,
            };
            self.states[usize::from(index)] = queue.state();
            if usize::from(index) < known {
                start_one(station, queue, common, throttle)?;
            }
        }
        Ok(())
    }

    /// Ends them all. How far each queue of the disk has got, by its index.
    pub(crate) fn stop(&mut self) -> Vec<QueueState> {
        let mut states = std::mem::take(&mut self.states);
        let stopped = self.stations.iter_mut().filter_map(|station| station.stop(BlkHandler::park));
        for (index, state) in stopped {
            states[usize::from(index)] = state;
        }
        states
    }
}

fn start_one<B: BlockBackend>(
    station: &mut Station<B, BlkHandler<B>>,
    queue: Virtqueue,
    common: &Common,
    throttle: Option<&Throttle>,
) -> Result<(), StartError> {
    let pace = throttle.map(Throttle::pace).transpose()?;
    let name = format!("virtio-blk-{}", queue.index());
    let build = |backend| BlkHandler::new(backend, queue, common.clone(), pace);
    Ok(station.start(&name, build, |handler| handler.park().0)?)
}
