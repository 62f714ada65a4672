//! Refreshes on demand.

use std::{net::IpAddr, time::Duration};

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use okra_core::{
    bank::BankLimits,
    breaker::{Gate, down},
    decide::Mark,
    ids::{AccountId, BankId, RecordId},
    model::{ByProduct, Product},
    plan::{Chunk, DueEntry, JOB_PREFIX, MAX_DELAY_S, Requested},
};
use okra_queue::Lane;
use okra_store::{Consistency, FAILED, Head, Job, MINUTE_S, NewJob, Place, RecordStatus};
use okra_wire::record::Acknowledged;

use crate::{
    balances,
    call::Call,
    envelope::{Answer, Refusal, success},
    input::{ACCOUNT, CUSTOMER_IP, RECORD},
    jobs::{ALL, Summary},
};

/// How long somebody is taken to wait for a refresh; after that it is dropped.
const WORTH_WAITING: SignedDuration = SignedDuration::from_mins(15);

/// How long a refresh is waited for: the gateway gives up after 30 seconds.
const MAX_WAIT: Duration = Duration::from_secs(25);

/// How far ahead a refresh on demand may be put off where its bank is busy; beyond that it is refused.
const AHEAD: SignedDuration = SignedDuration::from_secs(20);

/// How far ahead the first refresh of a record may be put off.
const FIRST_AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// Between two looks at a job.
const POLL: Duration = Duration::from_millis(500);

/// The field that asks to wait.
const WAIT: &str = "wait";

/// Times a record's due entries are looked for while it is being rescheduled.
const MAX_LOOKS: u32 = 3;

/// Enqueues a first refresh of a record on the priority queue, when its bank has room for it.
pub(crate) async fn enqueue(call: &Call, record: RecordId) -> Result<(), Refusal> {
    let (state, now) = (&call.state, call.now());
    let user = user(call)?;
    for _ in 0..MAX_LOOKS {
        let head = call.own_record(record, Consistency::Strong).await?;
        let entries = entries(call, &head, None).await?;
        let mut chunks = Vec::with_capacity(entries.len());
        for entry in entries {
            let place = place(call, head.bank, FIRST_AHEAD).await?;
            // A bank that is busier than that is asked for it all the same: the user is there.
            let (Place::At(at) | Place::Full(at)) = place;
            let id = format!("first-{record}-{}", entry.key.interval);
            chunks.push(chunk(id, &head, None, user, entry, (now, at)));
        }
        if !chunks.is_empty() {
            return Ok(state.queues.send_chunks(Lane::Priority, &chunks).await?);
        }
        // Its due entries moved between the two reads: both are looked at again.
    }
    Err(Refusal::busy())
}

