//! What a reading comes to.

use crate::advice::{self, Advice};
use crate::hop::{self, Hop, Place};
use crate::{Reading, drawing, json};

/// The road of a card's packets. Printed, it is a table of several lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What was read.
    pub reading: Reading,
    /// The road from the guest to the host's network; empty if no packet has passed.
    pub hops: Vec<Hop>,
    /// What would help, the most first.
    pub advice: Vec<Advice>,
}

impl Report {
    /// Of this reading.
    pub fn of(reading: &Reading) -> Self {
        let packets: u64 = reading.frames().iter().sum();
        let hops = if packets > 0 { hop::hops(reading) } else { vec![] };
        let advice = advice::advice(reading, &hops);
        Self { reading: reading.clone(), hops, advice }
    }

    /// Nanoseconds of processor time a packet, as far as they were measured.
    pub fn cost(&self) -> f64 {
        self.hops.iter().filter_map(|hop| hop.nanos).sum()
    }

    /// The hop that costs the most, if the cost of any is known.
    pub fn dearest(&self) -> Option<&Hop> {
        let known = self.hops.iter().filter(|hop| hop.nanos.is_some());
        known.max_by(|one, other| one.nanos.partial_cmp(&other.nanos).expect("finite costs"))
    }

    /// Whether the cost of any hop but the guest is known, by which switches are advised.
    pub(crate) fn is_timed(&self) -> bool {
        self.hops.iter().any(|hop| hop.place != Place::Guest && hop.nanos.is_some())
    }

    /// The part of [`Report::cost`] that a hop has, from 0 to 1.
    pub(crate) fn share(&self, hop: &Hop) -> Option<f64> {
        hop.nanos.filter(|_| self.cost() > 0.0).map(|nanos| nanos / self.cost())
    }

    pub(crate) fn is_dearest(&self, place: Place) -> bool {
        self.dearest().is_some_and(|dearest| dearest.place == place)
    }

    /// The road as a drawing (SVG 1.1), with what each hop costs.
    pub fn svg(&self) -> String {
        drawing::draw(self)
    }

    /// All figures, the hops and the advice, for machines: an object in JSON. What is not known is `null`.
    pub fn json(&self) -> String {
        json::object(self).to_string()
    }

    /// The reports of several cards, as one array in JSON.
    pub fn json_of_all(reports: &[Self]) -> String {
        let all: Vec<_> = reports.iter().map(json::object).collect();
        format!("{:#}\n", serde_json::Value::from(all))
    }
}
