//! What is allowed and how often: rate limits of banks, endpoints and apps, circuit breakers, idempotency keys.

pub(crate) mod ad_hoc_budgets;
pub(crate) mod bank_breakers;
pub(crate) mod call_counters;
pub(crate) mod idempotency;
pub(crate) mod rate_limiters;
