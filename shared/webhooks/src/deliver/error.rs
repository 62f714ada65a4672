//! Why a delivery failed for a fault of our own.

use okra_core::model::ids::{RecordId, Seq};
use okra_queue::SendError;
use okra_store::StoreError;

use crate::{keyring::KeyringError, send::AttemptError};

/// Why a delivery could not be attempted or recorded: always our own fault. What an endpoint does wrong is recorded
/// and never an error.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// A read or write of the table failed.
    #[error("deliveries cannot be read or written")]
    Store(#[from] StoreError),
    /// A message could not be sent.
    #[error("a message for a later attempt cannot be sent to the queue")]
    Queue(#[from] SendError),
    /// The secrets of an endpoint could not be opened.
    #[error("the secrets of an endpoint cannot be opened")]
    Keyring(#[from] KeyringError),
    /// An attempt could not be made.
    #[error("a delivery cannot be attempted")]
    Send(#[from] AttemptError),
    /// The limits on concurrent attempts were closed, which nothing does.
    #[error("the limits on concurrent attempts are closed")]
    SendLanesClosed,
    /// The body of an event could not be written.
    #[error("the body of an event cannot be written as JSON")]
    Body(#[from] serde_json::Error),
    /// Feed entries that were dispatched are not in the table.
    #[error("feed entries {from} to {to} of record {record} are not all in the table")]
    MissingEntries {
        /// The record.
        record: RecordId,
        /// First entry.
        from: Seq,
        /// Last entry.
        to: Seq,
    },
    /// A minute had more retries than one sweep wakes; the next sweep continues with it.
    #[error("minute {minute} has more due retries than one sweep wakes")]
    SweepIncomplete {
        /// The minute, since 1970.
        minute: u64,
    },
    /// Something that a record refers to is not in the table.
    #[error("{what} of record {record} is not in the table")]
    MissingItem {
        /// The record.
        record: RecordId,
        /// What is missing.
        what: &'static str,
    },
}
