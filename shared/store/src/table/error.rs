//! What can go wrong with the table. [`ServiceFailure`] tells apart why DynamoDB did not do a call, so that an operator
//! sees whether a policy, the table's name or DynamoDB itself is to be looked at.

use std::fmt;

use aws_sdk_dynamodb::error::{BoxError, ProvideErrorMetadata, SdkError};

/// Why the table did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// DynamoDB rejected the call or could not be reached, after the client's own retries.
    #[error("DynamoDB {operation} on table {table} failed: {failure}")]
    Service {
        /// The call.
        operation: &'static str,
        /// The table.
        table: String,
        /// Why.
        failure: ServiceFailure,
        /// The SDK's error, with what DynamoDB said.
        source: BoxError,
    },
    /// A request that lacks a field which DynamoDB requires: a fault of this crate.
    #[error("a DynamoDB {operation} request could not be built")]
    InvalidRequest {
        /// The call.
        operation: &'static str,
        /// What it lacks.
        source: BoxError,
    },
    /// An item does not read as what its key says it is.
    #[error("attribute {attribute} of a stored {kind} is missing or unreadable")]
    Corrupt {
        /// The kind of item.
        kind: &'static str,
        /// The attribute.
        attribute: &'static str,
    },
    /// A value cannot be written as JSON.
    #[error("the {kind} cannot be written as JSON")]
    Unwritable {
        /// The kind of item.
        kind: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A time lies outside the years that can be stored.
    #[error("{what} is out of range")]
    OutOfRange {
        /// What the time is of.
        what: &'static str,
    },
    /// An item of this id is there already.
    #[error("{kind} exists already")]
    AlreadyExists {
        /// The kind of item.
        kind: &'static str,
    },
    /// There is no item of this id.
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
    /// The owner has as many as it may have.
    #[error("{limit} {what} are the limit")]
    LimitReached {
        /// What there is a limit of, with its owner.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Other writers kept changing the same items; nothing was written. Try again later.
    #[error("{operation} gave up: other writers kept changing the same items")]
    Contended {
        /// The call.
        operation: &'static str,
    },
}

/// Why DynamoDB did not do a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceFailure {
    /// The role may not do this call on this table.
    AccessDenied,
    /// The credentials are missing, expired or not those of an account.
    CredentialsRejected,
    /// There is no table of this name in this account and region.
    TableMissing,
    /// The table or the account is over its throughput.
    Throttled,
    /// DynamoDB says that the request is wrong: a fault of this crate.
    RequestRejected,
    /// DynamoDB failed on its side.
    ServiceUnavailable,
    /// No response came in time.
    TimedOut,
    /// No connection was made, or it broke.
    Unreachable,
    /// Something else, with DynamoDB's code where there was one.
    Other(Option<String>),
}

impl fmt::Display for ServiceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AccessDenied => "access denied; check the policy of the role",
            Self::CredentialsRejected => "the credentials were rejected",
            Self::TableMissing => "there is no such table in this account and region",
            Self::Throttled => "throttled",
            Self::RequestRejected => "the request was rejected as invalid",
            Self::ServiceUnavailable => "DynamoDB had an internal error",
            Self::TimedOut => "no response in time",
            Self::Unreachable => "DynamoDB could not be reached",
            Self::Other(Some(code)) => return write!(f, "error code {code}"),
            Self::Other(None) => "an unexpected response",
        })
    }
}

impl ServiceFailure {
    fn from_sdk_error<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Self {
        match error {
            SdkError::TimeoutError(_) => Self::TimedOut,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::TimedOut,
            SdkError::DispatchFailure(failure) if failure.is_user() => Self::CredentialsRejected,
            SdkError::DispatchFailure(_) => Self::Unreachable,
            SdkError::ServiceError(service) => Self::from_code(service.err().code()),
            _ => Self::Other(None),
        }
    }

    fn from_code(code: Option<&str>) -> Self {
        match code {
            Some("AccessDeniedException") => Self::AccessDenied,
            Some(
                "UnrecognizedClientException"
                | "ExpiredTokenException"
                | "InvalidSignatureException"
                | "IncompleteSignatureException"
                | "MissingAuthenticationTokenException",
            ) => Self::CredentialsRejected,
            Some("ResourceNotFoundException") => Self::TableMissing,
            Some(
                "ThrottlingException"
                | "ProvisionedThroughputExceededException"
                | "RequestLimitExceeded",
            ) => Self::Throttled,
            Some("ValidationException" | "SerializationException") => Self::RequestRejected,
            Some("InternalServerError" | "InternalFailure" | "ServiceUnavailable") => {
                Self::ServiceUnavailable
            }
            other => Self::Other(other.map(str::to_owned)),
        }
    }
}

impl StoreError {
    pub(crate) fn from_service<E>(operation: &'static str, table: &str, error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        Self::Service {
            operation,
            table: table.to_owned(),
            failure: ServiceFailure::from_sdk_error(&error),
            source: error.into(),
        }
    }

    pub(crate) fn invalid_request(operation: &'static str, error: impl Into<BoxError>) -> Self {
        Self::InvalidRequest {
            operation,
            source: error.into(),
        }
    }
}
