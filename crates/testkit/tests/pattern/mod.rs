//! A device of a few lines: entropy that is not random.

use cubie_virtio_core::{
    Config, DeviceId, Features, Handler, QueueState, Queues, Running, Source, StartError,
    VirtioDevice, Virtqueue, spawn,
};
use cubie_virtq::Serve;

pub(crate) const PATTERN: u8 = 0x5a;

/// Fills all but the last byte of each chain.
pub(crate) struct Pattern {
    config: Config,
    running: Option<Running<Filler>>,
}

pub(crate) struct Filler(Virtqueue);

impl Handler for Filler {
    fn sources(&self) -> Vec<Source> {
        vec![Source::readable(self.0.kick(), 0)]
    }
    fn ready(&mut self, _token: u32) {
        self.0.drain(|mut chain| {
            let fill = vec![PATTERN; chain.writable().len().saturating_sub(1)];
            let written = chain.writable().write(&fill);
            Serve::Done(chain, written as u32)
        });
    }
}

impl VirtioDevice for Pattern {
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
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.config.update(|bytes| bytes[offset..offset + data.len()].copy_from_slice(data));
    }
    fn start(&mut self, _features: Features, mut queues: Queues) -> Result<(), StartError> {
        let filler = Filler(queues.take(0)?);
        self.running = Some(spawn("pattern", filler).map_err(|(error, _)| error)?);
        Ok(())
    }
    fn stop(&mut self) -> Vec<QueueState> {
        let filler = self.running.take().map(Running::stop);
        filler.iter().map(|filler| filler.0.state()).collect()
    }
}

pub(crate) fn pattern() -> Box<Pattern> {
    Box::new(Pattern { config: Config::new([1, 2, 3, 4, 5, 6, 7, 8]), running: None })
}
