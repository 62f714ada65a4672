//! Customers.

use okra_core::model::{
    ids::{AppId, BankId, CustomerId, RecordId},
    snapshot::Environment,
};
use serde::Serialize;

use crate::{
    account_context::{AccountContext, NamedReference, ResourceTimes},
    record::RecordResource,
    scalar::{EmptyList, IsoInstant},
};

/// A customer. `records` is ours.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct CustomerResource {
    _id: CustomerId,
    id: CustomerId,
    name: String,
    email: Vec<String>,
    phone: EmptyList,
    /// Accounts that were linked, where one customer is asked for.
    credentials: Vec<LinkedCredential>,
    record: Vec<RecordId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Vec<RecordResource>>,
    blocked: bool,
    owner: [CustomerOwnerResource; 1],
    #[serde(rename = "linkLater")]
    link_later: bool,
    #[serde(rename = "debitLater")]
    debit_later: bool,
    #[serde(rename = "otherInfo")]
    other_info: EmptyList,
    unconnected: bool,
    manual: bool,
    env: Environment,
    created_at: IsoInstant,
    last_updated: IsoInstant,
    __v: u8,
}

/// The app that a customer is of.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
struct CustomerOwnerResource {
    _id: AppId,
    name: String,
    app_name: String,
}

/// An account that a customer linked.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct LinkedCredential {
    bank: NamedReference<BankId>,
    nuban: String,
    #[serde(rename = "accountName")]
    account_name: String,
    connected: bool,
}

impl LinkedCredential {
    /// An account.
    pub fn new(context: &AccountContext<'_>) -> Self {
        Self {
            bank: context.bank_reference(),
            nuban: context.facts.number.clone(),
            account_name: context.facts.name.clone(),
            connected: context.is_connected,
        }
    }
}

impl CustomerResource {
    /// A customer without records, as lists show it.
    pub fn new(
        customer: NamedReference<CustomerId>,
        owner: NamedReference<AppId>,
        email: Option<String>,
        env: Environment,
        times: ResourceTimes,
    ) -> Self {
        Self {
            _id: customer.id,
            id: customer.id,
            name: customer.name,
            email: email.into_iter().collect(),
            phone: EmptyList,
            credentials: Vec::new(),
            record: Vec::new(),
            records: None,
            blocked: false,
            owner: [CustomerOwnerResource {
                _id: owner.id,
                app_name: owner.name.clone(),
                name: owner.name,
            }],
            link_later: false,
            debit_later: false,
            other_info: EmptyList,
            unconnected: false,
            manual: false,
            env,
            created_at: IsoInstant(times.created_at),
            last_updated: IsoInstant(times.last_updated),
            __v: 0,
        }
    }

    /// The same customer, flagged or not.
    #[must_use]
    pub const fn with_blocked_flag(mut self, is_blocked: bool) -> Self {
        self.blocked = is_blocked;
        self
    }

    /// The same customer with its accounts.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Vec<LinkedCredential>) -> Self {
        self.credentials = credentials;
        self
    }

    /// The same customer with its records.
    #[must_use]
    pub fn with_records(mut self, records: Vec<(RecordId, RecordResource)>) -> Self {
        self.record = records.iter().map(|(id, _)| *id).collect();
        self.records = Some(records.into_iter().map(|(_, record)| record).collect());
        self
    }
}
