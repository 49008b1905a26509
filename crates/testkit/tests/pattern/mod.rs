//! A device of a few lines: entropy that is not random.

use cubie_virtio_core::{
    Config, DeviceId, Features, Handler, QueueState, Queues, Running, Source, StartError,
    VirtioDevice, Virtqueue, spawn,
};
use cubie_virtq::{Chain, Serve};
use cubie_vm_irq::Interrupt;

pub(crate) const PATTERN: u8 = 0x5a;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// At once, one chain after the other.
    Plain,
    /// All at once, the latest first.
    Backwards,
    /// With another byte behind the sixteenth.
    Wrong,
    /// With one byte less.
    Short,
    /// It says that it has written, and has not.
    Idle,
    /// The second chain never.
    Forgetful,
    /// Without an interrupt.
    Silent,
}

/// Fills all but the last byte of each chain.
pub(crate) struct Pattern {
    manner: Manner,
    config: Config,
    running: Option<Running<Filler>>,
}

pub(crate) struct Filler {
    manner: Manner,
    queue: Virtqueue,
    served: usize,
}

impl Filler {
    fn fill(&mut self, chain: &mut Chain) -> u32 {
        let mut fill = vec![PATTERN; chain.writable().len().saturating_sub(1)];
        match self.manner {
            Manner::Wrong => fill.iter_mut().skip(16).for_each(|byte| *byte += 1),
            Manner::Short => _ = fill.pop(),
            Manner::Idle => return fill.len() as u32,
            _ => {}
        }
        chain.writable().write(&fill) as u32
    }
}

impl Handler for Filler {
    fn sources(&self) -> Vec<Source> {
        vec![Source::readable(self.queue.kick(), 0)]
    }
    fn ready(&mut self, _token: u32) {
        let mut chains = vec![];
        self.queue.drain(|chain| {
            chains.push(chain);
            Serve::Later
        });
        if self.manner == Manner::Backwards {
            chains.reverse();
        }
        for mut chain in chains {
            self.served += 1;
            let written = self.fill(&mut chain);
            if self.manner != Manner::Forgetful || self.served != 2 {
                self.queue.push(chain, written);
            }
        }
        self.queue.signal();
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
        let queue = match self.manner {
            Manner::Silent => silent(&mut queues)?,
            _ => queues.take(0)?,
        };
        let filler = Filler { manner: self.manner, queue, served: 0 };
        self.running = Some(spawn("pattern", filler).map_err(|(error, _)| error)?);
        Ok(())
    }
    fn stop(&mut self) -> Vec<QueueState> {
        let filler = self.running.take().map(Running::stop);
        filler.iter().map(|filler| filler.queue.state()).collect()
    }
}

fn silent(queues: &mut Queues) -> Result<Virtqueue, StartError> {
    let mut resources = queues.take_resources(0).ok_or(StartError::MissingQueue(0))?;
    resources.interrupt = Interrupt::silent();
    Virtqueue::new(resources).map_err(|source| StartError::Queue { index: 0, source })
}

pub(crate) fn pattern(manner: Manner) -> Box<Pattern> {
    Box::new(Pattern { manner, config: Config::new([1, 2, 3, 4, 5, 6, 7, 8]), running: None })
}
