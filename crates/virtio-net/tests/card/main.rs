//! The card from outside: its queues by a driver without manners, its host ends by others than its own.

mod alone;
mod capture;
mod coalescing;
mod driver;
mod effort;
mod filters;
mod link;
mod merge;
mod null;
mod offloads;
mod packets;
mod pairs;
mod polling;
mod programs;
mod socket;
mod socket_paths;
mod stranger;
