//! The decisions of a refresh, from a chunk's admission to the outcome of each of its records.
//!
//! * [`chunk`]: whether a chunk's records are refreshed now, and which of them come again before their next turn;
//! * [`step`]: [`next_refresh_action`](step::next_refresh_action), the next action of one record's refresh;
//! * [`fetch_plan`]: which products of which accounts the bank is asked for;
//! * [`commit_plan`]: what a refresh commits, and how far its feed is dispatched;
//! * [`outcome`]: how the refresh of a record ended;
//! * [`job`]: how it ended for the app that asked for it.
//!
//! The rule: the shell (the crate `okra-refresh`) reads, calls and writes; what it does next is decided here.

pub mod chunk;
pub mod commit_plan;
pub mod fetch_plan;
pub mod job;
pub mod outcome;
pub mod step;
