//! Accounts.

use okra_core::model::{
    ids::{AccountId, BalanceId, BankId, CustomerId, RecordId},
    money::Currency,
    snapshot::Environment,
};
use serde::Serialize;

use crate::{
    account_context::{AccountContext, NamedReference, ResourceTimes},
    availability::AccountAvailabilityResource,
    scalar::{EmptyList, IsoInstant},
};

/// An account.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct AccountResource {
    _id: AccountId,
    id: AccountId,
    name: String,
    nuban: String,
    bank: AccountBankResource,
    #[serde(rename = "type")]
    kind: String,
    customer: CustomerId,
    env: Environment,
    balance: BalanceId,
    currency: Currency,
    manual: bool,
    projects: EmptyList,
    record: [RecordId; 1],
    created_at: IsoInstant,
    last_updated: IsoInstant,
    __v: u8,
    /// What of it cannot be had at the moment; absent where all can.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "lacking")]
    availability: Option<AccountAvailabilityResource>,
}

impl AccountResource {
    /// An account in Okra's shape.
    pub fn new(context: &AccountContext<'_>, times: ResourceTimes) -> Self {
        let (ids, facts) = (context.ids, context.facts);
        Self {
            _id: ids.account,
            id: ids.account,
            name: facts.name.clone(),
            nuban: facts.number.clone(),
            bank: AccountBankResource::new(context),
            kind: facts.kind.clone(),
            customer: ids.customer,
            env: ids.env,
            balance: BalanceId::for_account(ids.account),
            currency: facts.currency,
            manual: false,
            projects: EmptyList,
            record: [ids.record],
            created_at: IsoInstant(times.created_at),
            last_updated: IsoInstant(times.last_updated),
            __v: 0,
            availability: AccountAvailabilityResource::from_products(&context.availability),
        }
    }
}

/// The bank of an account. Its status is a boolean here and a text elsewhere: so it was.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
struct AccountBankResource {
    _id: BankId,
    name: String,
    slug: String,
    icon: &'static str,
    inverted_logo: &'static str,
    v2_icon: &'static str,
    v2_logo: &'static str,
    status: bool,
    #[serde(rename = "isMFA")]
    is_mfa: bool,
    #[serde(rename = "mfaType")]
    mfa_type: &'static str,
    corp: bool,
}

impl AccountBankResource {
    fn new(context: &AccountContext<'_>) -> Self {
        Self {
            _id: context.ids.bank,
            name: context.bank_name.to_owned(),
            slug: context.bank_slug.to_owned(),
            icon: "",
            inverted_logo: "",
            v2_icon: "",
            v2_logo: "",
            status: true,
            is_mfa: context.needs_user_present,
            mfa_type: "",
            corp: false,
        }
    }
}

/// The account that another resource is of.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct AccountReference {
    _id: AccountId,
    name: String,
    nuban: String,
    bank: NamedReference<BankId>,
}

impl AccountReference {
    /// The account of this origin.
    pub fn new(context: &AccountContext<'_>) -> Self {
        Self {
            _id: context.ids.account,
            name: context.facts.name.clone(),
            nuban: context.facts.number.clone(),
            bank: context.bank_reference(),
        }
    }
}

/// An account of a record that was just linked, as the widget's `onSuccess` shows it.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct LinkedAccountResource {
    /// The id.
    pub id: AccountId,
    /// The holder's name.
    pub name: String,
    /// The account number.
    pub nuban: String,
    /// Whose it is.
    pub customer: CustomerId,
}
