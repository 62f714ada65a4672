//! Refreshes on demand: [`RefreshRequest`] starts one or joins one that runs ([`StartedRefresh`]), which can be waited
//! for ([`FinishedRefresh`]).
//!
//! The rule: a refresh that runs is joined and never doubled. Without the user it counts against the bank's daily
//! quota; every refresh needs a permit of the bank's rate limit within 20 seconds, and none is started while the bank's
//! circuit is open.

use std::{net::IpAddr, time::Duration};

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    model::{
        bank::BankLimits,
        ids::{AccountId, RecordId},
        snapshot::{ByProduct, Product},
    },
    resilience::{
        bank_breaker::{Admission, bank_down_fault},
        quota::OnDemandStarts,
    },
    schedule::plan::{Chunk, DueEntry, MAX_QUEUE_DELAY_S, RefreshTrigger},
    sync::decide::Watermark,
};
use okra_queue::ChunkQueue;
use okra_store::{
    Account, AdHocPermit, CallLimit, Consistency, FAILED_OUTCOME, Job, MINUTE_S, NewJob,
    RecordHead, RecordStatus,
};

use crate::{
    app_scope::AppScope,
    data_sync::unshared_product_error,
    error::{AppError, RetryTime},
    jobs::{JobResult, NewJobId, job_product_name},
};

/// After this time nobody waits for a refresh any more, and it is dropped.
const MAX_REFRESH_AGE: SignedDuration = SignedDuration::from_mins(15);

/// How long a refresh is waited for: the gateway gives up after 30 seconds.
const MAX_WAIT: Duration = Duration::from_secs(25);

/// How long a refresh on demand may be deferred where its bank is busy; beyond that it is refused.
const MAX_DEFERRAL: SignedDuration = SignedDuration::from_secs(20);

/// How long the first refresh of a record may be deferred.
const MAX_FIRST_DEFERRAL: SignedDuration = SignedDuration::from_mins(10);

/// Between two reads of a job that is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Most attempts at reading the due entries of a record that is being rescheduled.
const MAX_READ_ATTEMPTS: u32 = 3;

/// Which refresh to start.
#[derive(Clone, Copy, Debug)]
pub struct RefreshRequest {
    /// The record.
    pub record: RecordId,
    /// The product; by default all.
    pub product: Option<Product>,
    /// The address from which the user calls the app, where the user is present.
    pub user_address: Option<IpAddr>,
}

/// A refresh that was started or joined.
#[derive(Clone, Debug)]
pub struct StartedRefresh {
    /// The record.
    pub record: RecordId,
    /// The id of each product's job.
    pub jobs: ByProduct<String>,
    /// From when on another can be started.
    pub next_refresh_at: Timestamp,
}

/// A refresh that is done.
#[derive(Clone, Debug)]
pub struct FinishedRefresh {
    /// What it came to.
    pub result: JobResult,
    /// From when on another can be started.
    pub next_refresh_at: Timestamp,
    /// The products whose refresh did not fail.
    pub fetched_products: Vec<Product>,
}

impl AppScope {
    /// The record that is meant by its id, by the id of one of its accounts, or by both.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the account is not the app's, [`AppError::Invalid`] where the two do not belong
    /// together or neither is given. The record is compared with the app by [`AppScope::start_refresh`].
    pub async fn resolve_refresh_record(
        &self,
        record: Option<RecordId>,
        account: Option<AccountId>,
    ) -> Result<RecordId, AppError> {
        let Some(account) = account else {
            return record.ok_or_else(|| AppError::invalid_field("account", "is required"));
        };
        let account = self.load_own_account(account).await?;
        match record {
            Some(record) if record != account.record => {
                let problem = "must be an account of that record";
                Err(AppError::invalid_field("account_id", problem))
            }
            _ => Ok(account.record),
        }
    }

