//! States of a record and its accounts. The cast: [`RecordStatus`] and [`next_record_status`]; [`Availability`] of a
//! product with its [`AvailabilityReason`]; [`StateChange`], what the app is notified of. Each reason has a stable name,
//! a label and a sentence here, which API, webhooks and pages share.
//!
//! The rules: a change of state is a feed entry like any other, with a number and an event id, and no state is a trap.

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
    /// The entry's account was linked with it: Okra's `ACCOUNTS_SUCCESS`.
    #[serde(rename = "a")]
    AccountLinked,
    /// The user must act before the bank can be called again.
    #[serde(rename = "t")]
    ReauthorisationRequired {
        /// Why.
        #[serde(rename = "r")]
        reason: ReauthorisationReason,
    },
    /// The bank responds again, or the user re-authorised.
    #[serde(rename = "k")]
    Recovered,
    /// The consent will end.
    #[serde(rename = "x")]
    ConsentExpiring {
        /// When.
        #[serde(rename = "e")]
        expires_at: Timestamp,
        /// Days before the end for which this notice is: 14, 7 or 1.
        #[serde(rename = "d")]
        days_before: u8,
    },
    /// The availability of a product of the entry's account changed.
    #[serde(rename = "p")]
    Product(ProductChange),
    /// The backfill of the entry's account ended: Okra's `FULL_TRANSACTIONS`.
    #[serde(rename = "h")]
    BackfillComplete(BackfillComplete),
    /// Balance and transactions of the entry's account disagree, or agree again.
    #[serde(rename = "d")]
    Drift {
        /// How they disagree; `None` where they agree again.
        #[serde(rename = "d", skip_serializing_if = "Option::is_none", default)]
        drift: Option<Drift>,
    },
    /// The record was unlinked and is not refreshed any more.
    #[serde(rename = "u")]
    Unlinked,
}

/// Why the user must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReauthorisationReason {
    /// The consent has expired.
    ConsentExpired,
    /// The bank rejects consent or credentials: expired, revoked or never valid.
    #[serde(rename = "consent_refused")]
    ConsentRejected,
    /// The bank requires the user to be present for every refresh.
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

    /// Why, and what the user must do: one sentence without a full stop.
    pub const fn to_sentence(self) -> &'static str {
        match self {
            Self::ConsentExpired => "The consent has expired; the user must re-authorise",
            Self::ConsentRejected => FaultClass::ConsentRejected.to_sentence(),
            Self::UserPresenceRequired => {
                "The bank requires the user to be present for every refresh"
            }
        }
    }
}

/// Whether a product of an account is available.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Availability {
    /// The last refresh fetched all of it.
    #[default]
    #[serde(rename = "AVAILABLE")]
    Available,
    /// Some of it is missing, such as a part of the backfill.
    #[serde(rename = "PARTIAL")]
    Partial,
    /// Not now, for a reason that passes by itself or that the user can resolve.
    #[serde(rename = "UNAVAILABLE")]
    Unavailable,
    /// The bank's response cannot be used, or the failure is our own.
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

    /// A word or two in small letters, for a table or a badge.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Partial => "partly available",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        }
    }

    /// The availability of a product whose refresh failed so.
    pub const fn for_fault_class(class: FaultClass) -> Self {
        match class {
            FaultClass::BankUnavailable
            | FaultClass::RateLimited
            | FaultClass::QuotaSpent
            | FaultClass::ConsentRejected
            | FaultClass::AccountGone => Self::Unavailable,
            FaultClass::MalformedResponse | FaultClass::Internal => Self::Failed,
        }
    }
}

/// Why a product of an account is not available, or only in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AvailabilityReason {
    /// The last refresh failed.
    Fault(FaultClass),
    /// The user did not share the product when the record was linked.
    NotShared,
    /// The last response lacks rows whose deletion is not confirmed.
    RowsMissing,
    /// Rows of the last response could not be read and were set aside.
    RowsUnreadable,
    /// A range of the backfill is being fetched again.
    BackfillGap,
    /// Days of the backfill could not be read.
    BackfillUnreadable,
    /// The bank rejects older dates ([`BackfillEnd::BankRejected`]).
    BackfillRejected,
    /// The backfill was given up ([`BackfillEnd::GaveUp`]).
    BackfillGaveUp,
}

impl AvailabilityReason {
    /// The reasons that are not a fault of the last refresh.
    const WITHOUT_FAULT: [Self; 7] = [
        Self::NotShared,
        Self::RowsMissing,
        Self::RowsUnreadable,
        Self::BackfillGap,
        Self::BackfillUnreadable,
        Self::BackfillRejected,
        Self::BackfillGaveUp,
    ];

