//! Which queue is for what, at a start of the card.

use cubie_virtio_core::{Features, QueueState, Queues, StartError, Virtqueue};

use crate::protocol::{self, CTRL_VQ, MQ};

/// A queue for frames, as whoever serves it wants to have it.
pub(crate) trait Queue: Sized {
    /// Takes queue `index`, which the driver may have reset.
    fn take(queues: &mut Queues, index: u16) -> Result<Self, StartError>;

    /// How far it has got.
    fn state(&self) -> QueueState;

    /// Whether the driver has reset it.
    fn in_reset(&self) -> bool;
}

impl Queue for Virtqueue {
    fn take(queues: &mut Queues, index: u16) -> Result<Self, StartError> {
        queues.take(index)
    }

    fn state(&self) -> QueueState {
        Self::state(self)
    }

    fn in_reset(&self) -> bool {
        self.is_idle()
    }
}

/// One pair of queues.
#[derive(Debug)]
pub(crate) struct Pair<Q> {
    pub(crate) receive: Q,
    pub(crate) transmit: Q,
}

/// The queues that the driver has set up, as far as it may use them.
#[derive(Debug)]
pub(crate) struct Parts<Q> {
    /// At least one, and none missing between two.
    pub(crate) pairs: Vec<Pair<Q>>,
    pub(crate) control: Option<Virtqueue>,
    /// How far each queue of the card has got, also those that nobody serves.
    pub(crate) states: Vec<QueueState>,
    /// The driver has used some of them before.
    pub(crate) goes_on: bool,
}

impl<Q: Queue> Parts<Q> {
    /// The indexes of queues of pairs that the driver has reset.
    pub(crate) fn in_reset(&self) -> Vec<u16> {
        let queues = self.pairs.iter().flat_map(|pair| [&pair.receive, &pair.transmit]);
        (0..).zip(queues).filter(|(_, queue)| queue.in_reset()).map(|(index, _)| index).collect()
    }

    /// Sorts the queues of a card with so many `pairs`, for a driver that has negotiated `features`.
    pub(crate) fn sort(
        mut queues: Queues,
        pairs: usize,
        features: Features,
    ) -> Result<Self, StartError> {
        let count = protocol::control(pairs) as u16 + 1;
        let known = if features.has(MQ) { pairs } else { 1 };
        let at = protocol::control(known);
        let control = there(queues.take(at as u16))?;
        let all = (0..count).map(|index| there(Q::take(&mut queues, index)));
        let mut all = all.collect::<Result<Vec<_>, StartError>>()?;
        let mut states: Vec<_> = all.iter().map(|queue| queue.as_ref().map(Q::state)).collect();
        states[at] = control.as_ref().map(Virtqueue::state);
        let fresh = QueueState::fresh(features);
        let control = control.filter(|_| features.has(CTRL_VQ));
        let pair = |n| {
            let [receive, transmit] = [protocol::receive(n), protocol::transmit(n)];
            Some(Pair { receive: all[receive].take()?, transmit: all[transmit].take()? })
        };
        // The driver need not set up all of several pairs.
        let pairs: Vec<_> = (0..known).map_while(pair).collect();
        if pairs.is_empty() {
            let missing = states.iter().position(Option::is_none).unwrap_or_default();
            return Err(StartError::MissingQueue(missing as u16));
        }
        let goes_on = states.iter().flatten().any(|state| *state != fresh);
        let states = states.into_iter().map(|state| state.unwrap_or(fresh)).collect();
        Ok(Self { pairs, control, states, goes_on })
    }
}

/// Nothing, if the driver has not set the queue up.
fn there<T>(taken: Result<T, StartError>) -> Result<Option<T>, StartError> {
    match taken {
        Err(StartError::MissingQueue(_)) => Ok(None),
        queue => queue.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use cubie_virtio_core::{OnFault, QueueResources};
    use cubie_virtq::QueueParams;
    use cubie_vm_irq::Interrupt;
    use vm_memory::{GuestAddress, GuestMemoryMmap};
    use vmm_sys_util::eventfd::EventFd;

    /// These queues of a card with three pairs, each of which has got as far as its index.
    fn queues(indexes: &[u16], features: Features) -> Queues {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let memory = Arc::new(memory);
        let queue = |index: &u16| QueueResources {
            index: *index,
            params: QueueParams { size: 1, desc: 0, driver: 0x10, device: 0x20 },
            state: QueueState { next_avail: *index, next_used: *index },
            features,
            kick: EventFd::new(0).unwrap(),
            interrupt: Interrupt::silent(),
            fault: OnFault::unheard(),
            memory: Arc::clone(&memory),
        };
        Queues::new(indexes.iter().map(queue).collect())
    }

    #[test]
    fn the_driver_may_leave_out_all_but_the_first_pair() {
        for (there, pairs, control) in [
            (&[0, 1][..], 1, None),
            (&[0, 1, 2, 3, 4, 5, 6], 3, Some(6)),
            (&[0, 1, 2, 3, 5, 6], 2, Some(6)),
            (&[0, 1, 4, 5, 6], 1, Some(6)),
        ] {
            let features = MQ.with(CTRL_VQ);
            let parts = Parts::<Virtqueue>::sort(queues(there, features), 3, features).unwrap();
            assert_eq!(parts.pairs.len(), pairs, "{there:?}");
            assert_eq!(parts.control.map(|queue| queue.index()), control);
            assert!(parts.goes_on);
            for (index, state) in (0..).zip(parts.states) {
                let expected = if there.contains(&index) { index } else { 0 };
                assert_eq!(state.next_avail, expected, "queue {index} of {there:?}");
            }
        }
    }

    #[test]
    fn without_its_first_pair_the_card_does_not_start() {
        for (there, missing) in [(&[][..], 0), (&[0, 2, 3], 1), (&[1, 2, 3], 0)] {
            let error = Parts::<Virtqueue>::sort(queues(there, MQ), 3, MQ).unwrap_err();
            assert_eq!(error.to_string(), format!("queue {missing} is not set up"));
        }
    }

    #[test]
    fn a_driver_of_one_pair_has_its_control_queue_behind_it() {
        let parts = Parts::<Virtqueue>::sort(queues(&[0, 1, 2, 3], CTRL_VQ), 3, CTRL_VQ).unwrap();
        assert_eq!(parts.pairs.len(), 1);
        assert_eq!(parts.control.map(|queue| queue.index()), Some(2));
        let parts =
            Parts::<Virtqueue>::sort(queues(&[0, 1, 2], MQ), 1, Features::default()).unwrap();
        assert!(parts.control.is_none(), "it was not negotiated");
    }
}
