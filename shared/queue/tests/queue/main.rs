//! The queues: what this crate does with them, and what SQS and the embedded service have in common.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue panics")]
#![expect(clippy::print_stderr, reason = "skipped tests are named")]

mod queues;
mod sqs;
mod support;
