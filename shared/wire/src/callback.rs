//! Callback data: the pull half of refreshes and webhooks.

use okra_core::ids::RecordId;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    account::Account,
    balance::CallbackBalance,
    envelope::Pagination,
    record::{Auth, Status},
    scalar::Instant,
    transaction::Transaction,
};

/// The families that callback data is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Who linked what.
    Auth,
    /// The accounts.
    Accounts,
    /// The balances.
    Balance,
    /// The transactions.
    Transactions,
}

impl Family {
    /// Okra's methods and the family each belongs to.
    pub const METHODS: [(&'static str, Self); 8] = [
        ("AUTH", Self::Auth),
        ("ACCOUNTS", Self::Accounts),
        ("BALANCE", Self::Balance),
        ("CHECK_BALANCE", Self::Balance),
        ("PERIODIC_BALANCE", Self::Balance),
        ("TRANSACTIONS", Self::Transactions),
        ("REFRESH_TRANSACTIONS", Self::Transactions),
        ("PERIODIC_TRANSACTIONS", Self::Transactions),
    ];

    /// The method of this name, as Okra spells it, and its family. Case does not matter.
    pub fn of_method(method: &str) -> Option<(&'static str, Self)> {
        Self::METHODS
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(method))
    }
}

/// What is asked for, as far as it is known. Nothing is null: clients read into it without looking.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub enum Resource {
    /// [`Family::Auth`].
    Auth {
        /// The record's authorisation.
        auth: Auth,
    },
    /// [`Family::Accounts`].
    Accounts {
        /// The first account.
        #[cfg_attr(feature = "schema", schema(schema_with = or_empty::<Account>))]
        account: OrEmpty<Account>,
        /// All of this page.
        accounts: Vec<Account>,
        /// The page.
        pagination: Pagination,
    },
    /// [`Family::Balance`].
    Balance {
        /// The first account's balance.
        #[cfg_attr(feature = "schema", schema(schema_with = or_empty::<CallbackBalance>))]
        balance: OrEmpty<CallbackBalance>,
        /// All of this page.
        balances: Vec<CallbackBalance>,
        /// The page.
        pagination: Pagination,
    },
    /// [`Family::Transactions`].
    Transactions {
        /// Those of this page, newest first.
        transactions: Vec<Transaction>,
        /// The page.
        pagination: Pagination,
    },
}

impl Resource {
    /// A page of accounts.
    pub fn accounts(accounts: Vec<Account>, pagination: Pagination) -> Self {
        Self::Accounts {
            account: OrEmpty(accounts.first().cloned()),
            accounts,
            pagination,
        }
    }

    /// A page of balances.
    pub fn balances(balances: Vec<CallbackBalance>, pagination: Pagination) -> Self {
        Self::Balance {
            balance: OrEmpty(balances.first().cloned()),
            balances,
            pagination,
        }
    }
}

/// A resource, or `{}` where there is none yet.
#[derive(Clone, Debug)]
pub struct OrEmpty<T>(pub Option<T>);

impl<T: Serialize> Serialize for OrEmpty<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(resource) => resource.serialize(serializer),
            None => serializer.serialize_map(Some(0))?.end(),
        }
    }
}

/// The resource, or an object without fields.
#[cfg(feature = "schema")]
fn or_empty<T: utoipa::ToSchema>() -> utoipa::openapi::schema::Schema {
    use utoipa::openapi::{Ref, schema};
    let any = schema::AnyOfBuilder::new()
        .item(Ref::from_schema_name(T::name()))
        .item(schema::ObjectBuilder::new().max_properties(Some(0)));
    schema::Schema::AnyOf(any.build())
}

/// What `callback` answers.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct Callback {
    product: &'static str,
    record: RecordId,
    last_transaction_date: Option<Instant>,
    msg: (),
    #[serde(flatten)]
    resource: Resource,
    products: Products,
    status: Status,
}

impl Callback {
    /// Callback data of a method. `latest` is the date of the newest transaction, where transactions
    /// are asked for.
    pub fn new(
        method: &'static str,
        record: RecordId,
        status: Status,
        latest: Option<Instant>,
        resource: Resource,
    ) -> Self {
        Self {
            product: method,
            record,
            last_transaction_date: latest,
            msg: (),
            resource,
            products: Products::default(),
            status,
        }
    }
}

/// What Okra could do for a record, and what of it is done here.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Products {
    periodic_transactions: Counted,
    guarantors: Counted,
    directors: Counted,
    auth: bool,
    balance: bool,
    accounts: bool,
    transactions: bool,
    income: bool,
    identity: bool,
    complete_view: bool,
    insurance_claims: bool,
    abuse_recognition: bool,
    liabilities: bool,
    spending_pattern: bool,
    investments: bool,
    revenue: bool,
    payment: bool,
    refund: bool,
    direct_debit: bool,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Counted {
    status: bool,
    number: u8,
}

impl Default for Products {
    fn default() -> Self {
        Self {
            periodic_transactions: Counted::default(),
            guarantors: Counted::default(),
            directors: Counted::default(),
            auth: true,
            balance: true,
            accounts: true,
            transactions: true,
            income: false,
            identity: false,
            complete_view: false,
            insurance_claims: false,
            abuse_recognition: false,
            liabilities: false,
            spending_pattern: false,
            investments: false,
            revenue: false,
            payment: false,
            refund: false,
            direct_debit: false,
        }
    }
}
