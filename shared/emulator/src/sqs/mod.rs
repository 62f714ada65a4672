//! SQS: standard queues, as AWS documents them.
//!
//! Visibility timeout and receive count, a fresh receipt handle for each receive, redrive to a dead-letter queue, delays,
//! long polls, batches with failures of single entries, retention, and message groups in rotation (fair queues). What AWS
//! leaves to chance is decided here: a group's messages come in the order they were sent, and a receive finds every
//! message that is there.
//!
//! [`emulator`] serves the operations ([`wire`] has their shapes, [`error`] how they fail, [`batch`] and [`message`] what
//! is valid) on the [`table`] of messages; [`receive`] waits for messages, woken by [`wakers`]; [`spec`] is how a queue
//! behaves.
//!
//! Rule: time is read under the table's lock, so that later work never sees an earlier time.

mod batch;
mod emulator;
mod error;
mod limits;
mod message;
mod receive;
mod spec;
mod table;
mod wakers;
mod wire;

pub use emulator::QueueDepthError;
pub(crate) use emulator::{SqsEmulator, queue_url};
pub use spec::{CreateQueuesError, QueueSpec, Redrive};
pub use table::QueueDepth;
