//! The types that everything else is built from. The cast: ids ([`ids`]), money ([`money`]), accounts, balances and
//! transactions as a bank states them ([`snapshot`]), banks ([`bank`]), faults ([`fault`]), intervals ([`interval`]).
//!
//! The rule: a type here holds its own invariants and knows nothing of refreshes, backfills or deliveries.

pub mod bank;
pub mod fault;
pub mod ids;
pub mod interval;
pub mod money;
#[cfg(feature = "schema")]
mod schema;
pub mod snapshot;
