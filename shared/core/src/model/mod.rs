//! What a bank says, and the words everything else is built from: ids, money, products, transactions, banks,
//! faults, intervals. Nothing here decides anything.

pub mod bank;
pub mod fault;
pub mod ids;
pub mod interval;
pub mod money;
#[cfg(feature = "schema")]
mod schema;
pub mod snapshot;
