//! Transactions.

use okra_core::{
    ids::{AccountId, AppId, BankId, CustomerId, RecordId, TransactionId},
    model::{BookingStatus, Direction, Environment, Transaction as Known, date_of},
    money::Currency,
};
use serde::Serialize;

use crate::{
    origin::{Ids, Named, Origin, Times},
    scalar::{Empty, Instant, Number},
};

/// A transaction. Exactly one of `credit` and `debit` is set.
///
/// `pending` and `bank_transaction_id` are ours. The id stays when the bank changes its own.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct Transaction {
    _id: TransactionId,
    id: TransactionId,
    __v: u8,
    trans_date: Instant,
    cleared_date: Option<Instant>,
    /// Open banking has no raw texts of dates: the same as ISO dates.
    unformatted_trans_date: String,
    unformatted_cleared_date: String,
    credit: Option<Number>,
    debit: Option<Number>,
    balance: Option<Number>,
    currency: Currency,
    #[serde(rename = "ref")]
    reference: String,
    code: String,
    branch: &'static str,
    notes: Notes,
    ner: Entities,
    ner_v: u8,
    location: Location,
    #[serde(flatten)]
    of: References,
    record: [RecordId; 1],
    owner: [AppId; 1],
    projects: Empty,
    fetched: [AppId; 1],
    analyzed: Empty,
    checked: Empty,
    manual: bool,
    reconciled: bool,
    pending: bool,
    bank_transaction_id: Option<String>,
    env: Environment,
    created_at: Instant,
    last_updated: Instant,
}

/// What Okra's text analysis found; the text is all we have.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Default, Serialize)]
struct Notes {
    desc: String,
    topics: Empty,
    places: Empty,
    people: Empty,
    actions: Empty,
    subjects: Empty,
    prepositions: Empty,
    /// Okra's older spelling, which clients of 2020 and 2021 read.
    preopositions: Empty,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Default, Serialize)]
struct Entities {
    beneficiaries: &'static str,
    account: Empty,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Default, Serialize)]
struct Location {
    address: &'static str,
    lat: u8,
    long: u8,
    raw: &'static str,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
struct BankOf {
    name: String,
    logo: &'static str,
    icon: &'static str,
    status: &'static str,
}

/// Populated in `getBy*`, plain ids in callback data and webhooks: so it was.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
#[serde(untagged)]
enum References {
    Populated {
        bank: BankOf,
        customer: Named<CustomerId>,
        account: Named<AccountId>,
    },
    Plain {
        bank: BankId,
        customer: CustomerId,
        account: AccountId,
    },
}

impl Transaction {
    /// A transaction of `transactions/getBy*`: bank, customer and account with their names.
    pub fn populated(of: &Origin<'_>, transaction: &Known, times: Times) -> Self {
        let references = References::Populated {
            bank: BankOf {
                name: of.bank_name.to_owned(),
                logo: "",
                icon: "",
                status: "active",
            },
            customer: of.customer(),
            account: Named::new(of.ids.account, &of.facts.name),
        };
        Self::new(of.ids, references, transaction, times)
    }

    /// A transaction of callback data and webhooks: bank, customer and account as ids.
    pub fn plain(ids: Ids, transaction: &Known, times: Times) -> Self {
        let references = References::Plain {
            bank: ids.bank,
            customer: ids.customer,
            account: ids.account,
        };
        Self::new(ids, references, transaction, times)
    }

    fn new(ids: Ids, of: References, transaction: &Known, times: Times) -> Self {
        let facts = &transaction.facts;
        let amount = Number(facts.amount);
        let (credit, debit) = match facts.direction {
            Direction::Credit => (Some(amount), None),
            Direction::Debit => (None, Some(amount)),
        };
        let pending = facts.status == BookingStatus::Pending;
        let cleared = (!pending).then(|| facts.value_at.unwrap_or(facts.booked_at));
        Self {
            _id: transaction.id,
            id: transaction.id,
            __v: 0,
            trans_date: Instant(facts.booked_at),
            cleared_date: cleared.map(Instant),
            unformatted_trans_date: facts.date().to_string(),
            unformatted_cleared_date: cleared
                .map(|at| date_of(at).to_string())
                .unwrap_or_default(),
            credit,
            debit,
            balance: facts.balance_after.map(Number),
            currency: facts.amount.currency,
            reference: facts.reference.clone().unwrap_or_default(),
            code: facts.code.clone().unwrap_or_default(),
            branch: "",
            notes: Notes {
                desc: facts.description.clone(),
                ..Notes::default()
            },
            ner: Entities::default(),
            ner_v: 1,
            location: Location::default(),
            of,
            record: [ids.record],
            owner: [ids.app],
            projects: Empty,
            fetched: [ids.app],
            analyzed: Empty,
            checked: Empty,
            manual: false,
            reconciled: false,
            pending,
            bank_transaction_id: facts.bank_id.clone(),
            env: ids.env,
            created_at: Instant(times.created_at),
            last_updated: Instant(times.last_updated),
        }
    }
}