    /// The reason why a backfill that ended so is not whole; `None` where it is.
    pub const fn for_backfill_end(end: BackfillEnd) -> Option<Self> {
        match end {
            BackfillEnd::RequestedLimit | BackfillEnd::BankLimit => None,
            BackfillEnd::BankRejected => Some(Self::BackfillRejected),
            BackfillEnd::GaveUp => Some(Self::BackfillGaveUp),
        }
    }

    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fault(class) => class.as_str(),
            Self::NotShared => "not_shared",
            Self::RowsMissing => "rows_missing",
            Self::RowsUnreadable => "rows_unreadable",
            Self::BackfillGap => "history_gap",
            Self::BackfillUnreadable => "history_unreadable",
            Self::BackfillRejected => "history_refused",
            Self::BackfillGaveUp => "history_gave_up",
        }
    }

    /// The reason of this name.
    pub fn parse(text: &str) -> Option<Self> {
        FaultClass::ALL
            .into_iter()
            .map(Self::Fault)
            .chain(Self::WITHOUT_FAULT)
            .find(|reason| reason.as_str() == text)
    }

    /// A few words in small letters, for a table or a badge.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Fault(class) => class.as_label(),
            Self::NotShared => "not shared by the user",
            Self::RowsMissing => "rows missing from the last response",
            Self::RowsUnreadable => "rows of the last response unreadable",
            Self::BackfillGap => "older transactions being fetched again",
            Self::BackfillUnreadable => "days of older transactions unreadable",
            Self::BackfillRejected => "older transactions rejected by the bank",
            Self::BackfillGaveUp => "older transactions given up",
        }
    }

    /// What is not available, and why: one sentence without a full stop.
    pub const fn to_sentence(self) -> &'static str {
        match self {
            Self::Fault(class) => class.to_sentence(),
            Self::NotShared => "The user did not share this product when the account was linked",
            Self::RowsMissing => {
                "The bank's last response lacks transactions whose deletion is not confirmed yet"
            }
            Self::RowsUnreadable => {
                "Some transactions of the bank's last response could not be read and were set aside; each refresh \
                 reads them again"
            }
            Self::BackfillGap => "A range of older transactions is being fetched again",
            Self::BackfillUnreadable => {
                "Some days of older transactions could not be read and were left out; they are requested again \
                 after a week"
            }
            Self::BackfillRejected => BackfillEnd::BankRejected.to_sentence(),
            Self::BackfillGaveUp => BackfillEnd::GaveUp.to_sentence(),
        }
    }
}

/// A change of the availability of a product of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductChange {
    /// The product.
    #[serde(rename = "p")]
    pub product: Product,
    /// The availability now.
    #[serde(rename = "s")]
    pub availability: Availability,
    /// The failure, where it is not available.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none", default)]
    pub class: Option<FaultClass>,
}

/// How the backfill of an account ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillComplete {
    /// Everything from this date on was fetched.
    #[serde(rename = "o")]
    pub oldest_date: Date,
    /// New rows that the backfill found.
    #[serde(rename = "n")]
    pub rows: u64,
    /// Why it goes no further back.
    #[serde(rename = "w")]
    pub end_reason: BackfillEnd,
}

/// Why a backfill goes no further back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillEnd {
    /// It reached the requested date.
    #[serde(rename = "limit")]
    RequestedLimit,
    /// The bank says that it has nothing older, or that the consent covers nothing older.
    BankLimit,
    /// The bank rejects older dates.
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

    /// Why the backfill goes no further back: one sentence without a full stop.
    pub const fn to_sentence(self) -> &'static str {
        match self {
            Self::RequestedLimit => "The backfill goes back as far as was requested",
            Self::BankLimit => {
                "The bank has no older transactions, or the consent does not cover them"
            }
            Self::BankRejected => {
                "The bank rejects requests for older transactions; they are requested again once the user is present"
            }
            Self::GaveUp => {
                "The bank failed too often while older transactions were fetched; they are requested again after \
                 a week"
            }
        }
    }
}

/// Whether a record can be refreshed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// It can be refreshed.
    #[default]
    Active,
    /// The bank rejects the consent, or it has expired: the user must re-authorise.
    #[serde(rename = "token_required")]
    ReauthorisationRequired,
    /// It was unlinked.
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

/// What changes the status of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusTrigger {
    /// The bank responded for something that was fetched.
    Responded,
    /// The bank rejected the consent for everything that was fetched.
    ConsentRejected,
    /// Everything failed, for reasons that the user cannot resolve.
    Failed,
    /// The consent has expired.
    ConsentExpired,
    /// The user re-authorised, and the bank accepted it.
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

/// The status of a record after a trigger, and the change that its app is notified of.
///
/// ```text
/// active --- rejected, expired ---> token_required --- responded, re-authorised ---> active
/// ```
///
/// Only a rejected or expired consent requires the user. An outage, a spent quota, a malformed response and a fault of our
/// own do not change the status.
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

/// The recorded availability of a product of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductState {
    /// The availability.
    #[serde(rename = "s")]
    pub availability: Availability,
    /// The failure, where it is not available.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none", default)]
    pub class: Option<FaultClass>,
    /// Since when.
    #[serde(rename = "t")]
    pub since: Timestamp,
}

impl ProductState {
    /// True where the last refresh fetched all of it.
    pub const fn is_available(&self) -> bool {
        matches!(self.availability, Availability::Available)
    }
}

/// The change that the result of a refresh makes to the recorded state of a product; `None` where it is recorded so
/// already. A product without a recorded state is available.
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
    use std::collections::BTreeSet;

    use super::*;

    /// No state is a trap: whatever happened before, good responses lead back.
    #[test]
    fn from_every_status_good_responses_lead_back() {
        let mut reached = vec![RecordStatus::Active];
        let mut next = 0;
        while let Some(&status) = reached.get(next) {
            next += 1;
            for trigger in StatusTrigger::ALL {
                let (after, change) = next_record_status(status, trigger);
                assert_eq!(change.is_some(), after != status, "{status:?} {trigger:?}");
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
    fn every_reason_is_found_by_its_name_and_has_a_sentence_of_its_own() {
        let faults = FaultClass::ALL.map(AvailabilityReason::Fault);
        let all: Vec<_> = faults
            .into_iter()
            .chain(AvailabilityReason::WITHOUT_FAULT)
            .collect();
        let sentences: BTreeSet<_> = all.iter().map(|reason| reason.to_sentence()).collect();
        let labels: BTreeSet<_> = all.iter().map(|reason| reason.as_label()).collect();
        assert_eq!((sentences.len(), labels.len()), (all.len(), all.len()));
        for reason in all {
            assert_eq!(AvailabilityReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(AvailabilityReason::parse("history"), None);
    }

    #[test]
    fn a_product_recovers_from_every_failure() {
        for class in FaultClass::ALL {
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
