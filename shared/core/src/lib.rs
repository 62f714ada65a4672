//! What okra-sync decides, as pure functions.
//!
//! Nothing here does I/O, reads a clock or draws a random number: time, jitter and identifiers are
//! arguments. That is what lets the same code run in a Lambda, in the local process and in a
//! simulation, and lets every law be stated as a property test.
//!
//! [`refresh`] decides the steps of a refresh with what the others decide: [`schedule`] says which records a minute
//! refreshes and cuts them into chunks; [`sync`] digests the bank's response and turns a changed one into feed entries;
//! [`backfill`] says which older transactions are fetched next; [`resilience`] says when a bank is not called.
//! [`delivery`] says when an event is sent to an endpoint and when it is retried. All of them speak in the types of
//! [`model`].

pub mod backfill;
pub mod delivery;
pub mod error_chain;
pub mod model;
pub mod refresh;
pub mod resilience;
pub mod schedule;
pub mod sync;
