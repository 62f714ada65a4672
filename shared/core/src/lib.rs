//! What okra-sync decides, as pure functions.
//!
//! Nothing here does I/O, reads a clock or draws a random number: time, jitter and identifiers are
//! arguments. That is what lets the same code run in a Lambda, in the local process and in a
//! simulation, and lets every law be stated as a property test.
//!
//! The way of a refresh through this crate: [`schedule`] says which records a minute is for,
//! [`plan`] cuts them into chunks, [`normal`] digests what the bank answered, [`decide`] turns a
//! snapshot into feed entries with [`identity`] and [`diff`], and [`retry`] says when a failed
//! delivery is tried again, [`health`] when an endpoint is left alone, [`pace`] how fast it is told,
//! [`share`] by several processes together, and [`breaker`] when a bank is not called.

pub mod bank;
pub mod breaker;
pub mod consent;
pub mod cursor;
pub mod decide;
pub mod diff;
pub mod doubt;
pub mod fault;
pub mod feed;
pub mod health;
pub mod history;
pub mod identity;
pub mod ids;
pub mod model;
pub mod money;
pub mod net;
pub mod normal;
pub mod pace;
pub mod plan;
pub mod quota;
pub mod retry;
pub mod schedule;
#[cfg(feature = "schema")]
mod schema;
pub mod share;
pub mod state;
pub mod tieout;
pub mod trouble;
