//! When an event is sent to an endpoint.
//!
//! [`state_machine`] has the states of a delivery and what is done about it next; [`attempt`] one attempt and its
//! response; [`retry`] the schedule of further attempts; [`fifo`] the order of a record's events;
//! [`endpoint_health`] when an endpoint's events are parked; [`permit_pool`] how processes share an endpoint's rate
//! limit.

pub mod attempt;
pub mod endpoint_health;
pub mod fifo;
pub mod permit_pool;
pub mod retry;
pub mod state_machine;
