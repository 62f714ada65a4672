//! Which records and accounts a read is about: those of one customer, of a list of records, or of a whole app.
//!
//! The rule: a read over a whole app has a bound ([`MAX_CUSTOMERS_READ`], [`MAX_RECORDS_READ`]); beyond it the caller
//! must name a customer.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use okra_core::model::ids::{CustomerId, RecordId};
use okra_store::{Account, RecordHead};
use serde_json::{Map, Value};

use crate::{app_scope::AppScope, error::AppError};

/// Most customers whose accounts a read over a whole app looks at.
const MAX_CUSTOMERS_READ: usize = 1000;

/// Most records that a read over a whole app looks at; of each only its head.
const MAX_RECORDS_READ: usize = 10_000;

/// Items of one read of the store.
const PAGE_LENGTH: usize = 100;

/// Customers read at the same time.
const CONCURRENCY: usize = 16;

impl AppScope {
    /// The app's accounts, or those of one customer; of a whole app customer by customer, until they are enough.
    ///
    /// # Errors
    ///
    /// [`AppError::Invalid`] where more than 1,000 customers would be read.
    pub async fn load_accounts_until(
        &self,
        customer: Option<CustomerId>,
        is_enough: impl Fn(&[Account]) -> bool,
    ) -> Result<Vec<Account>, AppError> {
        if let Some(customer) = customer {
            return self.load_customer_accounts(customer).await;
        }
        let (mut accounts, mut after) = (Vec::new(), None);
        for _ in 0..MAX_CUSTOMERS_READ / PAGE_LENGTH {
            let ids = self
                .store()
                .list_customer_ids(self.app().id, after, PAGE_LENGTH)
                .await?;
            for some in ids.chunks(CONCURRENCY) {
                accounts.extend(self.load_accounts_of_customers(some).await?);
                if is_enough(&accounts) {
                    return Ok(accounts);
                }
            }
            after = ids.last().copied();
            if ids.len() < PAGE_LENGTH {
                return Ok(accounts);
            }
        }
        Err(scope_too_large_error(MAX_CUSTOMERS_READ, "customers"))
    }

    /// The app's records, or those of one customer; of a whole app until they are enough.
    ///
    /// # Errors
    ///
    /// [`AppError::Invalid`] where more than 10,000 records would be read.
    pub async fn load_records_until(
        &self,
        customer: Option<CustomerId>,
        is_enough: impl Fn(&[RecordHead]) -> bool,
    ) -> Result<Vec<RecordHead>, AppError> {
        if let Some(customer) = customer {
            return self.load_customer_records(customer).await;
        }
        let (mut heads, mut after) = (Vec::new(), None);
        for _ in 0..MAX_RECORDS_READ / PAGE_LENGTH {
            let page = self
                .store()
                .list_records_of_app(self.app().id, after, PAGE_LENGTH)
                .await?;
            heads.extend(page.items);
            if page.next_cursor.is_none() || is_enough(&heads) {
                return Ok(heads);
            }
            after = page.next_cursor;
        }
        Err(scope_too_large_error(MAX_RECORDS_READ, "records"))
    }

    /// The accounts of these records, in their order: one query for each customer.
    ///
    /// # Errors
    ///
    /// [`AppError::Invalid`] where the records are of more than 1,000 customers.
    pub async fn load_accounts_of_records(
        &self,
        heads: &[RecordHead],
    ) -> Result<Vec<Account>, AppError> {
        let records: HashSet<RecordId> = heads.iter().map(|head| head.record).collect();
        let mut customers: Vec<CustomerId> = heads.iter().map(|head| head.customer).collect();
        let mut seen = HashSet::new();
        customers.retain(|customer| seen.insert(*customer));
        if customers.len() > MAX_CUSTOMERS_READ {
            return Err(scope_too_large_error(MAX_CUSTOMERS_READ, "customers"));
        }
        let mut accounts = self.load_accounts_of_customers(&customers).await?;
        accounts.retain(|account| records.contains(&account.record));
        Ok(accounts)
    }

    /// The accounts of these customers, in their order. One that is removed meanwhile has none.
    async fn load_accounts_of_customers(
        &self,
        customers: &[CustomerId],
    ) -> Result<Vec<Account>, AppError> {
        let of_one = async |id: CustomerId| match self.load_customer_accounts(id).await {
            Err(AppError::NotFound { .. }) => Ok(Vec::new()),
            accounts => accounts,
        };
        let accounts: Vec<Vec<Account>> = stream::iter(customers.iter().copied().map(of_one))
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        Ok(accounts.into_iter().flatten().collect())
    }
}

fn scope_too_large_error(limit: usize, item_name: &str) -> AppError {
    let problem = format!("is required: the app has {limit} {item_name} or more");
    AppError::invalid_field("customer", problem)
}

/// True where the options that a record was linked with contain these, maybe among others.
pub fn contains_options(options: &Value, wanted: &Map<String, Value>) -> bool {
    wanted.iter().all(|(name, value)| {
        options
            .get(name)
            .is_some_and(|known| known == value || is_same_text(known, value))
    })
}

/// True for a number or boolean and a text that spells it: a form has texts alone.
fn is_same_text(a: &Value, b: &Value) -> bool {
    let text = scalar_text(a);
    text.is_some() && text == scalar_text(b)
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
