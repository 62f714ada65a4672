//! Balances, in the forms that Okra's families of endpoints have.

use okra_core::{
    ids::{AccountId, AppId, BalanceId, CustomerId, RecordId},
    model::{BalanceFacts, Environment},
    money::{Currency, Money},
};
use serde::Serialize;

use crate::{
    account::AccountOf,
    feed::Drift,
    lack::Lack,
    origin::{Named, Origin, Times},
    scalar::{Empty, Instant, Number},
};

/// Available and ledger balance; where a bank states one of them, it stands for the other too.
pub fn amounts(facts: &BalanceFacts, currency: Currency) -> (Number, Number) {
    let zero = Money::new(0, currency);
    let available = facts.available.or(facts.ledger).unwrap_or(zero);
    let ledger = facts.ledger.or(facts.available).unwrap_or(zero);
    (Number(available), Number(ledger))
}

/// Earlier values, which are in the feed instead.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Periodic {
    available_balance: Empty,
    ledger_balance: Empty,
}

/// A balance of `balance/getBy*` ("form B"): `connected` is an array.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct Balance {
    _id: BalanceId,
    __v: u8,
    account: AccountOf,
    customer: Named<CustomerId>,
    available_balance: Number,
    ledger_balance: Number,
    currency: Currency,
    #[serde(skip_serializing_if = "Option::is_none")]
    periodic: Option<Periodic>,
    connected: Empty,
    owner: [AppId; 1],
    record: [RecordId; 1],
    env: Environment,
    created_at: Instant,
    last_updated: Instant,
    /// Where balance and transactions disagree; absent where they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<Drift>,
    /// Why the balance cannot be had at the moment; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    lacking: Option<Lack>,
}

impl Balance {
    /// A balance in form B.
    pub fn new(of: &Origin<'_>, facts: &BalanceFacts, times: Times) -> Self {
        let (available_balance, ledger_balance) = amounts(facts, of.facts.currency);
        Self {
            _id: BalanceId::of(of.ids.account),
            __v: 0,
            account: AccountOf::new(of),
            customer: of.customer(),
            available_balance,
            ledger_balance,
            currency: of.facts.currency,
            periodic: Some(Periodic::default()),
            connected: Empty,
            owner: [of.ids.app],
            record: [of.ids.record],
            env: of.ids.env,
            created_at: Instant(times.created_at),
            last_updated: Instant(times.last_updated),
            drift: of.drift.map(Drift::from),
            lacking: of.lacks.balance,
        }
    }
}

impl Balance {
    /// The same without `periodic`, for callers that ask for that.
    #[must_use]
    pub fn without_periodic(mut self) -> Self {
        self.periodic = None;
        self
    }
}

/// A balance of `balance/getByType` ("form C"): its id is `id`, its customer a plain id.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct TypedBalance {
    id: BalanceId,
    account: AccountOf,
    customer: CustomerId,
    available_balance: Number,
    ledger_balance: Number,
    currency: Currency,
    periodic: Periodic,
    connected: Empty,
    owner: [AppId; 1],
    record: [RecordId; 1],
    env: Environment,
    created_at: Instant,
    last_updated: Instant,
    /// Why the balance cannot be had at the moment; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    lacking: Option<Lack>,
}

impl TypedBalance {
    /// A balance in form C.
    pub fn new(of: &Origin<'_>, facts: &BalanceFacts, times: Times) -> Self {
        let (available_balance, ledger_balance) = amounts(facts, of.facts.currency);
        Self {
            id: BalanceId::of(of.ids.account),
            account: AccountOf::new(of),
            customer: of.ids.customer,
            available_balance,
            ledger_balance,
            currency: of.facts.currency,
            periodic: Periodic::default(),
            connected: Empty,
            owner: [of.ids.app],
            record: [of.ids.record],
            env: of.ids.env,
            created_at: Instant(times.created_at),
            last_updated: Instant(times.last_updated),
            lacking: of.lacks.balance,
        }
    }
}

/// A balance of `products/balances` ("form A"): `connected` is a boolean.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct ListedBalance {
    id: BalanceId,
    account: AccountOf,
    ledger_balance: Number,
    available_balance: Number,
    currency: Currency,
    connected: bool,
    env: Environment,
    created_at: Instant,
    last_updated: Instant,
    /// Where balance and transactions disagree; absent where they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<Drift>,
    /// Why the balance cannot be had at the moment; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    lacking: Option<Lack>,
}

impl ListedBalance {
    /// A balance in form A.
    pub fn new(of: &Origin<'_>, facts: &BalanceFacts, times: Times) -> Self {
        let (available_balance, ledger_balance) = amounts(facts, of.facts.currency);
        Self {
            id: BalanceId::of(of.ids.account),
            account: AccountOf::new(of),
            ledger_balance,
            available_balance,
            currency: of.facts.currency,
            connected: of.connected,
            env: of.ids.env,
            created_at: Instant(times.created_at),
            last_updated: Instant(times.last_updated),
            drift: of.drift.map(Drift::from),
            lacking: of.lacks.balance,
        }
    }
}

/// A balance in callback data: ids are `id`, `connected` is a boolean.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct CallbackBalance {
    id: BalanceId,
    _id: BalanceId,
    account: CallbackAccount,
    customer: CallbackCustomer,
    available_balance: Number,
    ledger_balance: Number,
    currency: Currency,
    connected: bool,
    created_at: Instant,
    last_updated: Instant,
    /// Why the balance cannot be had at the moment; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    lacking: Option<Lack>,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
struct CallbackAccount {
    id: AccountId,
    _id: AccountId,
    nuban: String,
    name: String,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
struct CallbackCustomer {
    id: CustomerId,
    _id: CustomerId,
    name: String,
    email: Vec<String>,
    phone: Empty,
}

impl CallbackBalance {
    /// A balance as callback data has it.
    pub fn new(of: &Origin<'_>, facts: &BalanceFacts, times: Times) -> Self {
        let (available_balance, ledger_balance) = amounts(facts, of.facts.currency);
        let (account, customer) = (of.ids.account, of.ids.customer);
        Self {
            id: BalanceId::of(account),
            _id: BalanceId::of(account),
            account: CallbackAccount {
                id: account,
                _id: account,
                nuban: of.facts.number.clone(),
                name: of.facts.name.clone(),
            },
            customer: CallbackCustomer {
                id: customer,
                _id: customer,
                name: of.customer_name.to_owned(),
                email: of.customer_email.map(str::to_owned).into_iter().collect(),
                phone: Empty,
            },
            available_balance,
            ledger_balance,
            currency: of.facts.currency,
            connected: of.connected,
            created_at: Instant(times.created_at),
            last_updated: Instant(times.last_updated),
            lacking: of.lacks.balance,
        }
    }
}
