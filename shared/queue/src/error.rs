//! Errors of the queues. Each names the call and keeps SQS's error as its source.

use aws_sdk_sqs::error::{BoxError, SdkError};

/// Messages could not be enqueued.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// SQS rejected the call or could not be reached, after the client's own retries.
    #[error("SQS {operation} failed")]
    Service {
        /// The call.
        operation: &'static str,
        /// What the SDK said.
        source: BoxError,
    },
    /// SQS rejected entries of a batch each time they were sent.
    #[error("SQS rejected {rejected} messages; the error code of the first is {code}")]
    Rejected {
        /// How many.
        rejected: usize,
        /// The code that SQS gave for the first.
        code: String,
    },
    /// A message cannot be written as JSON.
    #[error("a message cannot be written as JSON")]
    Unwritable(#[from] serde_json::Error),
    /// A message is larger than a batch may be.
    #[error("a message of {bytes} bytes is larger than a batch may be")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// Messages could not be received or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// SQS rejected the call or could not be reached, after the client's own retries.
    #[error("SQS {operation} failed")]
    Service {
        /// The call.
        operation: &'static str,
        /// What the SDK said.
        source: BoxError,
    },
    /// A received message lacks a part without which it can be neither read nor deleted.
    #[error("a message was received without its {part}")]
    Malformed {
        /// What it lacks.
        part: &'static str,
    },
}

impl SendError {
    pub(crate) fn from_service(operation: &'static str, error: impl Into<BoxError>) -> Self {
        Self::Service {
            operation,
            source: error.into(),
        }
    }
}

impl ReceiveError {
    pub(crate) fn from_service(operation: &'static str, error: impl Into<BoxError>) -> Self {
        Self::Service {
            operation,
            source: error.into(),
        }
    }
}

/// The SDK's error without the wrapping that only says that there is one.
pub(crate) fn unwrap_sdk_error<E>(error: SdkError<E>) -> BoxError
where
    E: std::error::Error + Send + Sync + 'static,
{
    error
        .into_source()
        .unwrap_or_else(|error| error.to_string().into())
}
