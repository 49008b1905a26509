//! The control queue: the driver's commands, carried out one by one on a thread of their own.

use cubie_virtio_core::{Handler, QueueState, Source, Virtqueue};
use cubie_virtq::{Chain, Serve};
use vmm_sys_util::eventfd::EventFd;

use crate::Link;
use crate::coalescing::Moderation;
use crate::protocol::{Ack, Command, MOST_COMMAND};
use crate::settings::{Limits, Settings};

const KICK: u32 = 0;
const OUTCOME: u32 = 1;

/// What commands act on: whoever serves the pairs.
pub(crate) trait DataPlane: Send + 'static {
    /// Begins to act by `settings`. Does not wait: [`DataPlane::outcome`] tells when all pairs do.
    fn apply(&mut self, settings: Settings);

    /// Whether all pairs act by the settings that were applied last, or some cannot; `None` as long as
    /// that is not known.
    fn outcome(&mut self) -> Option<bool>;

    /// Becomes readable when there may be an outcome.
    fn ready(&self) -> &EventFd;
}

/// Serves the control queue.
#[derive(Debug)]
pub(crate) struct ControlHandler<P> {
    queue: Virtqueue,
    plane: P,
    link: Link,
    limits: Limits,
    /// What holds since the last command.
    settings: Settings,
    /// What the next command in the ring has asked for, while that is being done.
    asked: Option<Settings>,
    bytes: Box<[u8; MOST_COMMAND]>,
}

impl<P: DataPlane> ControlHandler<P> {
    pub(crate) fn new(
        queue: Virtqueue,
        plane: P,
        link: Link,
        limits: Limits,
        settings: Settings,
    ) -> Self {
        let bytes = Box::new([0; MOST_COMMAND]);
        Self { queue, plane, link, limits, settings, asked: None, bytes }
    }

    /// What holds, and how far the queue has got. A command that is not answered is in the ring still, and
    /// is carried out again.
    pub(crate) fn park(self) -> (Settings, (u16, QueueState)) {
        let Self { queue, settings, plane: _, link: _, limits: _, asked: _, bytes: _ } = self;
        (settings, (queue.index(), queue.state()))
    }

    fn serve(&mut self) {
        let Self { queue, plane, link, limits, settings, asked, bytes } = self;
        queue.drain(|mut chain| {
            if asked.is_none() {
                let command = command(&mut chain, bytes);
                if let Some(Command::Coalescing(index)) = command {
                    return answer_with(chain, settings.coalescing_of(index, limits));
                }
                let announced = command == Some(Command::Announced);
                let Some(new) = command.and_then(|command| settings.after(command, limits)) else {
                    tracing::debug!("the driver's command is malformed, or not for this card");
                    return answer(chain, Ack::Err);
                };
                if announced {
                    link.announced();
                    return answer(chain, Ack::Ok);
                }
                plane.apply(new.clone());
                *asked = Some(new);
            }
            match (plane.outcome(), asked.take()) {
                (Some(true), Some(new)) => {
                    *settings = new;
                    link.show_mac(settings.filter.mac);
                    answer(chain, Ack::Ok)
                }
                (Some(_), _) => {
                    plane.apply(settings.clone());
                    answer(chain, Ack::Err)
                }
                (None, new) => {
                    *asked = new;
                    Serve::Stop(chain)
                }
            }
        });
    }
}

/// The command in `chain`.
fn command(chain: &mut Chain, bytes: &mut [u8; MOST_COMMAND]) -> Option<Command> {
    let room = bytes.get_mut(..chain.readable().len())?;
    let len = chain.readable().read(room);
    Command::from_bytes(&room[..len])
}

/// An answer that begins with what was asked for, or as many zeros.
fn answer_with(mut chain: Chain, asked: Option<Moderation>) -> Serve {
    let ack = if asked.is_some() { Ack::Ok } else { Ack::Err };
    let mut written = chain.writable().write(&asked.unwrap_or_default().to_bytes());
    written += chain.writable().write(&[ack as u8]);
    Serve::Done(chain, written as u32)
}

fn answer(mut chain: Chain, ack: Ack) -> Serve {
    let written = chain.writable().write(&[ack as u8]);
    Serve::Done(chain, written as u32)
}

impl<P: DataPlane> Handler for ControlHandler<P> {
    fn sources(&self) -> Vec<Source> {
        vec![
            Source::readable(self.queue.kick(), KICK),
            Source::readable(self.plane.ready(), OUTCOME),
        ]
    }

    fn ready(&mut self, _token: u32) {
        self.serve();
    }
}
