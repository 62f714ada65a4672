//! Refreshes on demand.

use std::{net::IpAddr, time::Duration};

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use okra_core::{
    model::{
        bank::BankLimits,
        ids::{AccountId, BankId, RecordId},
        snapshot::{ByProduct, Product},
    },
    resilience::bank_breaker::{Admission, bank_down_fault},
    schedule::plan::{Chunk, DueEntry, JOB_CHUNK_PREFIX, MAX_QUEUE_DELAY_S, RefreshTrigger},
    sync::decide::Watermark,
};
use okra_queue::ChunkQueue;
use okra_store::{
    AdHocPermit, CallLimit, Consistency, FAILED_OUTCOME, Job, MINUTE_S, NewJob, RecordHead,
    RecordStatus,
};
use okra_wire::record::RefreshAcknowledgement;

use crate::{
    balances,
    call::ApiRequest,
    envelope::{ApiError, ApiResponse, success_response},
    input::{ACCOUNT, CUSTOMER_IP, RECORD},
    jobs::{ALL_PRODUCTS, JobResult},
};

/// How long somebody is taken to wait for a refresh; after that it is dropped.
const MAX_REFRESH_AGE: SignedDuration = SignedDuration::from_mins(15);

/// How long a refresh is waited for: the gateway gives up after 30 seconds.
const MAX_WAIT: Duration = Duration::from_secs(25);

/// How far ahead a refresh on demand may be put off where its bank is busy; beyond that it is refused.
const MAX_DEFERRAL: SignedDuration = SignedDuration::from_secs(20);

/// How far ahead the first refresh of a record may be put off.
const MAX_FIRST_DEFERRAL: SignedDuration = SignedDuration::from_mins(10);

/// Between two looks at a job.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The field that asks to wait.
const WAIT_FIELD: &str = "wait";

/// Times a record's due entries are looked for while it is being rescheduled.
const MAX_READ_ATTEMPTS: u32 = 3;

/// Enqueues a first refresh of a record on the priority queue, when its bank has room for it.
pub(crate) async fn enqueue_first_refresh(
    request: &ApiRequest,
    record: RecordId,
) -> Result<(), ApiError> {
    let (state, now) = (&request.state, request.now());
    let user = parse_user_address(request)?;
    for _ in 0..MAX_READ_ATTEMPTS {
        let head = request.load_own_record(record, Consistency::Strong).await?;
        let entries = load_due_entries(request, &head, None).await?;
        let mut chunks = Vec::with_capacity(entries.len());
        for entry in entries {
            let place = reserve_permit(request, head.bank, MAX_FIRST_DEFERRAL).await?;
            // A bank that is busier than that is asked for it all the same: the user is there.
            let (AdHocPermit::GrantedAt(at) | AdHocPermit::ExhaustedUntil(at)) = place;
            let id = format!("first-{record}-{}", entry.key.interval);
            chunks.push(build_chunk(id, &head, None, user, entry, (now, at)));
        }
        if !chunks.is_empty() {
            return Ok(state
                .queues
                .send_chunks(ChunkQueue::Priority, &chunks)
                .await?);
        }
        // Its due entries moved between the two reads: both are looked at again.
    }
    Err(ApiError::retry_later())
}

