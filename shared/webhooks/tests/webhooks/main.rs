//! Webhooks from a committed feed entry to a receiver, on an engine in memory or against sockets of this host. One
//! binary; each test has a world of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dispatch;
mod event_bus;
mod fifo;
mod hanging_endpoint;
mod hostile_receivers;
mod kill_points;
mod parking;
mod rate_limit;
mod redelivery;
mod sender;
mod ssrf;
mod support;
mod three_days;
