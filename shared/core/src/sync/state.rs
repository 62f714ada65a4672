//! States of a record and its accounts, and their changes, which are feed entries like any other: they
//! have a number and an event id, and are delivered at least once.

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{
    model::{fault::FaultClass, snapshot::Product},
    sync::drift::Drift,
};

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
    ReauthorisationRequired {
        /// Why.
        #[serde(rename = "r")]
        reason: ReauthorisationReason,
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
        days_before: u8,
    },
    /// A product of the entry's account can be had again, or can no longer.
    #[serde(rename = "p")]
    Product(ProductChange),
    /// The history of the entry's account is complete: Okra's `FULL_TRANSACTIONS`.
    #[serde(rename = "h")]
    BackfillComplete(BackfillComplete),
    /// Balance and transactions of the entry's account disagree, or agree again.
    #[serde(rename = "d")]
    Drift {
        /// How they disagree; `None`: they agree again.
        #[serde(rename = "d", skip_serializing_if = "Option::is_none", default)]
        drift: Option<Drift>,
    },
    /// The record was unlinked and is refreshed no more.
    #[serde(rename = "u")]
    Unlinked,
}

/// Why the user must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReauthorisationReason {
    /// The consent's time is over.
    ConsentExpired,
    /// The bank refuses consent or credentials: expired, revoked or never valid.
    #[serde(rename = "consent_refused")]
    ConsentRejected,
    /// The bank wants the user there for each refresh.
    #[serde(rename = "user_needed")]
    UserPresenceRequired,
}

impl ReauthorisationReason {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsentExpired => "consent_expired",
            Self::ConsentRejected => "consent_refused",
            Self::UserPresenceRequired => "user_needed",
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
    pub const fn for_fault_class(class: FaultClass) -> Self {
        match class {
            FaultClass::BankUnavailable
            | FaultClass::RateLimited
            | FaultClass::QuotaSpent
            | FaultClass::ConsentRejected => Self::Unavailable,
            FaultClass::MalformedResponse | FaultClass::Internal => Self::Failed,
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
pub struct BackfillComplete {
    /// The oldest date that was asked for and answered.
    #[serde(rename = "o")]
    pub oldest_date: Date,
    /// Rows that the pull found.
    #[serde(rename = "n")]
    pub rows: u64,
    /// Why it goes no further back.
    #[serde(rename = "w")]
    pub end_reason: BackfillEnd,
}

/// Why a history goes no further back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillEnd {
    /// As far as was asked for.
    #[serde(rename = "limit")]
    RequestedLimit,
    /// The bank says that it has nothing older, or that the consent covers nothing older.
    BankLimit,
    /// The bank refuses older dates.
    #[serde(rename = "bank_refused")]
    BankRejected,
    /// The bank failed too often.
    GaveUp,
}

impl BackfillEnd {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestedLimit => "limit",
            Self::BankLimit => "bank_limit",
            Self::BankRejected => "bank_refused",
            Self::GaveUp => "gave_up",
        }
    }
}

/// Whether a record can be refreshed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// It can.
    #[default]
    Active,
    /// The bank refuses the consent, or its time is over: the user must link again.
    #[serde(rename = "token_required")]
    ReauthorisationRequired,
    /// It was unlinked or cannot be used again.
    Invalid,
}

impl RecordStatus {
    /// All.
    pub const ALL: [Self; 3] = [Self::Active, Self::ReauthorisationRequired, Self::Invalid];

    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::ReauthorisationRequired => "token_required",
            Self::Invalid => "invalid",
        }
    }

    /// The status of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// What can happen to a record as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusTrigger {
    /// The bank answered something of what it was asked.
    Responded,
    /// The bank refused the consent for everything that it was asked.
    ConsentRejected,
    /// Nothing was answered, for reasons that are not the user's to mend.
    Failed,
    /// The consent's time is over.
    ConsentExpired,
    /// The user authorised again, and the bank took it.
    Reauthorised,
}

impl StatusTrigger {
    /// All.
    pub const ALL: [Self; 5] = [
        Self::Responded,
        Self::ConsentRejected,
        Self::Failed,
        Self::ConsentExpired,
        Self::Reauthorised,
    ];
}

