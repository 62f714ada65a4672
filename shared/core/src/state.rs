//! States of a record and its accounts, and their changes, which are feed entries like any other: they
//! have a number and an event id, and are delivered at least once.

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{fault::FaultClass, model::Product};

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateChange {
    /// The record was linked: Okra's `AUTH_SUCCESS`.
    #[serde(rename = "l")]
    Linked,
    /// The entry's account came with it: Okra's `ACCOUNTS_SUCCESS`.
    #[serde(rename = "a")]
    AccountLinked,
    /// The user must act before the bank answers again.
    #[serde(rename = "t")]
    TokenRequired {
        /// Why.
        #[serde(rename = "r")]
        reason: TokenReason,
    },
    /// The bank answers again, or the user authorised again.
    #[serde(rename = "k")]
    Recovered,
    /// The consent will end.
    #[serde(rename = "x")]
    ConsentExpiring {
        /// When.
        #[serde(rename = "e")]
        expires_at: Timestamp,
        /// Which notice this is: so many days before it, 14, 7 or 1.
        #[serde(rename = "d")]
        days: u8,
    },
    /// A product of the entry's account can be had again, or can no longer.
    #[serde(rename = "p")]
    Product(ProductChange),
    /// The history of the entry's account is complete: Okra's `FULL_TRANSACTIONS`.
    #[serde(rename = "h")]
    HistoryComplete(HistoryComplete),
    /// The record was unlinked and is refreshed no more.
    #[serde(rename = "u")]
    Unlinked,
}

/// Why the user must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenReason {
    /// The consent's time is over.
    ConsentExpired,
    /// The bank refuses consent or credentials: expired, revoked or never valid.
    ConsentRefused,
    /// The bank wants the user there for each refresh.
    UserNeeded,
}

impl TokenReason {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsentExpired => "consent_expired",
            Self::ConsentRefused => "consent_refused",
            Self::UserNeeded => "user_needed",
        }
    }
}

/// Whether a product of an account can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Availability {
    /// The last answer was whole.
    #[default]
    #[serde(rename = "AVAILABLE")]
    Available,
    /// Some of it was answered; its history, for one, could not be had whole.
    #[serde(rename = "PARTIAL")]
    Partial,
    /// Not now, for a reason that passes by itself or by the user's doing.
    #[serde(rename = "UNAVAILABLE")]
    Unavailable,
    /// The bank answers what cannot be used, or we fail.
    #[serde(rename = "FAILED")]
    Failed,
}

impl Availability {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "AVAILABLE",
            Self::Partial => "PARTIAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::Failed => "FAILED",
        }
    }

    /// What a failure of a class makes of a product.
    pub const fn after(class: FaultClass) -> Self {
        match class {
            FaultClass::BankUnavailable | FaultClass::RateLimited | FaultClass::ConsentRefused => {
                Self::Unavailable
            }
            FaultClass::Nonsense | FaultClass::Internal => Self::Failed,
        }
    }
}

/// What became of a product of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductChange {
    /// The product.
    #[serde(rename = "p")]
    pub product: Product,
    /// What it is now.
    #[serde(rename = "s")]
    pub availability: Availability,
    /// Why, where it is not available.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none", default)]
    pub class: Option<FaultClass>,
}

/// How the pull of an account's history ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryComplete {
    /// The oldest date that was asked for and answered.
    #[serde(rename = "o")]
    pub oldest: Date,
    /// Rows that the pull found.
    #[serde(rename = "n")]
    pub rows: u64,
    /// Why it goes no further back.
    #[serde(rename = "w")]
    pub end: HistoryEnd,
}

/// Why a history goes no further back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryEnd {
    /// As far as was asked for.
    Limit,
    /// The bank says that it has nothing older, or that the consent covers nothing older.
    BankLimit,
    /// The bank refuses older dates.
    BankRefused,
}

impl HistoryEnd {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::BankLimit => "bank_limit",
            Self::BankRefused => "bank_refused",
        }
    }
}
