//! What can go wrong with the table.

use aws_sdk_dynamodb::error::{BoxError, SdkError};

/// Why the table did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// DynamoDB refused the call or could not be reached, after the client's own retries.
    #[error("DynamoDB did not do {operation}")]
    Service {
        /// The call.
        operation: &'static str,
        /// What it answered.
        source: BoxError,
    },
    /// An item does not read as what its key says it is.
    #[error("attribute {attribute} of an item {kind} is missing or unreadable")]
    Corrupt {
        /// The kind of item.
        kind: &'static str,
        /// The attribute.
        attribute: &'static str,
    },
    /// A value cannot be written as JSON.
    #[error("an item {kind} cannot be written")]
    Unwritable {
        /// The kind of item.
        kind: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// It is there already.
    #[error("{kind} exists already")]
    AlreadyExists {
        /// The kind of item.
        kind: &'static str,
    },
    /// It is not there.
    #[error("{kind} does not exist")]
    NotFound {
        /// The kind of item.
        kind: &'static str,
    },
    /// More than a named bound allows.
    #[error("more than {bound} {what}")]
    BoundExceeded {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        bound: usize,
    },
    /// Others kept writing the same items; nothing was written. Try again later.
    #[error("{operation} kept losing against other writers")]
    Contended {
        /// The call.
        operation: &'static str,
    },
}

impl StoreError {
    pub(crate) fn from_service<E>(operation: &'static str, error: SdkError<E>) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        Self::Service {
            operation,
            source: error.into(),
        }
    }
}