/// The status of a record after something happened, and what its app is told of it.
///
/// ```text
/// active --- refused, expired ---> token_required --- answered, authorised ---> active
/// ```
///
/// Only a refusal and an expiry ask for the user. An outage, a spent quota, nonsense and a fault of
/// our own leave the status alone.
pub const fn next_record_status(
    status: RecordStatus,
    trigger: StatusTrigger,
) -> (RecordStatus, Option<StateChange>) {
    use RecordStatus::{Active, Invalid, ReauthorisationRequired};
    match (status, trigger) {
        (Active, StatusTrigger::ConsentRejected) => (
            ReauthorisationRequired,
            Some(StateChange::ReauthorisationRequired {
                reason: ReauthorisationReason::ConsentRejected,
            }),
        ),
        (Active, StatusTrigger::ConsentExpired) => (
            ReauthorisationRequired,
            Some(StateChange::ReauthorisationRequired {
                reason: ReauthorisationReason::ConsentExpired,
            }),
        ),
        (ReauthorisationRequired, StatusTrigger::Responded | StatusTrigger::Reauthorised) => {
            (Active, Some(StateChange::Recovered))
        }
        (Active | ReauthorisationRequired | Invalid, _) => (status, None),
    }
}

/// What is recorded of a product of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductState {
    /// What it is.
    #[serde(rename = "s")]
    pub availability: Availability,
    /// Why, where it is not available.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none", default)]
    pub class: Option<FaultClass>,
    /// Since when.
    #[serde(rename = "t")]
    pub since: Timestamp,
}

impl ProductState {
    /// True where the last answer was whole.
    pub const fn is_available(&self) -> bool {
        matches!(self.availability, Availability::Available)
    }
}

/// What a refresh heard of a product of an account, as a change of what is recorded; `None` where it
/// is recorded so. `None` recorded is available.
pub fn detect_product_change(
    recorded: Option<&ProductState>,
    product: Product,
    fault_class: Option<FaultClass>,
) -> Option<ProductChange> {
    let availability = fault_class.map_or(Availability::Available, Availability::for_fault_class);
    let same = match recorded {
        Some(known) => known.availability == availability && known.class == fault_class,
        None => fault_class.is_none(),
    };
    (!same).then_some(ProductChange {
        product,
        availability,
        class: fault_class,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No state is a trap: whatever happened before, good answers lead back.
    #[test]
    fn from_every_state_good_answers_lead_back() {
        let mut reached = vec![RecordStatus::Active];
        let mut next = 0;
        while let Some(&status) = reached.get(next) {
            next += 1;
            for happening in StatusTrigger::ALL {
                let (after, told) = next_record_status(status, happening);
                assert_eq!(told.is_some(), after != status, "{status:?} {happening:?}");
                if !reached.contains(&after) {
                    reached.push(after);
                }
            }
        }
        assert_eq!(
            reached,
            [RecordStatus::Active, RecordStatus::ReauthorisationRequired]
        );
        for status in reached {
            for good in [StatusTrigger::Responded, StatusTrigger::Reauthorised] {
                assert_eq!(next_record_status(status, good).0, RecordStatus::Active);
            }
            assert_eq!(next_record_status(status, StatusTrigger::Failed).0, status);
        }
    }

    #[test]
    fn a_product_comes_back_from_every_failure() {
        for class in [
            FaultClass::BankUnavailable,
            FaultClass::RateLimited,
            FaultClass::QuotaSpent,
            FaultClass::ConsentRejected,
            FaultClass::MalformedResponse,
            FaultClass::Internal,
        ] {
            let failed = detect_product_change(None, Product::Balance, Some(class)).unwrap();
            assert_ne!(failed.availability, Availability::Available);
            let known = ProductState {
                availability: failed.availability,
                class: failed.class,
                since: Timestamp::UNIX_EPOCH,
            };
            assert_eq!(
                detect_product_change(Some(&known), Product::Balance, Some(class)),
                None
            );
            let back = detect_product_change(Some(&known), Product::Balance, None).unwrap();
            assert_eq!(
                (back.availability, back.class),
                (Availability::Available, None)
            );
        }
        assert_eq!(detect_product_change(None, Product::Balance, None), None);
    }
}