/// The record's due entries, with the marks of the product asked for or of all.
async fn load_due_entries(
    request: &ApiRequest,
    head: &RecordHead,
    product: Option<Product>,
) -> Result<Vec<DueEntry>, ApiError> {
    let mut entries = Vec::new();
    for key in head.due_keys() {
        let entry = request
            .state
            .store
            .find_due_entry(key, Consistency::Strong)
            .await?;
        let Some(mut entry) = entry else {
            continue;
        };
        if let Some(product) = product {
            entry.watermarks = select_watermark(entry.watermarks, product);
        }
        if !entry.watermarks.is_empty() {
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn select_watermark(watermarks: ByProduct<Watermark>, product: Product) -> ByProduct<Watermark> {
    let mut only = ByProduct::default();
    *only.get_mut(product) = watermarks.get(product).copied();
    only
}

/// A chunk of one record, which is received at `at`.
fn build_chunk(
    id: String,
    head: &RecordHead,
    product: Option<Product>,
    user_address: Option<IpAddr>,
    entry: DueEntry,
    (now, at): (Timestamp, Timestamp),
) -> Chunk {
    let wait_s = (at.duration_since(now).as_millis().max(0) + 999) / 1000;
    let delay_s = u16::try_from(wait_s.min(MAX_QUEUE_DELAY_S.into())).unwrap_or(0);
    Chunk {
        id,
        bank: head.bank,
        trigger: RefreshTrigger::OnDemand {
            product,
            user: user_address,
        },
        not_after: at.saturating_add(MAX_REFRESH_AGE).unwrap_or(at),
        delay_s,
        requeue_count: 0,
        records: vec![entry],
    }
}

/// Takes a place of what the bank allows beside its ticks.
async fn reserve_permit(
    request: &ApiRequest,
    bank: BankId,
    max_deferral: SignedDuration,
) -> Result<AdHocPermit, ApiError> {
    let store = &request.state.store;
    let config = store.find_bank(bank).await?;
    let limits = config.map(|it| it.limits).unwrap_or_default();
    let now = request.now();
    Ok(store
        .reserve_ad_hoc_permit(bank, limits.records_per_second, now, max_deferral)
        .await?)
}

/// The record asked for, by itself or by one of its accounts.
async fn resolve_record_id(request: &ApiRequest) -> Result<RecordId, ApiError> {
    let record: Option<RecordId> = request.input.parse_id(RECORD)?;
    let Some(account) = request.input.parse_id::<AccountId>(ACCOUNT)? else {
        return match record {
            Some(record) => Ok(record),
            None => request.input.require_id(ACCOUNT),
        };
    };
    let account = request.load_own_account(account).await?;
    match record {
        Some(record) if record != account.record => Err(ApiError::invalid_field(
            "account_id",
            "is no account of that record",
        )),
        _ => Ok(account.record),
    }
}

/// Refreshes that run for a caller, and when another can be begun.
struct StartedRefresh {
    jobs: ByProduct<String>,
    next_refresh_at: Timestamp,
}

/// Begins a refresh of a product or of all, and joins those that run.
async fn start_or_join_refresh(
    request: &ApiRequest,
    record: RecordId,
    requested_product: Option<Product>,
    user_address: Option<IpAddr>,
    limits: &BankLimits,
) -> Result<StartedRefresh, ApiError> {
    for _ in 0..MAX_READ_ATTEMPTS {
        let head = request.load_own_record(record, Consistency::Strong).await?;
        if let Some(product) = requested_product
            && head.status != RecordStatus::Invalid
            && head.schedule.get(product).is_none()
        {
            let problem = crate::sync::describe_unlinked_product(&head, product);
            return Err(ApiError::invalid_field("products", problem));
        }
        let mut begun = StartedRefresh {
            jobs: ByProduct::default(),
            next_refresh_at: request.now(),
        };
        let mut refused = None;
        for entry in load_due_entries(request, &head, requested_product).await? {
            let asked = OnDemandRefresh {
                head: &head,
                requested_product,
                user_address,
                limits,
            };
            match asked.start_for_entry(request, entry, &mut begun).await {
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
    Err(ApiError::retry_later())
}

/// What is asked of a record.
#[derive(Clone, Copy)]
struct OnDemandRefresh<'a> {
    head: &'a RecordHead,
    requested_product: Option<Product>,
    user_address: Option<IpAddr>,
    limits: &'a BankLimits,
}

impl OnDemandRefresh<'_> {
    /// Begins what is asked of a due entry, as one chunk.
    async fn start_for_entry(
        &self,
        request: &ApiRequest,
        mut entry: DueEntry,
        started: &mut StartedRefresh,
    ) -> Result<(), ApiError> {
        let (store, now, head) = (&request.state.store, request.now(), self.head);
        let record = head.record;
        // The bank does not count refreshes in which the user is there.
        let per_day = match self.user_address {
            Some(_) => None,
            None => self.limits.on_demand_per_day(entry.key.interval),
        };
        let (mut open, mut before, mut refused) = (ByProduct::default(), Vec::new(), None);
        for (product, mark) in entry.watermarks.iter() {
            let last = store.find_job(record, product, Consistency::Strong).await?;
            if let Some(last) = last.as_ref().filter(|it| it.is_running(now)) {
                *started.jobs.get_mut(product) = Some(last.id.clone());
                continue;
            }
            let asked = last
                .as_ref()
                .map(|it| it.unattended_requests.clone())
                .unwrap_or_default();
            if let Some(until) = per_day.and_then(|per_day| asked.exhausted_until(per_day, now)) {
                refused = Some(quota_spent_error(until, now));
                continue;
            }
            *open.get_mut(product) = Some(*mark);
            before.push((product, last, asked));
        }
        if open.is_empty() {
            return refused.map_or(Ok(()), Err);
        }
        let at = match reserve_permit(request, head.bank, MAX_DEFERRAL).await? {
            AdHocPermit::GrantedAt(at) => at,
            AdHocPermit::ExhaustedUntil(at) => return Err(bank_busy_error(at, now)),
        };
        let name = self.requested_product.map_or(ALL_PRODUCTS, Product::as_str);
        let interval = entry.key.interval;
        let id = format!(
            "{JOB_CHUNK_PREFIX}{record}-{name}-{interval}-{}",
            now.as_millisecond()
        );
        for (product, last, asked) in before {
            let asked = match per_day {
                Some(_) => asked.with_refresh_at(at),
                None => asked,
            };
            let new = NewJob {
                record,
                product,
                id: &id,
                starts_at: at,
                unattended_requests: &asked,
            };
            if store.begin_job(new, last.as_ref(), now).await? {
                *started.jobs.get_mut(product) = Some(id.clone());
                let spent = per_day.and_then(|per_day| asked.exhausted_until(per_day, at));
                started.next_refresh_at = started.next_refresh_at.max(spent.unwrap_or(at));
            } else {
                // Another began meanwhile: it is joined.
                *open.get_mut(product) = None;
                let other = store.find_job(record, product, Consistency::Strong).await?;
                *started.jobs.get_mut(product) = other.map(|it| it.id);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        entry.watermarks = open;
        let chunk = build_chunk(
            id,
            head,
            self.requested_product,
            self.user_address,
            entry,
            (now, at),
        );
        Ok(request
            .state
            .queues
            .send_chunks(ChunkQueue::Priority, &[chunk])
            .await?)
    }
}

fn quota_spent_error(until: Timestamp, now: Timestamp) -> ApiError {
    let message = "The bank allows no more refreshes without the user today; with customer_ip, the \
                   address that the user calls you from, it may";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "QUOTA_SPENT", message)
        .with_next_refresh_at(until, now)
}

pub(crate) fn bank_busy_error(at: Timestamp, now: Timestamp) -> ApiError {
    let message = "The bank is being asked as often as it allows; wait";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT", message)
        .with_next_refresh_at(at, now)
}

/// Jobs as they ended, where all are done before the wait is over.
async fn wait_until_done(
    request: &ApiRequest,
    record: RecordId,
    jobs: &ByProduct<String>,
) -> Result<Option<ByProduct<Job>>, ApiError> {
    let mut done = ByProduct::default();
    let mut left = jobs.clone();
    for _ in 0..MAX_WAIT.as_millis() / POLL_INTERVAL.as_millis() {
        for (product, id) in jobs.iter() {
            if left.get(product).is_none() {
                continue;
            }
            let last = request
                .state
                .store
                .find_job(record, product, Consistency::Strong);
            match last.await?.filter(|last| last.id == *id) {
                Some(last) if last.outcome.is_none() => continue,
                Some(last) => *done.get_mut(product) = Some(last),
                // A later one began, so this one is done.
                None => {}
            }
            *left.get_mut(product) = None;
        }
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok((done.products() == jobs.products()).then_some(done))
}

/// The address of the user, where the app says that he is there.
fn parse_user_address(request: &ApiRequest) -> Result<Option<IpAddr>, ApiError> {
    let Some(text) = request.input.find_text(CUSTOMER_IP) else {
        return Ok(None);
    };
    let address = text.parse();
    address
        .map(Some)
        .map_err(|_| ApiError::invalid_field("customer_ip", "is no IP address"))
}

/// Counts a refresh that is asked for; refuses it where the app has asked for too many this minute.
async fn check_refresh_limit(
    request: &ApiRequest,
    product: Option<Product>,
) -> Result<(), ApiError> {
    let rate = request.require_app()?.refreshes_per_minute;
    let name = product.map_or(ALL_PRODUCTS, Product::as_str);
    let limit = CallLimit {
        max_calls: rate,
        window_s: MINUTE_S,
    };
    let Some(until) = request.count_against_limit(name, limit).await? else {
        return Ok(());
    };
    let what = format!("{rate} refreshes of one product in a minute");
    Err(ApiError::too_many_requests(&what).with_next_refresh_at(until, request.now()))
}

async fn refresh_record(
    request: &ApiRequest,
    product: Option<Product>,
    method: &'static str,
    message: &str,
) -> ApiResponse {
    let record = resolve_record_id(request).await?;
    let head = request
        .load_own_record(record, Consistency::Eventual)
        .await?;
    check_refresh_limit(request, product).await?;
    if head.status == RecordStatus::Invalid {
        return Err(ApiError::invalid_field(
            "record_id",
            "is of a record that was unlinked",
        ));
    }
    let user = parse_user_address(request)?;
    let bank = request.state.store.find_bank(head.bank).await?;
    let limits = bank.map(|bank| bank.limits).unwrap_or_default();
    if limits.user_present_only && user.is_none() {
        let message = "The bank wants the user there for each refresh: pass customer_ip, the address \
                       that the user calls you from";
        return Err(ApiError::new(StatusCode::CONFLICT, "USER_NEEDED", message));
    }
    let breaker = request
        .state
        .store
        .find_bank_breaker(head.bank, Consistency::Eventual)
        .await?;
    let now = request.now();
    if let Admission::Reject { until } = breaker.unwrap_or_default().admission(now) {
        return Err(ApiError::from(bank_down_fault(until, now)).with_next_refresh_at(until, now));
    }
    let begun = start_or_join_refresh(request, record, product, user, &limits).await?;
    let acknowledged = RefreshAcknowledgement::new(&request.state.public_url, record, method);
    let acknowledged = |next_at| acknowledged.with_jobs(&begun.jobs, next_at);
    if !request.input.is_true(WAIT_FIELD) {
        return success_response(message, acknowledged(begun.next_refresh_at));
    }
    let Some(ended) = wait_until_done(request, record, &begun.jobs).await? else {
        return success_response(message, acknowledged(begun.next_refresh_at));
    };
    let of_products: Vec<&Job> = ended.iter().map(|(_, job)| job).collect();
    let summary = JobResult::from_jobs(&of_products);
    let next_at = begun
        .next_refresh_at
        .max(summary.retry_at.unwrap_or(begun.next_refresh_at));
    let is_had = |product| {
        let job = ended.get(product);
        job.is_some_and(|job| job.outcome.as_deref() != Some(FAILED_OUTCOME))
    };
    let balances = match is_had(Product::Balance) {
        true => {
            let consent = request
                .state
                .store
                .find_consent(record, Consistency::Eventual)
                .await?;
            let consent = consent.ok_or_else(|| ApiError::not_found("record"))?;
            let store = &request.state.store;
            let accounts = store
                .load_accounts_of_consent(&consent, Consistency::Strong)
                .await?;
            Some(balances::render_for_callback(request, &accounts).await?)
        }
        false => None,
    };
    let outcome = summary.outcome.unwrap_or_default();
    let done = acknowledged(next_at).with_outcome(
        outcome,
        summary.reason,
        summary.found_changes,
        balances,
    );
    success_response(message, done)
}

async fn refresh_balance_as(request: &ApiRequest, method: &'static str) -> ApiResponse {
    let product = Some(Product::Balance);
    refresh_record(request, product, method, "Balance checking...").await
}

async fn refresh_transactions_as(request: &ApiRequest, method: &'static str) -> ApiResponse {
    let product = Some(Product::Transactions);
    refresh_record(request, product, method, "Transactions processing...").await
}

pub(crate) async fn refresh_balance(request: &ApiRequest) -> ApiResponse {
    refresh_balance_as(request, "BALANCE").await
}

pub(crate) async fn check_balance(request: &ApiRequest) -> ApiResponse {
    refresh_balance_as(request, "CHECK_BALANCE").await
}

pub(crate) async fn refresh_periodic_balance(request: &ApiRequest) -> ApiResponse {
    refresh_balance_as(request, "PERIODIC_BALANCE").await
}

pub(crate) async fn refresh_transactions(request: &ApiRequest) -> ApiResponse {
    refresh_transactions_as(request, "REFRESH_TRANSACTIONS").await
}

pub(crate) async fn refresh_periodic_transactions(request: &ApiRequest) -> ApiResponse {
    refresh_transactions_as(request, "PERIODIC_TRANSACTIONS").await
}

/// `customers/retry`: everything of a record.
pub(crate) async fn refresh_all_products(request: &ApiRequest) -> ApiResponse {
    refresh_record(request, None, "AUTH", "Record processing...").await
}

documented! {
    refresh_balance(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement: "Refreshes the balances of an account's record.";
    check_balance(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement: "Refreshes the balances of an account's record.";
    refresh_periodic_balance(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement: "Refreshes the balances of an account's record.";
    refresh_transactions(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement: "Refreshes the transactions of an account's record.";
    refresh_periodic_transactions(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement: "Refreshes the transactions of an account's record.";
    refresh_all_products(make_optional(ACCOUNT), make_optional(RECORD), make_optional(CUSTOMER_IP), WAIT_FLAG) -> RefreshAcknowledgement: "Refreshes everything of a record.";
}
