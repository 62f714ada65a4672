//! Refreshes on demand.

use std::{net::IpAddr, time::Duration};

use axum::http::StatusCode;
use jiff::SignedDuration;
use okra_core::{
    breaker::{Gate, down},
    ids::{AccountId, RecordId},
    model::{ByProduct, Product},
    plan::{Chunk, DueEntry, Requested},
};
use okra_queue::Lane;
use okra_store::{Consistency, Head, MINUTE_S, RecordStatus};
use okra_wire::record::Acknowledged;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::{ACCOUNT, CUSTOMER_IP, RECORD},
};

/// How long somebody is taken to wait for a refresh; after that it is dropped.
const WORTH_WAITING: SignedDuration = SignedDuration::from_mins(15);

/// How long a refresh is waited for: the gateway gives up after 30 seconds.
const MAX_WAIT: Duration = Duration::from_secs(25);

/// Between two looks at a job.
const POLL: Duration = Duration::from_millis(500);

/// The field that asks to wait.
const WAIT: &str = "wait";

/// Times a record's due entries are looked for while it is being rescheduled.
const MAX_LOOKS: u32 = 3;

/// Enqueues a refresh of a record on the priority queue, of one product or of all.
pub(crate) async fn enqueue(
    call: &Call,
    record: RecordId,
    product: Option<Product>,
    user: Option<IpAddr>,
) -> Result<(), Refusal> {
    for _ in 0..MAX_LOOKS {
        let head = call.own_record(record, Consistency::Strong).await?;
        let chunks = chunks(call, &head, product, user).await?;
        if !chunks.is_empty() {
            return Ok(call
                .state
                .queues
                .send_chunks(Lane::Priority, &chunks)
                .await?);
        }
        // Its due entries moved between the two reads: both are looked at again.
    }
    Err(Refusal::busy())
}

/// One chunk for each due entry that holds what is asked for.
async fn chunks(
    call: &Call,
    head: &Head,
    product: Option<Product>,
    user: Option<IpAddr>,
) -> Result<Vec<Chunk>, Refusal> {
    let now = call.now();
    let mut chunks = Vec::new();
    for key in head.due_keys() {
        let entry = call.state.store.due_entry(key, Consistency::Strong).await?;
        let Some(DueEntry {
            key,
            mut marks,
            state,
            trouble,
        }) = entry
        else {
            continue;
        };
        if let Some(product) = product {
            let only = marks.get(product).copied();
            marks = ByProduct::default();
            *marks.slot(product) = only;
        }
        if marks.is_empty() {
            continue;
        }
        chunks.push(Chunk {
            id: format!(
                "on-demand-{}-{}-{}-{}",
                head.record,
                product.map_or("all", Product::as_str),
                key.interval,
                now.as_millisecond()
            ),
            bank: head.bank,
            requested: Requested::OnDemand { product, user },
            not_after: now.saturating_add(WORTH_WAITING).unwrap_or(now),
            delay_s: 0,
            records: vec![DueEntry {
                key,
                marks,
                state,
                trouble,
            }],
        });
    }
    Ok(chunks)
}

/// The record asked for, by itself or by one of its accounts.
async fn asked(call: &Call) -> Result<RecordId, Refusal> {
    let record: Option<RecordId> = call.input.id(RECORD)?;
    let Some(account) = call.input.id::<AccountId>(ACCOUNT)? else {
        return match record {
            Some(record) => Ok(record),
            None => call.input.needed_id(ACCOUNT),
        };
    };
    let account = call.own_account(account).await?;
    match record {
        Some(record) if record != account.record => {
            Err(Refusal::field("account_id", "is no account of that record"))
        }
        _ => Ok(account.record),
    }
}

/// Begins a refresh of one product, or joins the one that runs; its id.
async fn begin_or_join(
    call: &Call,
    record: RecordId,
    product: Product,
    user: Option<IpAddr>,
) -> Result<String, Refusal> {
    let (store, now) = (&call.state.store, call.now());
    for _ in 0..MAX_LOOKS {
        let head = call.own_record(record, Consistency::Strong).await?;
        let chunks = chunks(call, &head, Some(product), user).await?;
        // A product is on one due entry, so there is one chunk.
        let Some(chunk) = chunks.first() else {
            continue;
        };
        if store.begin_job(record, product, &chunk.id, now).await? {
            call.state
                .queues
                .send_chunks(Lane::Priority, &chunks)
                .await?;
            return Ok(chunk.id.clone());
        }
        if let Some(job) = store.job(record, product).await? {
            return Ok(job.id);
        }
    }
    Err(Refusal::busy())
}

