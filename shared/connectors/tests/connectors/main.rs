//! The connectors against everything that banks send: official specifications, generated and adversarial responses,
//! and banks on this machine that behave and that do not.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on panics, and says what it skips"
)]

mod bank;
mod corpus;
mod laws;
mod login;
mod parsing;
mod reading;
mod spec;
mod tokens;
