//! Accounts.

use okra_core::{
    ids::{AccountId, BalanceId, BankId, CustomerId, RecordId},
    model::Environment,
    money::Currency,
};
use serde::Serialize;

use crate::{
    lack::Lacks,
    origin::{Named, Origin, Times},
    scalar::{Empty, Instant},
};

/// An account.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct Account {
    _id: AccountId,
    id: AccountId,
    name: String,
    nuban: String,
    bank: AccountBank,
    #[serde(rename = "type")]
    kind: String,
    customer: CustomerId,
    env: Environment,
    balance: BalanceId,
    currency: Currency,
    manual: bool,
    projects: Empty,
    record: [RecordId; 1],
    created_at: Instant,
    last_updated: Instant,
    __v: u8,
    /// What of it cannot be had at the moment; absent where all can.
    #[serde(skip_serializing_if = "Option::is_none")]
    lacking: Option<Lacks>,
}

impl Account {
    /// An account in Okra's shape.
    pub fn new(of: &Origin<'_>, times: Times) -> Self {
        let (ids, facts) = (of.ids, of.facts);
        Self {
            _id: ids.account,
            id: ids.account,
            name: facts.name.clone(),
            nuban: facts.number.clone(),
            bank: AccountBank::new(of),
            kind: facts.kind.clone(),
            customer: ids.customer,
            env: ids.env,
            balance: BalanceId::of(ids.account),
            currency: facts.currency,
            manual: false,
            projects: Empty,
            record: [ids.record],
            created_at: Instant(times.created_at),
            last_updated: Instant(times.last_updated),
            __v: 0,
            lacking: Lacks::of(&of.lacks),
        }
    }
}

/// The bank of an account. Its status is a boolean here and a text elsewhere: so it was.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
struct AccountBank {
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

impl AccountBank {
    fn new(of: &Origin<'_>) -> Self {
        Self {
            _id: of.ids.bank,
            name: of.bank_name.to_owned(),
            slug: of.bank_slug.to_owned(),
            icon: "",
            inverted_logo: "",
            v2_icon: "",
            v2_logo: "",
            status: true,
            is_mfa: of.needs_user,
            mfa_type: "",
            corp: false,
        }
    }
}

/// The account that another resource is of.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct AccountOf {
    _id: AccountId,
    name: String,
    nuban: String,
    bank: Named<BankId>,
}

impl AccountOf {
    /// The account of this origin.
    pub fn new(of: &Origin<'_>) -> Self {
        Self {
            _id: of.ids.account,
            name: of.facts.name.clone(),
            nuban: of.facts.number.clone(),
            bank: of.bank(),
        }
    }
}

/// An account of a record that was just linked, as the widget's `onSuccess` shows it.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct LinkedAccount {
    /// The id.
    pub id: AccountId,
    /// The holder's name.
    pub name: String,
    /// The account number.
    pub nuban: String,
    /// Whose it is.
    pub customer: CustomerId,
}
