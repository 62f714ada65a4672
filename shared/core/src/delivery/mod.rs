//! When an event is sent to an endpoint: retries, the endpoint's health, and its permits shared by processes.

pub mod endpoint_health;
pub mod permit_pool;
pub mod retry;
