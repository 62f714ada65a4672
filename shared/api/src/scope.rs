//! Which records and accounts a read is about.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use okra_core::ids::{BankId, CustomerId, RecordId};
use okra_store::{Account, Head};
use serde_json::{Map, Value};

use crate::{
    call::Call,
    envelope::Refusal,
    input::{BANK, CUSTOMER},
};

/// Customers whose accounts a read over a whole app looks at, at most. An app with more asks customer by
/// customer.
const MAX_LOOKED_AT: usize = 1000;

/// Records that a read over a whole app looks at, at most: of each its head alone.
const MAX_RECORDS_LOOKED_AT: usize = 10_000;

/// Links read at once.
const PAGE: usize = 100;

/// Customers read at the same time.
const CONCURRENCY: usize = 16;

/// The account asked for.
pub(crate) async fn account(call: &Call) -> Result<Vec<Account>, Refusal> {
    Ok(vec![call.account().await?])
}

/// The accounts of the record asked for.
pub(crate) async fn record(call: &Call) -> Result<Vec<Account>, Refusal> {
    let head = call.record().await?;
    accounts_of(call, &[head]).await
}

/// The accounts of the customer asked for.
pub(crate) async fn customer(call: &Call) -> Result<Vec<Account>, Refusal> {
    let customer = call.input.needed_id(CUSTOMER)?;
    call.accounts_of_customer(customer).await
}

/// The app's accounts at the bank asked for.
pub(crate) async fn bank(call: &Call) -> Result<Vec<Account>, Refusal> {
    let bank: BankId = call.input.needed_id(BANK)?;
    let mut accounts = app(call).await?;
    accounts.retain(|account| account.bank == bank);
    Ok(accounts)
}

/// The app's accounts whose records were linked with the options asked for, maybe among others.
pub(crate) async fn options(call: &Call) -> Result<Vec<Account>, Refusal> {
    accounts_of(call, &records_of_options(call).await?).await
}

/// All of the app's accounts; the customer's where one is given.
pub(crate) async fn app(call: &Call) -> Result<Vec<Account>, Refusal> {
    app_until(call, |_| false).await
}

/// The app's accounts, customer by customer, until they are enough.
pub(crate) async fn app_until(
    call: &Call,
    enough: impl Fn(&[Account]) -> bool,
) -> Result<Vec<Account>, Refusal> {
    if call.input.is_given(CUSTOMER) {
        return customer(call).await;
    }
    let app = call.app()?.id;
    let (mut accounts, mut after) = (Vec::new(), None);
    for _ in 0..MAX_LOOKED_AT / PAGE {
        let ids = call.state.store.customer_ids(app, after, PAGE).await?;
        for some in ids.chunks(CONCURRENCY) {
            accounts.extend(of_customers(call, some).await?);
            if enough(&accounts) {
                return Ok(accounts);
            }
        }
        after = ids.last().copied();
        if ids.len() < PAGE {
            return Ok(accounts);
        }
    }
    Err(too_large(MAX_LOOKED_AT, "customers"))
}

fn too_large(most: usize, what: &str) -> Refusal {
    let problem = format!("is required: {most} {what} or more would be looked at");
    Refusal::field("customer", problem)
}

/// The accounts of these customers, in their order. One that is removed meanwhile has none.
async fn of_customers(call: &Call, customers: &[CustomerId]) -> Result<Vec<Account>, Refusal> {
    let of_one = async |id: CustomerId| match call.accounts_of_customer(id).await {
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
pub(crate) async fn records_of_customer(call: &Call) -> Result<Vec<Head>, Refusal> {
    let customer = call.input.needed_id(CUSTOMER)?;
    call.records_of_customer(customer).await
}

/// The app's records at the bank asked for.
pub(crate) async fn records_of_bank(call: &Call) -> Result<Vec<Head>, Refusal> {
    let bank: BankId = call.input.needed_id(BANK)?;
    let mut heads = records(call).await?;
    heads.retain(|head| head.bank == bank);
    Ok(heads)
}

/// The app's records that were linked with the options asked for, maybe among others.
pub(crate) async fn records_of_options(call: &Call) -> Result<Vec<Head>, Refusal> {
    let wanted = call.input.object("options")?;
    let wanted = wanted.ok_or_else(|| Refusal::field("options", "is required"))?;
    let mut heads = records(call).await?;
    heads.retain(|head| has(&head.options, &wanted));
    Ok(heads)
}

/// All of the app's records; the customer's where one is given.
pub(crate) async fn records(call: &Call) -> Result<Vec<Head>, Refusal> {
    records_until(call, |_| false).await
}

/// The app's records until they are enough.
pub(crate) async fn records_until(
    call: &Call,
    enough: impl Fn(&[Head]) -> bool,
) -> Result<Vec<Head>, Refusal> {
    if call.input.is_given(CUSTOMER) {
        return records_of_customer(call).await;
    }
    let app = call.app()?.id;
    let (mut heads, mut after) = (Vec::new(), None);
    for _ in 0..MAX_RECORDS_LOOKED_AT / PAGE {
        let page = call.state.store.records_of_app(app, after, PAGE).await?;
        heads.extend(page.items);
        if page.next.is_none() || enough(&heads) {
            return Ok(heads);
        }
        after = page.next;
    }
    Err(too_large(MAX_RECORDS_LOOKED_AT, "records"))
}

/// The accounts of these records, in their order: a query for each customer.
pub(crate) async fn accounts_of(call: &Call, heads: &[Head]) -> Result<Vec<Account>, Refusal> {
    let records: HashSet<RecordId> = heads.iter().map(|head| head.record).collect();
    let mut customers: Vec<CustomerId> = heads.iter().map(|head| head.customer).collect();
    let mut seen = HashSet::new();
    customers.retain(|customer| seen.insert(*customer));
    if customers.len() > MAX_LOOKED_AT {
        return Err(too_large(MAX_LOOKED_AT, "customers"));
    }
    let mut accounts = of_customers(call, &customers).await?;
    accounts.retain(|account| records.contains(&account.record));
    Ok(accounts)
}

fn has(options: &Value, wanted: &Map<String, Value>) -> bool {
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