    /// Starts a refresh of a product or of all, and joins those that run.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`], [`AppError::RateLimited`], [`AppError::UserPresenceRequired`], [`AppError::QuotaSpent`],
    /// [`AppError::BankBusy`], [`AppError::BankFault`] where the bank's circuit is open, [`AppError::Invalid`] where
    /// the record was unlinked or the user did not share the product.
    pub async fn start_refresh(
        &self,
        request: &RefreshRequest,
    ) -> Result<StartedRefresh, AppError> {
        let record = request.record;
        let head = self.load_own_record(record, Consistency::Eventual).await?;
        self.check_refresh_limit(request.product).await?;
        if head.status == RecordStatus::Invalid {
            let problem = "must be of a record that is still linked";
            return Err(AppError::invalid_field("record_id", problem));
        }
        // The bank: does it want the user, and is its circuit closed?
        let bank = self.store().find_bank(head.bank).await?;
        let limits = bank.map(|bank| bank.limits).unwrap_or_default();
        if limits.user_present_only && request.user_address.is_none() {
            return Err(AppError::UserPresenceRequired);
        }
        let breaker = self
            .store()
            .find_bank_breaker(head.bank, Consistency::Eventual)
            .await?;
        let now = self.now();
        if let Admission::Reject { until } = breaker.unwrap_or_default().admission(now) {
            return Err(AppError::BankFault {
                fault: bank_down_fault(until, now),
                retry: Some(RetryTime::new(until, now)),
            });
        }
        self.start_or_join_refresh(request, &limits).await
    }

