//! Customers.

use okra_core::{
    ids::{AppId, BankId, CustomerId, RecordId},
    model::Environment,
};
use serde::Serialize;

use crate::{
    origin::{Named, Origin, Times},
    record::Record,
    scalar::{Empty, Instant},
};

/// A customer. `records` is ours.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Customer {
    _id: CustomerId,
    id: CustomerId,
    name: String,
    email: Vec<String>,
    phone: Empty,
    /// Accounts that were linked, where one customer is asked for.
    credentials: Vec<Credential>,
    record: Vec<RecordId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Vec<Record>>,
    blocked: bool,
    owner: [Owner; 1],
    #[serde(rename = "linkLater")]
    link_later: bool,
    #[serde(rename = "debitLater")]
    debit_later: bool,
    #[serde(rename = "otherInfo")]
    other_info: Empty,
    unconnected: bool,
    manual: bool,
    env: Environment,
    created_at: Instant,
    last_updated: Instant,
    __v: u8,
}

/// The app that a customer is of.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
struct Owner {
    _id: AppId,
    name: String,
    app_name: String,
}

/// An account that a customer linked.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Credential {
    bank: Named<BankId>,
    nuban: String,
    #[serde(rename = "accountName")]
    account_name: String,
    connected: bool,
}

impl Credential {
    /// An account.
    pub fn new(of: &Origin<'_>) -> Self {
        Self {
            bank: of.bank(),
            nuban: of.facts.number.clone(),
            account_name: of.facts.name.clone(),
            connected: of.connected,
        }
    }
}

impl Customer {
    /// A customer without records, as lists show it.
    pub fn new(
        of: Named<CustomerId>,
        owner: Named<AppId>,
        email: Option<String>,
        env: Environment,
        times: Times,
    ) -> Self {
        Self {
            _id: of.id,
            id: of.id,
            name: of.name,
            email: email.into_iter().collect(),
            phone: Empty,
            credentials: Vec::new(),
            record: Vec::new(),
            records: None,
            blocked: false,
            owner: [Owner {
                _id: owner.id,
                app_name: owner.name.clone(),
                name: owner.name,
            }],
            link_later: false,
            debit_later: false,
            other_info: Empty,
            unconnected: false,
            manual: false,
            env,
            created_at: Instant(times.created_at),
            last_updated: Instant(times.last_updated),
            __v: 0,
        }
    }

    /// The same customer, flagged or not.
    #[must_use]
    pub const fn with_block(mut self, blocked: bool) -> Self {
        self.blocked = blocked;
        self
    }

    /// The same customer with its accounts.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Vec<Credential>) -> Self {
        self.credentials = credentials;
        self
    }

    /// The same customer with its records.
    #[must_use]
    pub fn with_records(mut self, records: Vec<(RecordId, Record)>) -> Self {
        self.record = records.iter().map(|(id, _)| *id).collect();
        self.records = Some(records.into_iter().map(|(_, record)| record).collect());
        self
    }
}
