//! The application layer: what an app may do and see, with typed requests and typed results.
//!
//! The cast: [`Services`], what a process stands on; [`AppScope`], one app's access to it; [`AppError`], why a request
//! failed. Each feature is a file that gives [`AppScope`] its methods and declares the types they take and return.
//!
//! The rule: every read and every change goes through an [`AppScope`], which compares what is named by an id with its
//! app. What belongs to another app is indistinguishable from what does not exist. Nothing here knows HTTP or JSON:
//! the API and the pages parse, render, and turn an [`AppError`] into a response of their own.

pub mod api_keys;
mod app_scope;
mod bank_permit;
pub mod banks;
mod cache;
mod consents;
pub mod data_sync;
pub mod deliveries;
pub mod endpoint_health;
pub mod endpoint_lookup;
pub mod endpoints;
mod error;
pub mod jobs;
pub mod linking;
pub mod record_scope;
pub mod record_state;
pub mod refresh;
pub mod removal;
pub mod replays;
mod services;
pub mod short_links;

pub use self::{
    app_scope::AppScope,
    bank_permit::BankPermit,
    cache::CachedBanks,
    error::{AppError, RetryTime},
    services::{
        CreateLoginRequest, LinkableLogin, RandomSource, RandomnessError, SandboxLoginFactory,
        Services,
    },
};
