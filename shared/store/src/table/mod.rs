//! The table as DynamoDB has it. [`store`] holds the client; [`reads`] and [`writes`] are the calls, each metered
//! ([`capacity`]), bounded, and with its errors typed ([`error`]); [`attributes`] and [`item`] are what is written and
//! read, [`expression`] and [`key_range`] under which conditions and from where.

pub(crate) mod attributes;
pub(crate) mod backoff;
pub(crate) mod capacity;
pub(crate) mod creation;
pub(crate) mod error;
pub(crate) mod expression;
pub(crate) mod item;
pub(crate) mod key_range;
pub(crate) mod list_page;
pub(crate) mod reads;
pub(crate) mod store;
pub(crate) mod writes;
