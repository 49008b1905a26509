//! What every device has to do, with its queues behind a socket.

use cubie_vhost_user::{DaemonKind, FrontEnd};
use cubie_virtio_core::{Config, DeviceId, Features, QueueState, Queues, StartError, VirtioDevice};
use cubie_virtio_rng::{HostEntropy, Rng};

use crate::served::Served;

/// A device together with its daemon.
struct Both {
    device: FrontEnd,
    _daemon: Served,
    _folder: tempfile::TempDir,
}

impl Both {
    fn new(kind: DaemonKind, served: impl VirtioDevice + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let daemon = Served::new(&path, served);
        let device = FrontEnd::connect(&path, kind).unwrap();
        Self { device, _daemon: daemon, _folder: folder }
    }
}

impl VirtioDevice for Both {
    fn id(&self) -> DeviceId {
        self.device.id()
    }

    fn features(&self) -> Features {
        self.device.features()
    }

    fn rings(&self) -> Features {
        self.device.rings()
    }

    fn queue_sizes(&self) -> &[u16] {
        self.device.queue_sizes()
    }

    fn config(&self) -> &Config {
        self.device.config()
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.device.write_config(offset, data);
    }

    fn start(&mut self, features: Features, queues: Queues) -> Result<(), StartError> {
        self.device.start(features, queues)
    }

    fn stop(&mut self) -> Vec<QueueState> {
        self.device.stop()
    }
}

cubie_testkit::conformance!(|| Box::new(Both::new(DaemonKind::Rng, Rng::new(HostEntropy))));
