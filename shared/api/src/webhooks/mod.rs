//! Webhooks: the [`endpoints`] of an app, and the [`deliveries`] of events to them with their replays.

pub(crate) mod deliveries;
pub(crate) mod endpoints;
