//! Transactions.

use okra_core::model::{
    ids::{AccountId, AppId, BankId, CustomerId, RecordId, TransactionId},
    money::Currency,
    snapshot::{BookingStatus, Direction, Environment, Transaction as Known, utc_date},
};
use serde::Serialize;

use crate::{
    account_context::{AccountContext, NamedReference, ResourceIds, ResourceTimes},
    scalar::{EmptyList, IsoInstant, MajorUnits},
};

/// A transaction. Exactly one of `credit` and `debit` is set.
///
/// `pending` and `bank_transaction_id` are ours. The id stays when the bank changes its own.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct TransactionResource {
    _id: TransactionId,
    id: TransactionId,
    __v: u8,
    trans_date: IsoInstant,
    cleared_date: IsoInstant,
    /// Open banking has no raw texts of dates: the same as ISO dates.
    unformatted_trans_date: String,
    unformatted_cleared_date: String,
    credit: Option<MajorUnits>,
    debit: Option<MajorUnits>,
    balance: Option<MajorUnits>,
    currency: Currency,
    #[serde(rename = "ref")]
    reference: String,
    code: String,
    branch: &'static str,
    notes: TransactionNotes,
    ner: TransactionEntities,
    ner_v: u8,
    location: TransactionLocation,
    #[serde(flatten)]
    references: TransactionReferences,
    record: [RecordId; 1],
    owner: [AppId; 1],
    projects: EmptyList,
    fetched: [AppId; 1],
    analyzed: EmptyList,
    checked: EmptyList,
    manual: bool,
    reconciled: bool,
    pending: bool,
    bank_transaction_id: Option<String>,
    env: Environment,
    created_at: IsoInstant,
    last_updated: IsoInstant,
}

/// What Okra's text analysis found; the text is all we have.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Default, Serialize)]
struct TransactionNotes {
    desc: String,
    topics: EmptyList,
    #[serde(rename = "places")]
    location_names: EmptyList,
    people: EmptyList,
    actions: EmptyList,
    subjects: EmptyList,
    prepositions: EmptyList,
    /// Okra's older spelling, which clients of 2020 and 2021 read.
    preopositions: EmptyList,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Default, Serialize)]
struct TransactionEntities {
    beneficiaries: &'static str,
    account: EmptyList,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Default, Serialize)]
struct TransactionLocation {
    address: &'static str,
    lat: u8,
    long: u8,
    raw: &'static str,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
struct BankReference {
    name: String,
    logo: &'static str,
    icon: &'static str,
    status: &'static str,
}

/// Populated in `getBy*`, plain ids in callback data and webhooks: so it was.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
#[serde(untagged)]
enum TransactionReferences {
    Populated {
        bank: BankReference,
        customer: NamedReference<CustomerId>,
        account: NamedReference<AccountId>,
    },
    Plain {
        bank: BankId,
        customer: CustomerId,
        account: AccountId,
    },
}

impl TransactionResource {
    /// A transaction of `transactions/getBy*`: bank, customer and account with their names.
    pub fn with_names(
        context: &AccountContext<'_>,
        transaction: &Known,
        times: ResourceTimes,
    ) -> Self {
        let references = TransactionReferences::Populated {
            bank: BankReference {
                name: context.bank_name.to_owned(),
                logo: "",
                icon: "",
                status: "active",
            },
            customer: context.customer_reference(),
            account: NamedReference::new(context.ids.account, &context.facts.name),
        };
        Self::new(context.ids, references, transaction, times)
    }

    /// A transaction of callback data and webhooks: bank, customer and account as ids.
    pub fn with_plain_ids(ids: ResourceIds, transaction: &Known, times: ResourceTimes) -> Self {
        let references = TransactionReferences::Plain {
            bank: ids.bank,
            customer: ids.customer,
            account: ids.account,
        };
        Self::new(ids, references, transaction, times)
    }

    fn new(
        ids: ResourceIds,
        references: TransactionReferences,
        transaction: &Known,
        times: ResourceTimes,
    ) -> Self {
        let facts = &transaction.facts;
        let amount = MajorUnits(facts.amount);
        let (credit, debit) = match facts.direction {
            Direction::Credit => (Some(amount), None),
            Direction::Debit => (None, Some(amount)),
        };
        let pending = facts.status == BookingStatus::Pending;
        // Always a date, for pending rows too: OkraDotNet's decoder stops on null.
        let cleared = facts.value_at.unwrap_or(facts.booked_at);
        Self {
            _id: transaction.id,
            id: transaction.id,
            __v: 0,
            trans_date: IsoInstant(facts.booked_at),
            cleared_date: IsoInstant(cleared),
            unformatted_trans_date: facts.booking_date().to_string(),
            unformatted_cleared_date: utc_date(cleared).to_string(),
            credit,
            debit,
            balance: facts.balance_after.map(MajorUnits),
            currency: facts.amount.currency,
            reference: facts.reference.clone().unwrap_or_default(),
            code: facts.code.clone().unwrap_or_default(),
            branch: "",
            notes: TransactionNotes {
                desc: facts.description.clone(),
                ..TransactionNotes::default()
            },
            ner: TransactionEntities::default(),
            ner_v: 1,
            location: TransactionLocation::default(),
            references,
            record: [ids.record],
            owner: [ids.app],
            projects: EmptyList,
            fetched: [ids.app],
            analyzed: EmptyList,
            checked: EmptyList,
            manual: false,
            reconciled: false,
            pending,
            bank_transaction_id: facts.bank_id.clone(),
            env: ids.env,
            created_at: IsoInstant(times.created_at),
            last_updated: IsoInstant(times.last_updated),
        }
    }
}
