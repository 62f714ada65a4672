//! The demo: the system, a sandbox bank and an app with three customers, all in one process.
//!
//! [`run`] starts and stops them; [`app`] is the demo app, which calls the public API only; [`bank_activity`] prints what
//! happens at the bank and makes the first purchase; [`app_events`] prints the webhooks that the app receives.

mod app;
mod app_events;
mod bank_activity;
mod run;

pub(crate) use run::{run_demo, run_serve};
