//! The control plane of a device.

use std::io;

use cubie_virtq::{Features, Inflight, QueueError, QueueResources, QueueState, Virtqueue};

use crate::{Config, RestoreError, SharedMemory};

/// What kind of device it is (VIRTIO 1.4 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DeviceId(pub u32);

impl DeviceId {
    /// Network card (§5.1).
    pub const NET: Self = Self(virtio_bindings::virtio_ids::VIRTIO_ID_NET);
    /// Block device (§5.2).
    pub const BLOCK: Self = Self(virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK);
    /// Console (§5.3).
    pub const CONSOLE: Self = Self(virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE);
    /// Entropy source (§5.4).
    pub const RNG: Self = Self(virtio_bindings::virtio_ids::VIRTIO_ID_RNG);
}

/// Why a device did not start. The transport then asks the driver for a reset.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The driver left out a queue that the device cannot do without.
    #[error("queue {0} is not set up")]
    MissingQueue(u16),
    /// The driver put a queue where none can be.
    #[error("queue {index}: {source}")]
    Queue {
        /// Which queue.
        index: u16,
        /// What is wrong with it.
        source: QueueError,
    },
    /// The host refused something, such as another thread.
    #[error("the host: {0}")]
    Host(#[from] io::Error),
}

/// The queues that the driver has set up, at the start of a device.
#[derive(Debug, Default)]
pub struct Queues {
    ready: Vec<QueueResources>,
    in_reset: Vec<QueueResources>,
    inflight: Vec<(u16, Inflight)>,
}

impl Queues {
    /// Wraps what a transport has collected.
    pub fn new(ready: Vec<QueueResources>) -> Self {
        Self { ready, ..Self::default() }
    }

    /// Adds the queues that the driver has reset, each by itself, since it started the device (VIRTIO 1.4
    /// §2.6.1), or has broken. The device serves its others.
    #[must_use]
    pub fn with_reset(self, in_reset: Vec<QueueResources>) -> Self {
        Self { in_reset, ..self }
    }

    /// Has these queues, by their indexes, note what is in flight, and take first what was: see
    /// [`Virtqueue::tracked`].
    #[must_use]
    pub fn with_inflight(self, inflight: Vec<(u16, Inflight)>) -> Self {
        Self { inflight, ..self }
    }

    /// Makes the queue `index`, which the device needs. One that is in reset, or broken, is
    /// [idle](Virtqueue::idle), until the device is started with it again.
    pub fn take(&mut self, index: u16) -> Result<Virtqueue, StartError> {
        if let Some(resources) = self.take_resources(index) {
            let queue = Virtqueue::new(resources);
            let queue = queue.map_err(|source| StartError::Queue { index, source })?;
            let at = self.inflight.iter().position(|(tracked, _)| *tracked == index);
            return Ok(match at.map(|at| self.inflight.swap_remove(at)) {
                Some((_, inflight)) => queue.tracked(inflight),
                None => queue,
            });
        }
        let resources = take(&mut self.in_reset, index).ok_or(StartError::MissingQueue(index))?;
        Ok(Virtqueue::idle(resources)?)
    }

    /// Takes the bare resources of queue `index`, for a device whose rings are served elsewhere;
    /// `None` if the driver did not set it up, or has reset or broken it.
    pub fn take_resources(&mut self, index: u16) -> Option<QueueResources> {
        take(&mut self.ready, index)
    }
}

fn take(queues: &mut Vec<QueueResources>, index: u16) -> Option<QueueResources> {
    let at = queues.iter().position(|queue| queue.index == index)?;
    Some(queues.swap_remove(at))
}

/// A virtio device, as its transport sees it: identity, and the two verbs start and stop.
///
/// All methods are called by one thread at a time, a vCPU's, which waits meanwhile: none blocks for
/// long. Only `start` and `stop` change whether the device runs, and they alternate.
pub trait VirtioDevice: Send {
    /// What kind of device it is.
    fn id(&self) -> DeviceId;

    /// What the device offers beside the transport's own: features 0–23 and 50–63. Never changes.
    fn features(&self) -> Features;

    /// Which features of rings its queues can have at most, of those that the transport may offer: all, as
    /// those of [`Virtqueue`] have. Fewer for a device whose queues somebody else serves, such as the kernel
    /// (vhost). Never changes.
    fn rings(&self) -> Features {
        Features(u64::MAX)
    }

    /// The largest size of each queue, powers of two up to 32768; also says how many there are.
    fn queue_sizes(&self) -> &[u16];

    /// The configuration space.
    fn config(&self) -> &Config;

    /// The driver wrote into the configuration space, and not beyond its end. Most devices have nothing to
    /// write.
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        let _ = (offset, data);
    }

    /// The shared memory regions, which the machine has mapped. Most devices have none.
    fn shared_memory(&self) -> &[SharedMemory] {
        &[]
    }

    /// The driver is ready (DRIVER_OK): serve these queues. Comes again, after `stop`, with some of them in
    /// reset or anew, and the others in the state that `stop` returned; after `restore`, in the state that
    /// `stop` of the saved device returned. After an error the device is stopped, and nothing of `queues`
    /// is kept.
    fn start(&mut self, features: Features, queues: Queues) -> Result<(), StartError>;

    /// Stops serving and returns when nothing is in flight: nothing is read from or written to guest
    /// memory any more. The state of each queue, by index. Without effect when not started.
    fn stop(&mut self) -> Vec<QueueState>;

    /// What the device knows that it was not made with, beside what its transport keeps for it: features,
    /// queues and the configuration space. Bytes in a form of the device's own, which begins with a version, and
    /// no more of them than a driver may make a device keep. Most devices have nothing to save. Asked for
    /// while the device is stopped, and changes nothing.
    fn save(&self) -> Vec<u8> {
        vec![]
    }

    /// Takes over what [`VirtioDevice::save`] returned, of another device that was made in the same way.
    /// Before the first start, and before the configuration space is the saved one. `state` may be from a
    /// file that anybody has written to.
    ///
    /// # Errors
    /// [`RestoreError::Refused`], saying what is wrong. The device is as it was.
    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        match state {
            [] => Ok(()),
            _ => Err(RestoreError::Refused(format!("{} bytes for one that has none", state.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_was_not_set_up_has_a_name() {
        let error = Queues::default().take(1).unwrap_err();
        assert_eq!(error.to_string(), "queue 1 is not set up");
    }
}
