//! The sandbox bank as its customers see it: over HTTP, and through what drives it.
#![expect(
    clippy::unwrap_used,
    reason = "clippy sees that a function is a test, but not that its helpers are"
)]
#![expect(clippy::print_stderr, reason = "what is skipped is said aloud")]

mod api;
mod control;
mod faults;
mod journal;
mod laws;
mod pkdd;
mod spec;
mod support;
mod tokens;
