//! cubie.
