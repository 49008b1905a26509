//! The road of a packet between a guest and its host, hop by hop: what happened there, and what it cost.
//!
//! ```text
//!  guest's application, stack and driver ─► exits ─► waking ─► rings ─► host's stack ─► interface
//!                                       ◄─────────────────── interrupts
//! ```
//!
//! For VMMs that want to show a person where the time of a network card goes, and which switch would help.
//!
//! * [`Reading`]: all counters of one card, in figures. Who reads them where is the VMM's affair: this crate looks
//!   at nothing by itself. The difference of two readings is a reading.
//! * [`Report`]: what a reading comes to: a [`Hop`] for each place on the road, the dearest one, and [`Advice`].
//!   Printed, it is a table; [`Report::svg`] draws the road, [`Report::json`] is for machines.
//!
//! # What a cost is
//!
//! Nanoseconds of processor time a packet, either way. The guest's are those of its vCPUs' threads, all that it
//! does besides included; the worker's are split by the turns that the card has timed, by the wall clock
//! ([`Samples`](cubie_virtio_net::Samples)). What a worker looks for frames in vain is no packet's. What nobody has measured is left blank, and never a 0.
//!
//! # What advice is
//!
//! Each [`Switch`] bears on some hops, and can take no more off the road than these cost: that is its gain, an upper
//! bound. Of those that can be set ([`Setup::switches`]), the ones that the figures give a reason for are listed by
//! their gain; one that would save less than a twentieth of the road beyond the guest is not.
//!
//! ```
//! use std::time::Duration;
//! use cubie_netpath::{Reading, Report, run_time};
//! use cubie_virtio_net::Counters;
//! # use cubie_virtio_net::{Loopback, Mac, Net};
//! # let card = Net::new(Loopback::new()?, Mac::made_from("cubie"));
//!
//! let counters: Counters = card.counters();
//! let guest = run_time("7000000 1000 12"); // /proc/…/schedstat of the vCPUs
//! let reading = Reading { guest, ..Reading::of_card(&counters, Duration::from_secs(1)) };
//! let report = Report::of(&reading);
//! assert!(report.to_string().contains("no packet has passed"));
//! assert!(report.svg().starts_with("<svg"));
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

mod advice;
mod drawing;
mod hop;
mod json;
mod number;
mod reading;
mod report;
mod run_time;
mod table;

pub use advice::{Advice, Switch};
pub use hop::{Hop, Place};
pub use reading::{Interface, Reading, Setup};
pub use report::Report;
pub use run_time::run_time;
