//! Faults of calls to a bank. The cast: [`FaultClass`], which kind of failure it is, and [`BankFault`], one failure
//! of one call.
//!
//! The rule: every failure is of exactly one class, and the user is asked to re-authorise only for
//! [`FaultClass::ConsentRejected`].

use serde::{Deserialize, Serialize};

/// The classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// The bank did not respond, or reported that it is unavailable.
    BankUnavailable,
    /// The bank's rate limit is reached; it passes within minutes.
    RateLimited,
    /// A quota of the consent, the account or the day is spent; it is available again within a day.
    QuotaSpent,
    /// The consent expired or was revoked, or the credentials are rejected: the user must act.
    #[serde(rename = "consent_refused")]
    ConsentRejected,
    /// The bank does not have the account any more: it was closed, or left the consent.
    AccountGone,
    /// The response breaks the bank's own standard.
    #[serde(rename = "nonsense")]
    MalformedResponse,
    /// Our own fault.
    Internal,
}

impl FaultClass {
    /// All classes.
    pub const ALL: [Self; 7] = [
        Self::BankUnavailable,
        Self::RateLimited,
        Self::QuotaSpent,
        Self::ConsentRejected,
        Self::AccountGone,
        Self::MalformedResponse,
        Self::Internal,
    ];

    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BankUnavailable => "bank_unavailable",
            Self::RateLimited => "rate_limited",
            Self::QuotaSpent => "quota_spent",
            Self::ConsentRejected => "consent_refused",
            Self::AccountGone => "account_gone",
            Self::MalformedResponse => "nonsense",
            Self::Internal => "internal",
        }
    }

    /// A few words in small letters, for a table or a badge.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::BankUnavailable => "bank unavailable",
            Self::RateLimited => "rate limited by the bank",
            Self::QuotaSpent => "bank quota spent",
            Self::ConsentRejected => "consent rejected by the bank",
            Self::AccountGone => "account closed at the bank",
            Self::MalformedResponse => "unreadable bank response",
            Self::Internal => "internal error",
        }
    }

    /// What the failure means and what happens next: one sentence without a full stop.
    pub const fn to_sentence(self) -> &'static str {
        match self {
            Self::BankUnavailable => {
                "The bank did not respond or reported that it is unavailable; the refresh is retried"
            }
            Self::RateLimited => "Rate limited by the bank; refreshes continue within minutes",
            Self::QuotaSpent => {
                "The bank allows no more refreshes for now; its quota is available again within a day"
            }
            Self::ConsentRejected => {
                "The bank no longer accepts the consent; the user must re-authorise"
            }
            Self::AccountGone => {
                "The bank does not have this account any more; its last known data is kept"
            }
            Self::MalformedResponse => {
                "The bank's response could not be read; the last known data is kept"
            }
            Self::Internal => "An internal error prevented the refresh; the refresh is retried",
        }
    }

    /// True where only the user can resolve the failure.
    pub const fn needs_user(self) -> bool {
        matches!(self, Self::ConsentRejected)
    }
}

/// A failure of one call to a bank.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", class.as_str())]
pub struct BankFault {
    /// The class of the failure.
    pub class: FaultClass,
    /// A sentence for an operator: the status, or the path of the offending field. No tokens, no personal data.
    pub detail: String,
    /// Seconds that the bank asked to wait; bounded by the connector.
    pub retry_after_s: Option<u32>,
    /// The HTTP status, where the bank responded with one other than 200.
    pub status: Option<u16>,
}

impl BankFault {
    /// A fault without a wait or an HTTP status.
    pub fn new(class: FaultClass, detail: impl Into<String>) -> Self {
        Self {
            class,
            detail: detail.into(),
            retry_after_s: None,
            status: None,
        }
    }
}
