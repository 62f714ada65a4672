//! Delivery: each event to each endpoint that wants it, at least once.
//!
//! What is done about a delivery is decided in [`okra_core::delivery`]; its states and their diagram are in
//! [`okra_core::delivery::state_machine`]. The modules here execute it, all as methods of [`Deliverer`]:
//!
//! - [`dispatch`], [`app_feed`], [`retry`], [`redelivery`], [`replay`], [`ping`], [`maintenance`] and [`sweep`] are what
//!   messages ask for;
//! - [`fifo`] keeps the order of a record's events, [`attempt`] makes one attempt: claims, sends and records it;
//! - [`parking`], [`parked`], [`probe`] and [`drain`] are about endpoints that are down;
//! - [`permits`], [`health`], [`wake_up`], [`targets`] and [`subject`] are what an attempt needs.
//!
//! The rule they keep: the table is the truth about deliveries; a message only wakes. Each row that says *retry* has a
//! wake-up, which is scheduled after the row is written. Whoever crashes between the two gets the message again and
//! finds the row. So every effect may happen twice, and none may be missing.

mod app_feed;
mod attempt;
mod deliverer;
mod dispatch;
mod drain;
mod endpoint_activity;
mod error;
mod event;
mod fifo;
mod health;
mod maintenance;
mod parked;
mod parking;
mod permits;
mod ping;
mod probe;
mod redelivery;
mod replay;
mod retry;
mod send_lanes;
mod subject;
mod sweep;
mod targets;
mod wake_up;

pub use self::{
    deliverer::{DeliverConfig, Deliverer},
    error::DeliverError,
    replay::{RETENTION_S, retained_since},
    subject::{BodyFormat, render_bodies},
};