    /// Waits for a refresh, 25 seconds at most; `None` where it is not done by then.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn wait_for_refresh(
        &self,
        started: &StartedRefresh,
    ) -> Result<Option<FinishedRefresh>, AppError> {
        let Some(jobs) = self.wait_for_jobs(started).await? else {
            return Ok(None);
        };
        let result = JobResult::from_jobs(&jobs.iter().map(|(_, job)| job).collect::<Vec<_>>());
        let next_refresh_at = match result.retry_at {
            Some(retry_at) => started.next_refresh_at.max(retry_at),
            None => started.next_refresh_at,
        };
        let fetched = jobs
            .iter()
            .filter(|(_, job)| job.outcome.as_deref() != Some(FAILED_OUTCOME));
        Ok(Some(FinishedRefresh {
            fetched_products: fetched.map(|(product, _)| product).collect(),
            result,
            next_refresh_at,
        }))
    }

    /// The accounts of a record as they are right after a refresh.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the record was removed meanwhile.
    pub async fn load_refreshed_accounts(
        &self,
        record: RecordId,
    ) -> Result<Vec<Account>, AppError> {
        let store = self.store();
        let consent = store.find_consent(record, Consistency::Eventual).await?;
        let consent = consent.ok_or(AppError::NotFound { what: "record" })?;
        let accounts = store.load_accounts_of_consent(&consent, Consistency::Strong);
        Ok(accounts.await?)
    }

    /// Enqueues the first refresh of a record, at the time of its bank's next permit.
    pub(crate) async fn enqueue_first_refresh(
        &self,
        record: RecordId,
        user_address: Option<IpAddr>,
    ) -> Result<(), AppError> {
        let now = self.now();
        for _ in 0..MAX_READ_ATTEMPTS {
            let head = self.load_own_record(record, Consistency::Strong).await?;
            let entries = self.load_due_entries(&head, None).await?;
            let mut chunks = Vec::with_capacity(entries.len());
            for entry in entries {
                let permit = self
                    .reserve_bank_permit(head.bank, MAX_FIRST_DEFERRAL)
                    .await?;
                // Also where the bank is busier than that: the user is present.
                let (AdHocPermit::GrantedAt(at) | AdHocPermit::ExhaustedUntil(at)) = permit;
                let refresh = OnDemandChunk {
                    id: format!("first-{record}-{}", entry.key.interval),
                    product: None,
                    user_address,
                    is_job: false,
                    now,
                    starts_at: at,
                };
                chunks.push(refresh.into_chunk(&head, entry));
            }
            if !chunks.is_empty() {
                let queues = &self.services().queues;
                return Ok(queues.send_chunks(ChunkQueue::Priority, &chunks).await?);
            }
            // The due entries moved between the two reads: both are read again.
        }
        Err(AppError::Busy)
    }

    /// Counts a refresh against the app's limit of refreshes in a minute.
    async fn check_refresh_limit(&self, product: Option<Product>) -> Result<(), AppError> {
        let most = self.app().refreshes_per_minute;
        let limit = CallLimit {
            max_calls: most,
            window_s: MINUTE_S,
        };
        match self
            .count_against_limit(job_product_name(product), limit)
            .await?
        {
            None => Ok(()),
            Some(retry) => Err(AppError::RateLimited {
                limit: format!("{most} refreshes of one product in a minute"),
                retry,
                is_refresh: true,
            }),
        }
    }

    async fn start_or_join_refresh(
        &self,
        request: &RefreshRequest,
        limits: &BankLimits,
    ) -> Result<StartedRefresh, AppError> {
        for _ in 0..MAX_READ_ATTEMPTS {
            let head = self
                .load_own_record(request.record, Consistency::Strong)
                .await?;
            if let Some(product) = request.product
                && head.status != RecordStatus::Invalid
                && head.schedule.get(product).is_none()
            {
                return Err(unshared_product_error(&head, product));
            }
            let mut started = StartedRefresh {
                record: head.record,
                jobs: ByProduct::default(),
                next_refresh_at: self.now(),
            };
            let mut failed = None;
            for entry in self.load_due_entries(&head, request.product).await? {
                let refresh = EntryRefresh {
                    scope: self,
                    head: &head,
                    request,
                    limits,
                };
                if let Err(error) = refresh.start_for_entry(entry, &mut started).await {
                    failed = Some(error);
                }
            }
            match failed {
                // What could be started is: the other product has an error of its own when it is requested.
                _ if !started.jobs.is_empty() => return Ok(started),
                Some(error) => return Err(error),
                // The due entries moved between the two reads: both are read again.
                None => {}
            }
        }
        Err(AppError::Busy)
    }

    /// The record's due entries, with the watermark of one product or of all.
    async fn load_due_entries(
        &self,
        head: &RecordHead,
        product: Option<Product>,
    ) -> Result<Vec<DueEntry>, AppError> {
        let mut entries = Vec::new();
        for key in head.due_keys() {
            let entry = self.store().find_due_entry(key, Consistency::Strong);
            let Some(mut entry) = entry.await? else {
                continue;
            };
            if let Some(product) = product {
                let mut only = ByProduct::default();
                *only.get_mut(product) = entry.watermarks.get(product).copied();
                entry.watermarks = only;
            }
            if !entry.watermarks.is_empty() {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// Jobs as they ended, where all are done before the wait is over.
    async fn wait_for_jobs(
        &self,
        started: &StartedRefresh,
    ) -> Result<Option<ByProduct<Job>>, AppError> {
        let mut done = ByProduct::default();
        let mut running = started.jobs.clone();
        for _ in 0..MAX_WAIT.as_millis() / POLL_INTERVAL.as_millis() {
            for (product, id) in started.jobs.iter() {
                if running.get(product).is_none() {
                    continue;
                }
                let record = started.record;
                let last = self.store().find_job(record, product, Consistency::Strong);
                match last.await?.filter(|last| last.id == *id) {
                    Some(last) if last.outcome.is_none() => continue,
                    Some(last) => *done.get_mut(product) = Some(last),
                    // A later one was started, so this one is done.
                    None => {}
                }
                *running.get_mut(product) = None;
            }
            if running.is_empty() {
                break;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let all_done = done.products() == started.jobs.products();
        Ok(all_done.then_some(done))
    }
}

/// A chunk of one record on demand.
struct OnDemandChunk {
    id: String,
    product: Option<Product>,
    user_address: Option<IpAddr>,
    /// True where the app is shown how it ends.
    is_job: bool,
    now: Timestamp,
    /// When the bank may be called.
    starts_at: Timestamp,
}

impl OnDemandChunk {
    fn into_chunk(self, head: &RecordHead, entry: DueEntry) -> Chunk {
        let wait_s = RetryTime::new(self.starts_at, self.now).wait_s;
        let delay_s = wait_s.min(MAX_QUEUE_DELAY_S);
        Chunk {
            id: self.id,
            bank: head.bank,
            trigger: RefreshTrigger::OnDemand {
                product: self.product,
                user: self.user_address,
                is_job: self.is_job,
            },
            // Saturates at the end of time.
            not_after: self
                .starts_at
                .saturating_add(MAX_REFRESH_AGE)
                .unwrap_or(self.starts_at),
            // A queue delays by 15 minutes at most, which fits.
            delay_s: u16::try_from(delay_s).unwrap_or(u16::MAX),
            requeue_count: 0,
            records: vec![entry],
        }
    }
}

/// A refresh of the products of one due entry.
struct EntryRefresh<'a> {
    scope: &'a AppScope,
    head: &'a RecordHead,
    request: &'a RefreshRequest,
    limits: &'a BankLimits,
}

/// A product of which no refresh runs.
struct ProductToRefresh {
    product: Product,
    watermark: Watermark,
    last_job: Option<Job>,
    unattended_requests: OnDemandStarts,
}

/// The products of an entry that can be refreshed, and why others cannot.
#[derive(Default)]
struct ProductSelection {
    to_refresh: Vec<ProductToRefresh>,
    quota_spent: Option<AppError>,
}

impl EntryRefresh<'_> {
    /// Starts what can be started of a due entry, as one chunk; what runs is joined.
    async fn start_for_entry(
        &self,
        mut entry: DueEntry,
        started: &mut StartedRefresh,
    ) -> Result<(), AppError> {
        let now = self.scope.now();
        // A bank does not count refreshes with the user present.
        let per_day = match self.request.user_address {
            Some(_) => None,
            None => self.limits.on_demand_per_day(entry.key.interval),
        };
        // Join what runs, and leave out what its quota does not allow.
        let selection = self.select_products(&entry, per_day, started).await?;
        if selection.to_refresh.is_empty() {
            return selection.quota_spent.map_or(Ok(()), Err);
        }
        let starts_at = match self
            .scope
            .reserve_bank_permit(self.head.bank, MAX_DEFERRAL)
            .await?
        {
            AdHocPermit::GrantedAt(at) => at,
            AdHocPermit::ExhaustedUntil(at) => {
                return Err(AppError::BankBusy {
                    retry: RetryTime::new(at, now),
                });
            }
        };
        // Record the jobs, then enqueue the chunk that does them.
        let job_id = NewJobId {
            record: self.head.record,
            product: self.request.product,
            interval: entry.key.interval,
            created_at: now,
        };
        let refresh = OnDemandChunk {
            id: job_id.to_string(),
            product: self.request.product,
            user_address: self.request.user_address,
            is_job: true,
            now,
            starts_at,
        };
        entry.watermarks = self
            .begin_jobs(selection.to_refresh, &refresh, per_day, started)
            .await?;
        if entry.watermarks.is_empty() {
            return Ok(());
        }
        let chunk = refresh.into_chunk(self.head, entry);
        let queues = &self.scope.services().queues;
        Ok(queues.send_chunks(ChunkQueue::Priority, &[chunk]).await?)
    }

    /// Splits the products of an entry into those that are joined, those over their quota, and the rest.
    async fn select_products(
        &self,
        entry: &DueEntry,
        per_day: Option<u16>,
        started: &mut StartedRefresh,
    ) -> Result<ProductSelection, AppError> {
        let (now, record) = (self.scope.now(), self.head.record);
        let mut selection = ProductSelection::default();
        for (product, watermark) in entry.watermarks.iter() {
            let store = self.scope.store();
            let last_job = store.find_job(record, product, Consistency::Strong).await?;
            if let Some(running) = last_job.as_ref().filter(|it| it.is_running(now)) {
                *started.jobs.get_mut(product) = Some(running.id.clone());
                continue;
            }
            let unattended_requests = last_job
                .as_ref()
                .map(|job| job.unattended_requests.clone())
                .unwrap_or_default();
            let spent_until =
                per_day.and_then(|per_day| unattended_requests.exhausted_until(per_day, now));
            if let Some(until) = spent_until {
                let retry = RetryTime::new(until, now);
                selection.quota_spent = Some(AppError::QuotaSpent { retry });
                continue;
            }
            selection.to_refresh.push(ProductToRefresh {
                product,
                watermark: *watermark,
                last_job,
                unattended_requests,
            });
        }
        Ok(selection)
    }

    /// Records a job for each product; the watermarks of those that nobody else started meanwhile.
    async fn begin_jobs(
        &self,
        products: Vec<ProductToRefresh>,
        refresh: &OnDemandChunk,
        per_day: Option<u16>,
        started: &mut StartedRefresh,
    ) -> Result<ByProduct<Watermark>, AppError> {
        let (store, record) = (self.scope.store(), self.head.record);
        let mut watermarks = ByProduct::default();
        for it in products {
            let requests = match per_day {
                Some(_) => it.unattended_requests.with_refresh_at(refresh.starts_at),
                None => it.unattended_requests,
            };
            let new = NewJob {
                record,
                product: it.product,
                id: &refresh.id,
                starts_at: refresh.starts_at,
                unattended_requests: &requests,
            };
            if store
                .begin_job(new, it.last_job.as_ref(), refresh.now)
                .await?
            {
                *watermarks.get_mut(it.product) = Some(it.watermark);
                *started.jobs.get_mut(it.product) = Some(refresh.id.clone());
                let spent_until = per_day
                    .and_then(|per_day| requests.exhausted_until(per_day, refresh.starts_at));
                let next_at = spent_until.unwrap_or(refresh.starts_at);
                started.next_refresh_at = started.next_refresh_at.max(next_at);
            } else {
                // Another request started one meanwhile, which is joined.
                let other = store
                    .find_job(record, it.product, Consistency::Strong)
                    .await?;
                *started.jobs.get_mut(it.product) = other.map(|job| job.id);
            }
        }
        Ok(watermarks)
    }
}
