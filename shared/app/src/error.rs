//! Why a request of an app failed: [`AppError`], one variant for each reason that a caller can tell apart, and
//! [`RetryTime`], when the request may be repeated.
//!
//! The rule: the display text of a variant is a whole message for the caller, and never says anything of another app.
//! The cause of [`AppError::Internal`] and [`AppError::Contended`] is for the logs alone; whoever turns the error into
//! a response logs it once, there.

use std::error::Error;

use jiff::Timestamp;
use okra_core::model::fault::BankFault;
use okra_store::StoreError;
use okra_webhooks::UrlError;

/// When a request may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryTime {
    /// The instant.
    pub at: Timestamp,
    /// Seconds until then, rounded up.
    pub wait_s: u32,
}

impl RetryTime {
    /// `at`, as seen from `now`.
    pub fn new(at: Timestamp, now: Timestamp) -> Self {
        let wait_s = (at.duration_since(now).as_millis().max(0) + 999) / 1000;
        // Saturates after 136 years.
        let wait_s = u32::try_from(wait_s).unwrap_or(u32::MAX);
        Self { at, wait_s }
    }
}

/// Why a request of an app failed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// It does not exist, or belongs to another app: the two look the same.
    #[error("No {what} matches that id")]
    NotFound {
        /// What was named.
        what: &'static str,
    },
    /// A field is missing or wrong.
    #[error("{field} {problem}")]
    Invalid {
        /// The field, as the API calls it.
        field: &'static str,
        /// The rest of the sentence, "must be 1 or more".
        problem: String,
    },
    /// Webhooks cannot be sent to a URL.
    #[error("{field} cannot be used: {rule} ({})", rule.rule_name())]
    RejectedUrl {
        /// The field that holds the URL.
        field: &'static str,
        /// The rule that it breaks.
        rule: UrlError,
    },
    /// An event filter names no event.
    #[error("events contains {name}, which is unknown; known are {known}, family.* and *")]
    UnknownEvent {
        /// The name.
        name: String,
        /// The names of all events, with commas.
        known: String,
    },
    /// The range of a replay is incomplete or empty.
    #[error("{0}")]
    InvalidReplayRange(&'static str),
    /// A replay reaches further back than deliveries are retained.
    #[error("A replay reaches back 30 days, to {oldest}")]
    ReplayBeyondRetention {
        /// The oldest instant that a replay may begin at.
        oldest: Timestamp,
    },
    /// The state of things does not allow it.
    #[error("{0}")]
    Conflict(&'static str),
    /// There are as many of something as the app, or its customer, may have.
    #[error("{limit} {what} are the limit: {remedy}")]
    LimitReached {
        /// What, in the plural, with its owner.
        what: &'static str,
        /// How many it may have.
        limit: usize,
        /// What can be done about it.
        remedy: &'static str,
    },
    /// The customer is flagged by the app.
    #[error("The customer is flagged; unflag it to link a bank")]
    CustomerFlagged,
    /// The bank accepts a refresh only while the user is present.
    #[error(
        "The bank requires the user to be present for every refresh: pass customer_ip, the address from which the \
         user calls you"
    )]
    UserPresenceRequired,
    /// More requests of a kind than the app may make in a window.
    #[error("More than {limit}; retry after {} s", retry.wait_s)]
    RateLimited {
        /// The limit, "5 links of one customer in an hour".
        limit: String,
        /// When the next window begins.
        retry: RetryTime,
        /// Whether it is a refresh that was limited.
        is_refresh: bool,
    },
    /// The bank's rate limit has no permit left in time.
    #[error("The bank's rate limit is reached; retry after {} s", retry.wait_s)]
    BankBusy {
        /// When the bank has a permit again.
        retry: RetryTime,
    },
    /// The bank's daily quota of refreshes without the user is spent.
    #[error(
        "The bank allows no more refreshes without the user today; pass customer_ip, the address from which the user \
         calls you, where the user is present"
    )]
    QuotaSpent {
        /// When the quota is available again.
        retry: RetryTime,
    },
    /// A call to the bank failed, or was not made because its circuit is open.
    #[error("The bank could not be read: {}", fault.detail)]
    BankFault {
        /// The fault.
        fault: BankFault,
        /// When a refresh may be requested again, where that is known.
        retry: Option<RetryTime>,
    },
    /// There is no sandbox bank in this deployment.
    #[error("There is no sandbox bank here; link a record with records/link")]
    NoSandbox,
    /// More is requested than one request may read.
    #[error("More than {bound} {what} are requested; request fewer")]
    TooMuchRequested {
        /// What.
        what: &'static str,
        /// How many one request may read.
        bound: usize,
    },
    /// Another change of the same thing is under way.
    #[error("This is being changed by another request; try again")]
    Busy,
    /// Other writers won every attempt.
    #[error("This is being changed by another request; try again")]
    Contended(#[source] StoreError),
    /// Our own fault.
    #[error("Something went wrong on our side")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

impl AppError {
    /// A field that is missing or wrong.
    pub fn invalid_field(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            problem: problem.into(),
        }
    }

    /// Our own fault.
    pub fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(cause))
    }

    /// The same error for a thing that was found through another: a balance is found by its account, and where the
    /// account does not exist it is the balance that was not found.
    #[must_use]
    pub fn for_resource(self, what: &'static str) -> Self {
        match self {
            Self::NotFound { .. } => Self::NotFound { what },
            other => other,
        }
    }

    /// True where what was named does not exist.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

macro_rules! internal {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for AppError {
            fn from(error: $error) -> Self {
                Self::internal(error)
            }
        }
    )+};
}

internal!(
    crate::services::RandomnessError,
    okra_queue::SendError,
    okra_refresh::RefreshError,
    okra_vault::VaultError,
    okra_webhooks::DeliverError,
    okra_webhooks::KeyringError,
    okra_aws::tick_rules::TickRulesError,
    serde_json::Error,
);

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BoundExceeded { what, bound } => Self::TooMuchRequested { what, bound },
            StoreError::LimitReached { what, limit } => Self::LimitReached {
                what,
                limit,
                remedy: "remove one",
            },
            StoreError::Contended { .. } => Self::Contended(error),
            StoreError::Service { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Unwritable { .. }
            | StoreError::InvalidRequest { .. }
            | StoreError::OutOfRange { .. }
            | StoreError::AlreadyExists { .. }
            | StoreError::NotFound { .. } => Self::internal(error),
        }
    }
}

impl From<BankFault> for AppError {
    fn from(fault: BankFault) -> Self {
        Self::BankFault { fault, retry: None }
    }
}
