//! Parts of bodies about changed transactions: what a modified row was before, and what it is now.

use okra_core::{
    model::{
        ids::TransactionId,
        snapshot::{BookingStatus, Direction, TransactionFacts},
    },
    sync::feed::{MatchConfidence, ModifiedRow},
};
use serde::Serialize;

use crate::scalar::{IsoInstant, MajorUnits};

/// A transaction whose facts changed. It states how sure the match is, because banks change ids.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(super) struct ModifiedTransactionBody<'a> {
    _id: TransactionId,
    id: TransactionId,
    #[serde(flatten)]
    change: Option<TransactionChangeBody<'a>>,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(crate) struct TransactionChangeBody<'a> {
    confidence: &'static str,
    /// The bank's id that the row had before, where it has another now.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<&'a str>,
    /// The same, where the row was pending and is booked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_transaction_id: Option<&'a str>,
    changed: Vec<&'static str>,
    before: TransactionFactsBody<'a>,
    after: TransactionFactsBody<'a>,
}

/// The facts that changed, in Okra's words, and no others. A fact that the bank does not state is
/// null.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(crate) struct TransactionFactsBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bank_transaction_id: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<MajorUnits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trans_date: Option<IsoInstant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared_date: Option<Option<IsoInstant>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'a str>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<Option<MajorUnits>>,
}

/// The names of the facts that are shown.
struct ShownFields<'a>(&'a [&'a str]);

impl ShownFields<'_> {
    fn field(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

impl<'a> TransactionFactsBody<'a> {
    /// The facts of these names, which are those of [`TransactionFacts::changed`].
    pub(super) fn from_named_facts(facts: &'a TransactionFacts, names: &[&str]) -> Self {
        let shows = ShownFields(names);
        let direction = match facts.direction {
            Direction::Credit => "credit",
            Direction::Debit => "debit",
        };
        Self {
            bank_transaction_id: shows
                .field("bank_transaction_id")
                .then_some(facts.bank_id.as_deref()),
            pending: shows
                .field("pending")
                .then(|| facts.status == BookingStatus::Pending),
            direction: shows.field("direction").then_some(direction),
            amount: shows.field("amount").then_some(MajorUnits(facts.amount)),
            trans_date: shows
                .field("trans_date")
                .then_some(IsoInstant(facts.booked_at)),
            cleared_date: shows
                .field("cleared_date")
                .then(|| facts.value_at.map(IsoInstant)),
            notes: shows.field("notes").then_some(&facts.description),
            reference: shows.field("ref").then_some(facts.reference.as_deref()),
            code: shows.field("code").then_some(facts.code.as_deref()),
            balance: shows
                .field("balance")
                .then(|| facts.balance_after.map(MajorUnits)),
        }
    }
}

impl<'a> TransactionChangeBody<'a> {
    pub(crate) fn new(
        before: &'a TransactionFacts,
        after: &'a TransactionFacts,
        confidence: MatchConfidence,
    ) -> Self {
        let changed = before.changed_fields(after);
        let replaces = before.bank_id.as_deref();
        let replaces = replaces.filter(|_| before.bank_id != after.bank_id);
        let booked =
            before.status == BookingStatus::Pending && after.status == BookingStatus::Booked;
        Self {
            confidence: confidence.as_str(),
            replaces,
            pending_transaction_id: replaces.filter(|_| booked),
            before: TransactionFactsBody::from_named_facts(before, &changed),
            after: TransactionFactsBody::from_named_facts(after, &changed),
            changed,
        }
    }
}

impl<'a> ModifiedTransactionBody<'a> {
    pub(super) fn new(modified: &'a ModifiedRow, full: bool) -> Self {
        let (before, after) = (&modified.before, &modified.after.facts);
        Self {
            _id: modified.after.id,
            id: modified.after.id,
            change: full.then(|| TransactionChangeBody::new(before, after, modified.confidence)),
        }
    }
}
