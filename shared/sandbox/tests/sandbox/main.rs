//! The sandbox bank as its clients see it: over HTTP, and through the requests that control it.
#![expect(
    clippy::unwrap_used,
    reason = "clippy sees that a function is a test, but not that its helpers are"
)]
#![expect(clippy::print_stderr, reason = "a skipped test states why")]

mod api;
mod control;
mod faults;
mod journal;
mod laws;
mod pkdd;
mod spec;
mod support;
mod tokens;
