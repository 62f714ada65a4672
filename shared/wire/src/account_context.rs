//! Whose a resource is: what every resource repeats in one form or another.

use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{AccountId, AppId, BankId, CustomerId, RecordId},
        snapshot::{AccountFacts, ByProduct, Environment},
    },
    sync::drift::Drift,
};
use serde::Serialize;

use crate::availability::AvailabilityResource;

/// An id with a name, as Okra populates references.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct NamedReference<I> {
    /// The id.
    #[serde(rename = "_id")]
    pub id: I,
    /// The name.
    pub name: String,
}

impl<I> NamedReference<I> {
    /// This id with this name.
    pub fn new(id: I, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { id, name }
    }
}

/// The ids around a resource.
#[derive(Clone, Copy, Debug)]
pub struct ResourceIds {
    /// The app.
    pub app: AppId,
    /// The app's environment.
    pub env: Environment,
    /// The record.
    pub record: RecordId,
    /// The customer.
    pub customer: CustomerId,
    /// The bank.
    pub bank: BankId,
    /// The account.
    pub account: AccountId,
}

/// An account with the names around it.
#[derive(Clone, Copy)]
pub struct AccountContext<'a> {
    /// The ids.
    pub ids: ResourceIds,
    /// The customer's name.
    pub customer_name: &'a str,
    /// The customer's address, where it is known.
    pub customer_email: Option<&'a str>,
    /// The bank's name.
    pub bank_name: &'a str,
    /// The bank's slug.
    pub bank_slug: &'a str,
    /// What the bank says of the account.
    pub facts: &'a AccountFacts,
    /// Where its balance and its transactions disagree.
    pub drift: Option<&'a Drift>,
    /// What of it cannot be had at the moment.
    pub availability: ByProduct<AvailabilityResource>,
    /// The bank takes the record's consent, as far as is known.
    pub is_connected: bool,
    /// The bank wants the customer there for each refresh.
    pub needs_user_present: bool,
}

impl AccountContext<'_> {
    pub(crate) fn customer_reference(&self) -> NamedReference<CustomerId> {
        NamedReference::new(self.ids.customer, self.customer_name)
    }

    pub(crate) fn bank_reference(&self) -> NamedReference<BankId> {
        NamedReference::new(self.ids.bank, self.bank_name)
    }
}

/// When a resource was first known, and when it last changed.
#[derive(Clone, Copy, Debug)]
pub struct ResourceTimes {
    /// First known.
    pub created_at: Timestamp,
    /// Last changed.
    pub last_updated: Timestamp,
}

impl ResourceTimes {
    /// Something that happened at one instant.
    pub const fn at_instant(instant: Timestamp) -> Self {
        Self {
            created_at: instant,
            last_updated: instant,
        }
    }
}
