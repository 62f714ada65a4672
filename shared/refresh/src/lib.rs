//! A refresh, from tick to dispatch: the shell that executes what [`okra_core::refresh`] decides.
//!
//! ```text
//! tick -> due entries -> plan -> chunks -> (fetch queue) -> banks -> digests       schedule, chunk, fetch
//!   equal to the due entry's: done, nothing read or written
//!   else: head and state -> decide -> commit -> project -> dispatch -> advance     changes, commit
//! ```
//!
//! The order of the last four is what makes a crash harmless. *Due entry = dispatched, head = committed, feed = truth*:
//! whoever finds a due entry behind its head projects and dispatches what lies between again, and every one of these
//! effects can be repeated.
//!
//! [`Refresher`] is the shell. Beside the refresh itself it makes the steps of a [`backfill`], follows up on links
//! ([`follow_up`]) and removes records ([`removal`]); [`announce`] commits changes of state that no refresh finds.

pub mod announce;
pub mod backfill;
mod bank_breaker;
mod bank_cache;
mod bank_config;
mod changes;
mod chunk;
mod commit;
mod deletion_check;
mod error;
mod fetch;
mod fetched_record;
pub mod follow_up;
mod refresher;
pub mod removal;
mod report;
mod schedule;
mod tokens;

pub use okra_core::refresh::outcome::{DispatchedChanges, RefreshOutcome};

pub use self::{
    error::RefreshError,
    refresher::Refresher,
    report::{ChunkReport, RefreshObserver, RefreshReport, SilentRefreshObserver, TickReport},
    tokens::{open_client_secret, seal_client_secret},
};
