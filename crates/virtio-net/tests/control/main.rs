//! The card through its control queue: pairs, and what else a driver asks for.

mod driver;
mod pairs;
