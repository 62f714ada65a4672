//! Balances, in the forms that Okra's families of endpoints have.

use okra_core::model::{
    ids::{AccountId, AppId, BalanceId, CustomerId, RecordId},
    money::{Currency, Money},
    snapshot::{BalanceFacts, Environment},
};
use serde::Serialize;

use crate::{
    account::AccountReference,
    account_context::{AccountContext, NamedReference, ResourceTimes},
    availability::AvailabilityResource,
    drift::DriftResource,
    scalar::{EmptyList, IsoInstant, MajorUnits},
};

/// Available and ledger balance; where a bank states one of them, it stands for the other too.
pub fn balance_amounts(facts: &BalanceFacts, currency: Currency) -> (MajorUnits, MajorUnits) {
    let zero = Money::new(0, currency);
    let available = facts.available.or(facts.ledger).unwrap_or(zero);
    let ledger = facts.ledger.or(facts.available).unwrap_or(zero);
    (MajorUnits(available), MajorUnits(ledger))
}

/// Earlier values, which are in the feed instead.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct PeriodicBalance {
    available_balance: EmptyList,
    ledger_balance: EmptyList,
}

/// A balance of `balance/getBy*` ("form B"): `connected` is an array.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct BalanceResource {
    _id: BalanceId,
    __v: u8,
    account: AccountReference,
    customer: NamedReference<CustomerId>,
    available_balance: MajorUnits,
    ledger_balance: MajorUnits,
    currency: Currency,
    #[serde(skip_serializing_if = "Option::is_none")]
    periodic: Option<PeriodicBalance>,
    connected: EmptyList,
    owner: [AppId; 1],
    record: [RecordId; 1],
    env: Environment,
    created_at: IsoInstant,
    last_updated: IsoInstant,
    /// Where balance and transactions disagree; absent where they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<DriftResource>,
    /// Why the balance cannot be had at the moment; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "lacking")]
    availability: Option<AvailabilityResource>,
}

impl BalanceResource {
    /// A balance in form B.
    pub fn new(context: &AccountContext<'_>, facts: &BalanceFacts, times: ResourceTimes) -> Self {
        let (available_balance, ledger_balance) = balance_amounts(facts, context.facts.currency);
        Self {
            _id: BalanceId::for_account(context.ids.account),
            __v: 0,
            account: AccountReference::new(context),
            customer: context.customer_reference(),
            available_balance,
            ledger_balance,
            currency: context.facts.currency,
            periodic: Some(PeriodicBalance::default()),
            connected: EmptyList,
            owner: [context.ids.app],
            record: [context.ids.record],
            env: context.ids.env,
            created_at: IsoInstant(times.created_at),
            last_updated: IsoInstant(times.last_updated),
            drift: context.drift.map(DriftResource::from),
            availability: context.availability.balance,
        }
    }
}

impl BalanceResource {
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
pub struct BalanceByTypeResource {
    id: BalanceId,
    account: AccountReference,
    customer: CustomerId,
    available_balance: MajorUnits,
    ledger_balance: MajorUnits,
    currency: Currency,
    periodic: PeriodicBalance,
    connected: EmptyList,
    owner: [AppId; 1],
    record: [RecordId; 1],
    env: Environment,
    created_at: IsoInstant,
    last_updated: IsoInstant,
    /// Why the balance cannot be had at the moment; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "lacking")]
    availability: Option<AvailabilityResource>,
}

impl BalanceByTypeResource {
    /// A balance in form C.
    pub fn new(context: &AccountContext<'_>, facts: &BalanceFacts, times: ResourceTimes) -> Self {
        let (available_balance, ledger_balance) = balance_amounts(facts, context.facts.currency);
        Self {
            id: BalanceId::for_account(context.ids.account),
            account: AccountReference::new(context),
            customer: context.ids.customer,
            available_balance,
            ledger_balance,
            currency: context.facts.currency,
            periodic: PeriodicBalance::default(),
            connected: EmptyList,
            owner: [context.ids.app],
            record: [context.ids.record],
            env: context.ids.env,
            created_at: IsoInstant(times.created_at),
            last_updated: IsoInstant(times.last_updated),
            availability: context.availability.balance,
        }
    }
}

/// A balance of `products/balances` ("form A"): `connected` is a boolean.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct ListedBalanceResource {
    id: BalanceId,
    account: AccountReference,
    ledger_balance: MajorUnits,
    available_balance: MajorUnits,
    currency: Currency,
    connected: bool,
    env: Environment,
    created_at: IsoInstant,
    last_updated: IsoInstant,
    /// Where balance and transactions disagree; absent where they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<DriftResource>,
    /// Why the balance cannot be had at the moment; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "lacking")]
    availability: Option<AvailabilityResource>,
}

impl ListedBalanceResource {
    /// A balance in form A.
    pub fn new(context: &AccountContext<'_>, facts: &BalanceFacts, times: ResourceTimes) -> Self {
        let (available_balance, ledger_balance) = balance_amounts(facts, context.facts.currency);
        Self {
            id: BalanceId::for_account(context.ids.account),
            account: AccountReference::new(context),
            ledger_balance,
            available_balance,
            currency: context.facts.currency,
            connected: context.is_connected,
            env: context.ids.env,
            created_at: IsoInstant(times.created_at),
            last_updated: IsoInstant(times.last_updated),
            drift: context.drift.map(DriftResource::from),
            availability: context.availability.balance,
        }
    }
}

/// A balance in callback data: ids are `id`, `connected` is a boolean.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct CallbackBalanceResource {
    id: BalanceId,
    _id: BalanceId,
    account: CallbackAccountResource,
    customer: CallbackCustomerResource,
    available_balance: MajorUnits,
    ledger_balance: MajorUnits,
    currency: Currency,
    connected: bool,
    created_at: IsoInstant,
    last_updated: IsoInstant,
    /// Why the balance cannot be had at the moment; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "lacking")]
    availability: Option<AvailabilityResource>,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
struct CallbackAccountResource {
    id: AccountId,
    _id: AccountId,
    nuban: String,
    name: String,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
struct CallbackCustomerResource {
    id: CustomerId,
    _id: CustomerId,
    name: String,
    email: Vec<String>,
    phone: EmptyList,
}

impl CallbackBalanceResource {
    /// A balance as callback data has it.
    pub fn new(context: &AccountContext<'_>, facts: &BalanceFacts, times: ResourceTimes) -> Self {
        let (available_balance, ledger_balance) = balance_amounts(facts, context.facts.currency);
        let (account, customer) = (context.ids.account, context.ids.customer);
        Self {
            id: BalanceId::for_account(account),
            _id: BalanceId::for_account(account),
            account: CallbackAccountResource {
                id: account,
                _id: account,
                nuban: context.facts.number.clone(),
                name: context.facts.name.clone(),
            },
            customer: CallbackCustomerResource {
                id: customer,
                _id: customer,
                name: context.customer_name.to_owned(),
                email: context
                    .customer_email
                    .map(str::to_owned)
                    .into_iter()
                    .collect(),
                phone: EmptyList,
            },
            available_balance,
            ledger_balance,
            currency: context.facts.currency,
            connected: context.is_connected,
            created_at: IsoInstant(times.created_at),
            last_updated: IsoInstant(times.last_updated),
            availability: context.availability.balance,
        }
    }
}