/// The record's due entries, with the marks of the product asked for or of all.
async fn entries(
    call: &Call,
    head: &Head,
    product: Option<Product>,
) -> Result<Vec<DueEntry>, Refusal> {
    let mut entries = Vec::new();
    for key in head.due_keys() {
        let entry = call.state.store.due_entry(key, Consistency::Strong).await?;
        let Some(mut entry) = entry else {
            continue;
        };
        if let Some(product) = product {
            entry.marks = only(entry.marks, product);
        }
        if !entry.marks.is_empty() {
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn only(marks: ByProduct<Mark>, product: Product) -> ByProduct<Mark> {
    let mut only = ByProduct::default();
    *only.slot(product) = marks.get(product).copied();
    only
}

/// A chunk of one record, which is received at `at`.
fn chunk(
    id: String,
    head: &Head,
    product: Option<Product>,
    user: Option<IpAddr>,
    entry: DueEntry,
    (now, at): (Timestamp, Timestamp),
) -> Chunk {
    let wait_s = (at.duration_since(now).as_millis().max(0) + 999) / 1000;
    let delay_s = u16::try_from(wait_s.min(MAX_DELAY_S.into())).unwrap_or(0);
    Chunk {
        id,
        bank: head.bank,
        requested: Requested::OnDemand { product, user },
        not_after: at.saturating_add(WORTH_WAITING).unwrap_or(at),
        delay_s,
        again: 0,
        records: vec![entry],
    }
}

/// Takes a place of what the bank allows beside its ticks.
async fn place(call: &Call, bank: BankId, ahead: SignedDuration) -> Result<Place, Refusal> {
    let store = &call.state.store;
    let config = store.bank(bank).await?;
    let limits = config.map(|it| it.limits).unwrap_or_default();
    let now = call.now();
    Ok(store
        .take_unplanned(bank, limits.records_per_second, now, ahead)
        .await?)
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

/// Refreshes that run for a caller, and when another can be begun.
struct Begun {
    jobs: ByProduct<String>,
    next_at: Timestamp,
}

/// Begins a refresh of a product or of all, and joins those that run.
async fn begin_or_join(
    call: &Call,
    record: RecordId,
    wanted: Option<Product>,
    user: Option<IpAddr>,
    limits: &BankLimits,
) -> Result<Begun, Refusal> {
    for _ in 0..MAX_LOOKS {
        let head = call.own_record(record, Consistency::Strong).await?;
        if let Some(product) = wanted
            && head.status != RecordStatus::Invalid
            && head.schedule.get(product).is_none()
        {
            let problem = crate::sync::without(&head, product);
            return Err(Refusal::field("products", problem));
        }
        let mut begun = Begun {
            jobs: ByProduct::default(),
            next_at: call.now(),
        };
        let mut refused = None;
        for entry in entries(call, &head, wanted).await? {
            let asked = Asked {
                head: &head,
                wanted,
                user,
                limits,
            };
            match asked.of(call, entry, &mut begun).await {
                Ok(()) => {}
                Err(refusal) => refused = Some(refusal),
            }
        }
        match refused {
            // What could be begun is: the other product says so for itself.
            Some(refusal) if begun.jobs.is_empty() => return Err(refusal),
            _ if begun.jobs.is_empty() => {}
            _ => return Ok(begun),
        }
    }
    Err(Refusal::busy())
}

/// What is asked of a record.
#[derive(Clone, Copy)]
struct Asked<'a> {
    head: &'a Head,
    wanted: Option<Product>,
    user: Option<IpAddr>,
    limits: &'a BankLimits,
}

impl Asked<'_> {
    /// Begins what is asked of a due entry, as one chunk.
    async fn of(&self, call: &Call, mut entry: DueEntry, begun: &mut Begun) -> Result<(), Refusal> {
        let (store, now, head) = (&call.state.store, call.now(), self.head);
        let record = head.record;
        // The bank does not count refreshes in which the user is there.
        let per_day = match self.user {
            Some(_) => None,
            None => self.limits.on_demand_per_day(entry.key.interval),
        };
        let (mut open, mut before, mut refused) = (ByProduct::default(), Vec::new(), None);
        for (product, mark) in entry.marks.iter() {
            let last = store.job(record, product, Consistency::Strong).await?;
            if let Some(last) = last.as_ref().filter(|it| it.is_running(now)) {
                *begun.jobs.slot(product) = Some(last.id.clone());
                continue;
            }
            let asked = last.as_ref().map(|it| it.asked.clone()).unwrap_or_default();
            if let Some(until) = per_day.and_then(|per_day| asked.spent_until(per_day, now)) {
                refused = Some(quota_spent(until, now));
                continue;
            }
            *open.slot(product) = Some(*mark);
            before.push((product, last, asked));
        }
        if open.is_empty() {
            return refused.map_or(Ok(()), Err);
        }
        let at = match place(call, head.bank, AHEAD).await? {
            Place::At(at) => at,
            Place::Full(at) => return Err(bank_busy(at, now)),
        };
        let name = self.wanted.map_or(ALL, Product::as_str);
        let interval = entry.key.interval;
        let id = format!(
            "{JOB_PREFIX}{record}-{name}-{interval}-{}",
            now.as_millisecond()
        );
        for (product, last, asked) in before {
            let asked = match per_day {
                Some(_) => asked.and(at),
                None => asked,
            };
            let new = NewJob {
                record,
                product,
                id: &id,
                starts_at: at,
                asked: &asked,
            };
            if store.begin_job(new, last.as_ref(), now).await? {
                *begun.jobs.slot(product) = Some(id.clone());
                let spent = per_day.and_then(|per_day| asked.spent_until(per_day, at));
                begun.next_at = begun.next_at.max(spent.unwrap_or(at));
            } else {
                // Another began meanwhile: it is joined.
                *open.slot(product) = None;
                let other = store.job(record, product, Consistency::Strong).await?;
                *begun.jobs.slot(product) = other.map(|it| it.id);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        entry.marks = open;
        let chunk = chunk(id, head, self.wanted, self.user, entry, (now, at));
        Ok(call
            .state
            .queues
            .send_chunks(Lane::Priority, &[chunk])
            .await?)
    }
}

fn quota_spent(until: Timestamp, now: Timestamp) -> Refusal {
    let message = "The bank allows no more refreshes without the user today; with customer_ip, the \
                   address that the user calls you from, it may";
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, "QUOTA_SPENT", message).refresh_again(until, now)
}

pub(crate) fn bank_busy(at: Timestamp, now: Timestamp) -> Refusal {
    let message = "The bank is being asked as often as it allows; wait";
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT", message).refresh_again(at, now)
}

/// Jobs as they ended, where all are done before the wait is over.
async fn ended(
    call: &Call,
    record: RecordId,
    jobs: &ByProduct<String>,
) -> Result<Option<ByProduct<Job>>, Refusal> {
    let mut done = ByProduct::default();
    let mut left = jobs.clone();
    for _ in 0..MAX_WAIT.as_millis() / POLL.as_millis() {
        for (product, id) in jobs.iter() {
            if left.get(product).is_none() {
                continue;
            }
            let last = call.state.store.job(record, product, Consistency::Strong);
            match last.await?.filter(|last| last.id == *id) {
                Some(last) if last.outcome.is_none() => continue,
                Some(last) => *done.slot(product) = Some(last),
                // A later one began, so this one is done.
                None => {}
            }
            *left.slot(product) = None;
        }
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    Ok((done.products() == jobs.products()).then_some(done))
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
    let name = product.map_or(ALL, Product::as_str);
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
    let limits = bank.map(|bank| bank.limits).unwrap_or_default();
    if limits.user_present_only && user.is_none() {
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
    let begun = begin_or_join(call, record, product, user, &limits).await?;
    let acknowledged = Acknowledged::new(&call.state.public_url, record, method);
    let acknowledged = |next_at| acknowledged.of_jobs(&begun.jobs, next_at);
    if !call.input.flag(WAIT) {
        return success(message, acknowledged(begun.next_at));
    }
    let Some(ended) = ended(call, record, &begun.jobs).await? else {
        return success(message, acknowledged(begun.next_at));
    };
    let of_products: Vec<&Job> = ended.iter().map(|(_, job)| job).collect();
    let summary = Summary::of(&of_products);
    let next_at = begun.next_at.max(summary.retry_at.unwrap_or(begun.next_at));
    let is_had = |product| {
        let job = ended.get(product);
        job.is_some_and(|job| job.outcome.as_deref() != Some(FAILED))
    };
    let balances = match is_had(Product::Balance) {
        true => {
            let consent = call
                .state
                .store
                .consent(record, Consistency::Eventual)
                .await?;
            let consent = consent.ok_or_else(|| Refusal::not_found("record"))?;
            let store = &call.state.store;
            let accounts = store.accounts_of(&consent, Consistency::Strong).await?;
            Some(balances::for_callback(call, &accounts).await?)
        }
        false => None,
    };
    let outcome = summary.outcome.unwrap_or_default();
    let done = acknowledged(next_at).done(outcome, summary.reason, summary.found, balances);
    success(message, done)
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
