//! Webhooks: deliveries and their retries, parked events, the health of endpoints, and replays.

pub(crate) mod deliveries;
pub(crate) mod endpoint_health;
pub(crate) mod parked_events;
pub(crate) mod replays;
pub(crate) mod retries;
