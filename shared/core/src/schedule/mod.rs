//! Which records a minute refreshes, cut into chunks and spread over the minute.

pub mod consent_clock;
pub mod plan;
