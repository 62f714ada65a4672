//! Why a bank's answer could not be used. Every failure is one of these, and a user is told to
//! reconnect only for [`FaultClass::ConsentRefused`].

use serde::{Deserialize, Serialize};

/// The classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// The bank did not answer, or said that it is down.
    BankUnavailable,
    /// The bank's rate limit is reached: it passes within minutes.
    RateLimited,
    /// A quota is spent, of the consent, the account or the day: it passes within a day.
    QuotaSpent,
    /// Consent expired, revoked, or credentials refused: the user must act.
    #[serde(rename = "consent_refused")]
    ConsentRejected,
    /// The bank answered what its standard does not allow.
    #[serde(rename = "nonsense")]
    MalformedResponse,
    /// Our own fault.
    Internal,
}

impl FaultClass {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BankUnavailable => "bank_unavailable",
            Self::RateLimited => "rate_limited",
            Self::QuotaSpent => "quota_spent",
            Self::ConsentRejected => "consent_refused",
            Self::MalformedResponse => "nonsense",
            Self::Internal => "internal",
        }
    }

    /// A sentence for whoever integrates: what it means, and what is done about it.
    pub const fn to_sentence(self) -> &'static str {
        match self {
            Self::BankUnavailable => "The bank did not answer, or said that it is down",
            Self::RateLimited => {
                "The bank is being asked as often as it allows; it passes within minutes"
            }
            Self::QuotaSpent => "The bank allows no more refreshes for now; it passes within a day",
            Self::ConsentRejected => {
                "The bank does not accept the consent any more; the user has to authorise again"
            }
            Self::MalformedResponse => {
                "The bank's answer could not be used; what was had before is kept"
            }
            Self::Internal => "Something went wrong on our side",
        }
    }

    /// True where nothing but the user can mend it.
    pub const fn needs_user(self) -> bool {
        matches!(self, Self::ConsentRejected)
    }
}

/// A failure of one call to a bank.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", class.as_str())]
pub struct BankFault {
    /// Which class it is of.
    pub class: FaultClass,
    /// A sentence for an operator: the status or the path of the fault. No tokens, no personal data.
    pub detail: String,
    /// Seconds the bank asked us to wait; bounded by the connector.
    pub retry_after_s: Option<u32>,
    /// The HTTP status, where the bank answered one other than 200.
    pub status: Option<u16>,
}

impl BankFault {
    /// A failure of a class.
    pub fn new(class: FaultClass, detail: impl Into<String>) -> Self {
        Self {
            class,
            detail: detail.into(),
            retry_after_s: None,
            status: None,
        }
    }
}