/// What came of a job, where it is done before the wait is over.
async fn outcome_of(
    call: &Call,
    record: RecordId,
    product: Product,
    job: &str,
) -> Result<Option<String>, Refusal> {
    for _ in 0..MAX_WAIT.as_millis() / POLL.as_millis() {
        match call.state.store.job(record, product).await? {
            Some(last) if last.id == job && last.outcome.is_none() => {}
            // A later one began, so this one is done.
            Some(last) => return Ok(last.outcome.filter(|_| last.id == job)),
            None => return Ok(None),
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(None)
}

/// The address of the user, where the app says that he is there.
fn user(call: &Call) -> Result<Option<IpAddr>, Refusal> {
    let Some(text) = call.input.text(CUSTOMER_IP) else {
        return Ok(None);
    };
    let address = text.parse();
    address
        .map(Some)
        .map_err(|_| Refusal::field("customer_ip", "is no IP address"))
}

/// Counts a refresh that is asked for; refuses it where the app has asked for too many this minute.
async fn limit(call: &Call, product: Option<Product>) -> Result<(), Refusal> {
    let rate = call.app()?.rate;
    let name = product.map_or("all", Product::as_str);
    let Some(until) = call.over_limit(name, (rate, MINUTE_S)).await? else {
        return Ok(());
    };
    let what = format!("{rate} refreshes of one product in a minute");
    Err(Refusal::too_many(&what).refresh_again(until, call.now()))
}

async fn refresh(
    call: &Call,
    product: Option<Product>,
    method: &'static str,
    message: &str,
) -> Answer {
    let record = asked(call).await?;
    let head = call.own_record(record, Consistency::Eventual).await?;
    limit(call, product).await?;
    if head.status == RecordStatus::Invalid {
        return Err(Refusal::field(
            "record_id",
            "is of a record that was unlinked",
        ));
    }
    let user = user(call)?;
    let bank = call.state.store.bank(head.bank).await?;
    if bank.is_some_and(|bank| bank.limits.user_present_only) && user.is_none() {
        let message = "The bank wants the user there for each refresh: pass customer_ip, the address \
                       that the user calls you from";
        return Err(Refusal::new(StatusCode::CONFLICT, "USER_NEEDED", message));
    }
    let breaker = call
        .state
        .store
        .breaker(head.bank, Consistency::Eventual)
        .await?;
    let now = call.now();
    if let Gate::Hold { until } = breaker.unwrap_or_default().gate(now) {
        return Err(Refusal::from(down(until, now)).refresh_again(until, now));
    }
    let job = match product {
        Some(product) => Some(begin_or_join(call, record, product, user).await?),
        None => {
            enqueue(call, record, None, user).await?;
            None
        }
    };
    let outcome = match (product, &job) {
        (Some(product), Some(job)) if call.input.flag(WAIT) => {
            outcome_of(call, record, product, job).await?
        }
        _ => None,
    };
    let acknowledged = Acknowledged::new(&call.state.public_url, record, method);
    success(message, acknowledged.of_job(job, outcome))
}

async fn of_balance(call: &Call, method: &'static str) -> Answer {
    let product = Some(Product::Balance);
    refresh(call, product, method, "Balance checking...").await
}

async fn of_transactions(call: &Call, method: &'static str) -> Answer {
    let product = Some(Product::Transactions);
    refresh(call, product, method, "Transactions processing...").await
}

pub(crate) async fn balance(call: &Call) -> Answer {
    of_balance(call, "BALANCE").await
}

pub(crate) async fn balance_check(call: &Call) -> Answer {
    of_balance(call, "CHECK_BALANCE").await
}

pub(crate) async fn balance_periodic(call: &Call) -> Answer {
    of_balance(call, "PERIODIC_BALANCE").await
}

pub(crate) async fn transactions(call: &Call) -> Answer {
    of_transactions(call, "REFRESH_TRANSACTIONS").await
}

pub(crate) async fn transactions_periodic(call: &Call) -> Answer {
    of_transactions(call, "PERIODIC_TRANSACTIONS").await
}

/// `customers/retry`: everything of a record.
pub(crate) async fn all(call: &Call) -> Answer {
    refresh(call, None, "AUTH", "Record processing...").await
}

documented! {
    balance(optional(ACCOUNT), optional(RECORD), optional(CUSTOMER_IP), WAIT_FLAG) -> Acknowledged: "Refreshes the balances of an account's record.";
    balance_check(optional(ACCOUNT), optional(RECORD), optional(CUSTOMER_IP), WAIT_FLAG) -> Acknowledged: "Refreshes the balances of an account's record.";
    balance_periodic(optional(ACCOUNT), optional(RECORD), optional(CUSTOMER_IP), WAIT_FLAG) -> Acknowledged: "Refreshes the balances of an account's record.";
    transactions(optional(ACCOUNT), optional(RECORD), optional(CUSTOMER_IP), WAIT_FLAG) -> Acknowledged: "Refreshes the transactions of an account's record.";
    transactions_periodic(optional(ACCOUNT), optional(RECORD), optional(CUSTOMER_IP), WAIT_FLAG) -> Acknowledged: "Refreshes the transactions of an account's record.";
    all(optional(ACCOUNT), optional(RECORD), optional(CUSTOMER_IP), WAIT_FLAG) -> Acknowledged: "Refreshes everything of a record.";
}
