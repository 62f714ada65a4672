//! What keeps a failing or limited bank from being called too often: failure states, the circuit breaker, rate
//! limits and quotas.

pub mod bank_breaker;
pub mod circuit_breaker;
pub mod failure_state;
pub mod quota;
pub mod rate_limiter;
