//! Which records and accounts a read is about.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use okra_core::model::ids::{BankId, CustomerId, RecordId};
use okra_store::{Account, RecordHead};
use serde_json::{Map, Value};

use crate::{
    call::ApiRequest,
    envelope::ApiError,
    input::{BANK, CUSTOMER},
};

/// Customers whose accounts a read over a whole app looks at, at most. An app with more asks customer by
/// customer.
const MAX_CUSTOMERS_READ: usize = 1000;

/// Records that a read over a whole app looks at, at most: of each its head alone.
const MAX_RECORDS_READ: usize = 10_000;

/// Links read at once.
const PAGE_LENGTH: usize = 100;

/// Customers read at the same time.
const CONCURRENCY: usize = 16;

/// The account asked for.
pub(crate) async fn load_account(request: &ApiRequest) -> Result<Vec<Account>, ApiError> {
    Ok(vec![request.load_requested_account().await?])
}

/// The accounts of the record asked for.
pub(crate) async fn load_record_accounts(request: &ApiRequest) -> Result<Vec<Account>, ApiError> {
    let head = request.load_requested_record().await?;
    load_accounts_of_records(request, &[head]).await
}

/// The accounts of the customer asked for.
pub(crate) async fn load_customer_accounts(request: &ApiRequest) -> Result<Vec<Account>, ApiError> {
    let customer = request.input.require_id(CUSTOMER)?;
    request.load_customer_accounts(customer).await
}

/// The app's accounts at the bank asked for.
pub(crate) async fn load_bank_accounts(request: &ApiRequest) -> Result<Vec<Account>, ApiError> {
    let bank: BankId = request.input.require_id(BANK)?;
    let mut accounts = load_app_accounts(request).await?;
    accounts.retain(|account| account.bank == bank);
    Ok(accounts)
}

/// The app's accounts whose records were linked with the options asked for, maybe among others.
pub(crate) async fn load_accounts_by_options(
    request: &ApiRequest,
) -> Result<Vec<Account>, ApiError> {
    load_accounts_of_records(request, &load_records_by_options(request).await?).await
}

/// All of the app's accounts; the customer's where one is given.
pub(crate) async fn load_app_accounts(request: &ApiRequest) -> Result<Vec<Account>, ApiError> {
    load_app_accounts_until(request, |_| false).await
}

/// The app's accounts, customer by customer, until they are enough.
pub(crate) async fn load_app_accounts_until(
    request: &ApiRequest,
    is_enough: impl Fn(&[Account]) -> bool,
) -> Result<Vec<Account>, ApiError> {
    if request.input.is_given(CUSTOMER) {
        return load_customer_accounts(request).await;
    }
    let app = request.require_app()?.id;
    let (mut accounts, mut after) = (Vec::new(), None);
    for _ in 0..MAX_CUSTOMERS_READ / PAGE_LENGTH {
        let ids = request
            .state
            .store
            .list_customer_ids(app, after, PAGE_LENGTH)
            .await?;
        for some in ids.chunks(CONCURRENCY) {
            accounts.extend(load_accounts_of_customers(request, some).await?);
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

fn scope_too_large_error(limit: usize, item_name: &str) -> ApiError {
    let problem = format!("is required: {limit} {item_name} or more would be looked at");
    ApiError::invalid_field("customer", problem)
}

/// The accounts of these customers, in their order. One that is removed meanwhile has none.
async fn load_accounts_of_customers(
    request: &ApiRequest,
    customers: &[CustomerId],
) -> Result<Vec<Account>, ApiError> {
    let of_one = async |id: CustomerId| match request.load_customer_accounts(id).await {
        Err(refusal) if refusal.is_not_found() => Ok(Vec::new()),
        accounts => accounts,
    };
    let accounts: Vec<Vec<Account>> = stream::iter(customers.iter().copied().map(of_one))
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(accounts.into_iter().flatten().collect())
}

/// The records of the customer asked for.
pub(crate) async fn load_customer_records(
    request: &ApiRequest,
) -> Result<Vec<RecordHead>, ApiError> {
    let customer = request.input.require_id(CUSTOMER)?;
    request.load_customer_records(customer).await
}

/// The app's records at the bank asked for.
pub(crate) async fn load_bank_records(request: &ApiRequest) -> Result<Vec<RecordHead>, ApiError> {
    let bank: BankId = request.input.require_id(BANK)?;
    let mut heads = load_app_records(request).await?;
    heads.retain(|head| head.bank == bank);
    Ok(heads)
}

/// The app's records that were linked with the options asked for, maybe among others.
pub(crate) async fn load_records_by_options(
    request: &ApiRequest,
) -> Result<Vec<RecordHead>, ApiError> {
    let wanted = request.input.parse_object("options")?;
    let wanted = wanted.ok_or_else(|| ApiError::invalid_field("options", "is required"))?;
    let mut heads = load_app_records(request).await?;
    heads.retain(|head| contains_options(&head.options, &wanted));
    Ok(heads)
}

/// All of the app's records; the customer's where one is given.
pub(crate) async fn load_app_records(request: &ApiRequest) -> Result<Vec<RecordHead>, ApiError> {
    load_app_records_until(request, |_| false).await
}

/// The app's records until they are enough.
pub(crate) async fn load_app_records_until(
    request: &ApiRequest,
    is_enough: impl Fn(&[RecordHead]) -> bool,
) -> Result<Vec<RecordHead>, ApiError> {
    if request.input.is_given(CUSTOMER) {
        return load_customer_records(request).await;
    }
    let app = request.require_app()?.id;
    let (mut heads, mut after) = (Vec::new(), None);
    for _ in 0..MAX_RECORDS_READ / PAGE_LENGTH {
        let page = request
            .state
            .store
            .list_records_of_app(app, after, PAGE_LENGTH)
            .await?;
        heads.extend(page.items);
        if page.next_cursor.is_none() || is_enough(&heads) {
            return Ok(heads);
        }
        after = page.next_cursor;
    }
    Err(scope_too_large_error(MAX_RECORDS_READ, "records"))
}

/// The accounts of these records, in their order: a query for each customer.
pub(crate) async fn load_accounts_of_records(
    request: &ApiRequest,
    heads: &[RecordHead],
) -> Result<Vec<Account>, ApiError> {
    let records: HashSet<RecordId> = heads.iter().map(|head| head.record).collect();
    let mut customers: Vec<CustomerId> = heads.iter().map(|head| head.customer).collect();
    let mut seen = HashSet::new();
    customers.retain(|customer| seen.insert(*customer));
    if customers.len() > MAX_CUSTOMERS_READ {
        return Err(scope_too_large_error(MAX_CUSTOMERS_READ, "customers"));
    }
    let mut accounts = load_accounts_of_customers(request, &customers).await?;
    accounts.retain(|account| records.contains(&account.record));
    Ok(accounts)
}

fn contains_options(options: &Value, wanted: &Map<String, Value>) -> bool {
    wanted.iter().all(|(name, value)| {
        options
            .get(name)
            .is_some_and(|known| known == value || is_same_text(known, value))
    })
}

/// True for numbers and booleans that read as the other, which a form has as a text.
fn is_same_text(a: &Value, b: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    text(a).is_some_and(|a| text(b) == Some(a))
}
