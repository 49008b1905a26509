//! An attack is played.

use std::thread::yield_now;

use super::attacker::{Attacker, Back};
use super::pace::Pace;
use super::step::Attack;
use super::target::Target;
use crate::Guest;
use crate::beside::beside;
use crate::conformance::Make;

/// Stores of the other thread, before it lets others run: all places many times, since a device that reads
/// something twice does so within a microsecond.
const BURST: usize = 128;

/// Plays the attack on a new device, on a thread that has no guest. Afterwards the device must still serve
/// a driver with manners. What has come back.
pub(super) fn play(make: Make, attack: &Attack) -> Back {
    let guest = Guest::new();
    let device = make();
    let (sizes, own) = (device.queue_sizes().to_vec(), device.features());
    let socket = guest.socket();
    let slot = if attack.trapped { socket.trapped() } else { socket }.plug(device);
    let (target, pace) = (Target::new(&guest), Pace::default());
    let mut attacker = Attacker::new(&slot, &target, &pace, (&sizes, own), attack.begin);
    let mut body = || attack.steps.iter().for_each(|step| attacker.take(*step));
    if attack.meanwhile.is_empty() {
        body();
    } else {
        let mut pokes = attack.meanwhile.iter().cycle();
        let again = || {
            if pace.turn() {
                target.hit(&guest, pokes.by_ref().take(BURST));
                yield_now();
            }
        };
        beside(again, body);
    }
    let back = attacker.end(attack.begin);
    drop(slot.unplug());
    back
}
