//! The store against a DynamoDB: the embedded engine, or the server that
//! `OKRA_TEST_DYNAMODB_ENDPOINT` names.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![expect(clippy::print_stderr, reason = "what is skipped is said aloud")]

#[path = "store/budgets.rs"]
mod budgets;
#[path = "store/catalogue.rs"]
mod catalogue;
#[path = "store/due.rs"]
mod due;
#[path = "store/faults.rs"]
mod faults;
#[path = "store/feed.rs"]
mod feed;
#[path = "store/projection.rs"]
mod projection;
#[path = "store/records.rs"]
mod records;
mod support;
#[path = "store/usage_limits.rs"]
mod usage_limits;
