//! Callback data: the pull half of refreshes and webhooks.

use okra_core::model::ids::RecordId;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    account::AccountResource,
    balance::CallbackBalanceResource,
    envelope::Pagination,
    product_flags::ProductFlags,
    record::{AuthResource, RefreshStatusResource},
    scalar::IsoInstant,
    transaction::TransactionResource,
};

/// The families that callback data is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackFamily {
    /// Who linked what.
    Auth,
    /// The accounts.
    Accounts,
    /// The balances.
    Balance,
    /// The transactions.
    Transactions,
}

impl CallbackFamily {
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
    pub fn from_method(method: &str) -> Option<(&'static str, Self)> {
        Self::METHODS
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(method))
    }
}

/// What is asked for, as far as it is known. Nothing is null: clients read into it without looking.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub enum CallbackData {
    /// [`Family::Auth`].
    Auth {
        /// The record's authorisation.
        auth: AuthResource,
    },
    /// [`Family::Accounts`].
    Accounts {
        /// The first account.
        #[cfg_attr(feature = "schema", schema(schema_with = or_empty::<AccountResource>))]
        account: OrEmptyObject<AccountResource>,
        /// All of this page.
        accounts: Vec<AccountResource>,
        /// The page.
        pagination: Pagination,
    },
    /// [`Family::Balance`].
    Balance {
        /// The first account's balance.
        #[cfg_attr(feature = "schema", schema(schema_with = or_empty::<CallbackBalanceResource>))]
        balance: OrEmptyObject<CallbackBalanceResource>,
        /// All of this page.
        balances: Vec<CallbackBalanceResource>,
        /// The page.
        pagination: Pagination,
    },
    /// [`Family::Transactions`].
    Transactions {
        /// Those of this page, newest first.
        transactions: Vec<TransactionResource>,
        /// The page.
        pagination: Pagination,
    },
}

impl CallbackData {
    /// A page of accounts.
    pub fn accounts_page(accounts: Vec<AccountResource>, pagination: Pagination) -> Self {
        Self::Accounts {
            account: OrEmptyObject(accounts.first().cloned()),
            accounts,
            pagination,
        }
    }

    /// A page of balances.
    pub fn balances_page(balances: Vec<CallbackBalanceResource>, pagination: Pagination) -> Self {
        Self::Balance {
            balance: OrEmptyObject(balances.first().cloned()),
            balances,
            pagination,
        }
    }
}

/// A resource, or `{}` where there is none yet.
#[derive(Clone, Debug)]
pub struct OrEmptyObject<T>(pub Option<T>);

impl<T: Serialize> Serialize for OrEmptyObject<T> {
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
pub struct CallbackResource {
    product: &'static str,
    record: RecordId,
    last_transaction_date: Option<IsoInstant>,
    msg: (),
    #[serde(flatten)]
    resource: CallbackData,
    products: ProductFlags,
    status: RefreshStatusResource,
}

impl CallbackResource {
    /// Callback data of a method. `latest` is the date of the newest transaction, where transactions
    /// are asked for.
    pub fn new(
        method: &'static str,
        record: RecordId,
        status: RefreshStatusResource,
        latest_transaction_at: Option<IsoInstant>,
        resource: CallbackData,
    ) -> Self {
        Self {
            product: method,
            record,
            last_transaction_date: latest_transaction_at,
            msg: (),
            resource,
            products: ProductFlags::default(),
            status,
        }
    }
}
