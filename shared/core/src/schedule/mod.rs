//! When records are refreshed. The cast: [`plan`], which records a minute refreshes, cut into chunks and spread over the
//! minute; [`consent_clock`], when an app is notified that a consent will end.
//!
//! The rule: a plan is deterministic, so a tick that is delivered twice plans the same chunks.

pub mod consent_clock;
pub mod plan;
