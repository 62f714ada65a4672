//! How SQS rejects a request: [`SqsError`], as a response and as a failure of one entry of a batch.

use http::StatusCode;

use super::{
    limits::{MAX_BATCH, MAX_BYTES},
    wire::BatchFailure,
};
use crate::response::ServiceResponse;

/// Why a request is rejected, with SQS's own messages where clients show them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqsError {
    #[error("{0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("{0} is not emulated")]
    UnknownOperation(String),
    #[error("{0} is not emulated")]
    Unsupported(&'static str),
    #[error("The queue's database failed: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("The specified queue does not exist.")]
    NoQueue,
    #[error("A queue already exists with the same name and a different value for an attribute.")]
    QueueExists,
    #[error("Value {value} for parameter {name} is invalid. Reason: {reason}.")]
    Parameter {
        name: &'static str,
        value: String,
        reason: String,
    },
    #[error("The request must contain the parameter {0}.")]
    MissingParameter(&'static str),
    #[error("Unknown Attribute {0}.")]
    UnknownAttribute(String),
    #[error("The body contains a character that is not allowed in XML 1.0.")]
    InvalidContents,
    #[error("The input receipt handle is invalid.")]
    InvalidReceipt,
    #[error("The message is not in flight.")]
    NotInFlight,
    #[error("There should be at least one SendMessageBatchRequestEntry in the request.")]
    EmptyBatch,
    #[error("Maximum number of entries per request are {MAX_BATCH}. You have sent {0}.")]
    TooManyEntries(usize),
    #[error("Id {0} repeated.")]
    RepeatedId(String),
    #[error("A batch entry id can only contain alphanumeric characters, hyphens and underscores.")]
    InvalidEntryId,
    #[error("Batch requests cannot be longer than {MAX_BYTES} bytes. You have sent {0} bytes.")]
    BatchTooLong(usize),
}

impl SqsError {
    /// The shape of the JSON protocol and the code of the older query protocol; they differ, and
    /// the SDK reports the second.
    const fn error_codes(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unreadable(_) => (
                "com.amazon.coral.service#SerializationException",
                "MalformedInput",
            ),
            Self::UnknownOperation(_) => (
                "com.amazon.coral.service#UnknownOperationException",
                "InvalidAction",
            ),
            Self::Unsupported(_) => (
                "com.amazonaws.sqs#UnsupportedOperation",
                "AWS.SimpleQueueService.UnsupportedOperation",
            ),
            Self::Database(_) => ("com.amazon.coral.service#InternalFailure", "InternalError"),
            Self::NoQueue => (
                "com.amazonaws.sqs#QueueDoesNotExist",
                "AWS.SimpleQueueService.NonExistentQueue",
            ),
            Self::QueueExists => ("com.amazonaws.sqs#QueueNameExists", "QueueAlreadyExists"),
            Self::Parameter { .. } => (
                "com.amazon.coral.service#InvalidParameterValueException",
                "InvalidParameterValue",
            ),
            Self::MissingParameter(_) => (
                "com.amazon.coral.service#MissingRequiredParameterException",
                "MissingParameter",
            ),
            Self::UnknownAttribute(_) => (
                "com.amazonaws.sqs#InvalidAttributeName",
                "InvalidAttributeName",
            ),
            Self::InvalidContents => (
                "com.amazonaws.sqs#InvalidMessageContents",
                "InvalidMessageContents",
            ),
            Self::InvalidReceipt => (
                "com.amazonaws.sqs#ReceiptHandleIsInvalid",
                "ReceiptHandleIsInvalid",
            ),
            Self::NotInFlight => (
                "com.amazonaws.sqs#MessageNotInflight",
                "AWS.SimpleQueueService.MessageNotInflight",
            ),
            Self::EmptyBatch => (
                "com.amazonaws.sqs#EmptyBatchRequest",
                "AWS.SimpleQueueService.EmptyBatchRequest",
            ),
            Self::TooManyEntries(_) => (
                "com.amazonaws.sqs#TooManyEntriesInBatchRequest",
                "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            ),
            Self::RepeatedId(_) => (
                "com.amazonaws.sqs#BatchEntryIdsNotDistinct",
                "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
            ),
            Self::InvalidEntryId => (
                "com.amazonaws.sqs#InvalidBatchEntryId",
                "AWS.SimpleQueueService.InvalidBatchEntryId",
            ),
            Self::BatchTooLong(_) => (
                "com.amazonaws.sqs#BatchRequestTooLong",
                "AWS.SimpleQueueService.BatchRequestTooLong",
            ),
        }
    }

    const fn is_sender_fault(&self) -> bool {
        !matches!(self, Self::Database(_))
    }

    /// As the failure of one entry of a batch.
    pub(super) fn to_batch_failure(&self, id: &str) -> BatchFailure {
        BatchFailure {
            id: id.to_owned(),
            code: self.error_codes().1,
            message: self.to_string(),
            sender_fault: self.is_sender_fault(),
        }
    }
}

impl From<SqsError> for ServiceResponse {
    fn from(error: SqsError) -> Self {
        let (kind, code) = error.error_codes();
        let status = if error.is_sender_fault() {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self::from_error(status, kind, &error.to_string())
            .with_query_error(code, error.is_sender_fault())
    }
}
