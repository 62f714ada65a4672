//! From a bank's answer to feed entries: normal form and digest, the identity of transactions, the diff, pending
//! deletions, the state of a record, and what a reader of the feed is given.
//!
//! [`decide`] is the entry: it turns a snapshot and what is committed into changes.

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
