//! Okra's wire format: envelope, resources and webhook bodies, spelled as Okra's clients read them.
//!
//! Everything here is written and nothing is read, so the types own little and derive `Serialize`
//! alone. What carries an account number has no `Debug`. Fields that Okra had and this system has
//! nothing for are there all the same, empty: typed clients stop on a field that is missing or null.

pub mod account;
pub mod account_context;
pub mod availability;
pub mod balance;
pub mod bank;
pub mod callback;
pub mod customer;
#[cfg(any(test, feature = "documented"))]
pub mod documented;
mod drift;
pub mod envelope;
pub mod feed;
pub mod operational_event;
mod product_flags;
pub mod record;
pub mod scalar;
pub mod transaction;
pub mod webhook;
