//! What keeps a failing or limited bank from being called too often. The cast: [`failure_state`], what failed for a record
//! and what is suspended; the circuit breaker; [`rate_limiter`] and [`quota`].
//!
//! The rule: no state is a trap, because every suspension and every open circuit has an end.

pub mod bank_breaker;
pub mod circuit_breaker;
pub mod failure_state;
pub mod quota;
pub mod rate_limiter;
