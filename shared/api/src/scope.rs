//! Which records and accounts a read is about.

use okra_core::ids::{AccountId, BankId, RecordId};
use okra_store::{Account, Consistency, Head};
use serde_json::{Map, Value};

use crate::{call::Call, envelope::Refusal, input::BANK};

/// Records that a read over a whole app looks at, at most. An app with more asks customer by customer.
const MAX_RECORDS: usize = 1000;

/// Records read at once.
const PAGE: usize = 100;

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
    accounts_of(call, &records_of_customer(call).await?).await
}

/// The app's accounts at the bank asked for.
pub(crate) async fn bank(call: &Call) -> Result<Vec<Account>, Refusal> {
    accounts_of(call, &records_of_bank(call).await?).await
}

/// The app's accounts whose records were linked with the options asked for, maybe among others.
pub(crate) async fn options(call: &Call) -> Result<Vec<Account>, Refusal> {
    accounts_of(call, &records_of_options(call).await?).await
}

/// All of the app's accounts.
pub(crate) async fn app(call: &Call) -> Result<Vec<Account>, Refusal> {
    accounts_of(call, &records(call).await?).await
}

/// The records of the customer asked for.
pub(crate) async fn records_of_customer(call: &Call) -> Result<Vec<Head>, Refusal> {
    let customer = call.customer().await?;
    Ok(call.state.store.records_of_customer(customer.id).await?)
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
    let wanted = call.input.object("options");
    let wanted = wanted.ok_or_else(|| Refusal::field("options", "is required"))?;
    let mut heads = records(call).await?;
    heads.retain(|head| has(&head.options, wanted));
    Ok(heads)
}

/// All of the app's records.
pub(crate) async fn records(call: &Call) -> Result<Vec<Head>, Refusal> {
    let app = call.app()?.id;
    let (mut heads, mut after) = (Vec::new(), None);
    for _ in 0..MAX_RECORDS / PAGE {
        let page = call.state.store.records_of_app(app, after, PAGE).await?;
        heads.extend(page.items);
        if page.next.is_none() {
            return Ok(heads);
        }
        after = page.next;
    }
    let problem = format!("is required: the app has {MAX_RECORDS} records or more");
    Err(Refusal::field("customer", problem))
}

/// The accounts of these records, in their order.
pub(crate) async fn accounts_of(call: &Call, heads: &[Head]) -> Result<Vec<Account>, Refusal> {
    let store = &call.state.store;
    let records: Vec<RecordId> = heads.iter().map(|head| head.record).collect();
    let mut ids: Vec<AccountId> = Vec::new();
    for records in records.chunks(PAGE) {
        let mut consents = store.consents(records).await?;
        consents.sort_by_key(|it| records.iter().position(|record| *record == it.record));
        ids.extend(consents.iter().flat_map(|it| &it.accounts).map(|it| it.id));
    }
    Ok(store.accounts(&ids, Consistency::Eventual).await?)
}

fn has(options: &Value, wanted: &Map<String, Value>) -> bool {
    wanted
        .iter()
        .all(|(name, value)| options.get(name) == Some(value))
}
