//! What is allowed, and how often: [`ad_hoc_budgets`] and [`bank_breakers`] of banks, [`rate_limiters`] of endpoints,
//! [`call_counters`] and idempotency keys ([`idempotency`]) of apps,
//! [`usage_counters`] of what an owner may have only so many of.

pub(crate) mod bank_ad_hoc_budgets;
pub(crate) mod bank_breakers;
pub(crate) mod call_counters;
pub(crate) mod endpoint_rate_limits;
pub(crate) mod idempotency;
pub(crate) mod usage_counters;
pub(crate) mod usage_limits;
