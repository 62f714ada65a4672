//! From a bank's response to feed entries. The cast: [`decide`], the entry point, turns a snapshot and what is committed
//! into changes; it uses the normal form and [`digest`], the [`identity`] of transactions, the [`diff`] and
//! [`pending_deletions`]. [`state`] has the states of a record, [`drift`] compares balance and transactions, [`feed`]
//! holds the entries, and [`cursor`] and [`net_changes`] serve its readers.
//!
//! The rules: what did not change makes no change, and a transaction keeps its identity.

pub mod cursor;
pub mod decide;
pub mod diff;
pub mod digest;
pub mod drift;
pub mod feed;
pub mod identity;
pub mod net_changes;
pub mod pending_deletions;
pub mod state;
