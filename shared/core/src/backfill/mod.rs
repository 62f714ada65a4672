//! Pulling a record's older transactions, range by range.

pub mod progress;
pub mod step;
