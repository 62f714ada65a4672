//! A chunk: records of one bank, fetched with bounded concurrency.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    ops::AddAssign,
};

use futures::{FutureExt, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use okra_connectors::{AccountRef, FetchRequest};
use okra_core::{
    model::{
        bank::{BankConfig, BankLimits},
        fault::{BankFault, FaultClass},
        ids::{AccountId, RecordId},
        snapshot::{Product, Snapshot, utc_date},
    },
    resilience::{
        bank_breaker::CallOutcomes,
        failure_state::{FailureState, RefreshFaults, SuspendedProducts},
    },
    schedule::plan::{
        Chunk, DueEntry, JOB_CHUNK_PREFIX, MAX_QUEUE_DELAY_S, MAX_REQUEUES, RefreshTrigger,
        random_for_record, requeue_delay_s,
    },
    sync::decide::{SnapshotDigests, digest_snapshot, window_start},
};
use okra_queue::ChunkQueue;
use okra_store::{Consent, ConsentAccount, FAILED_OUTCOME, JobCompletion, JobFindings};

use crate::{
    ChunkReport, RefreshError, RefreshOutcome, RefreshReport, Refresher, announce,
    reconcile::{CommitOutcome, FetchedRecord},
    tokens::snapshot_from_fault,
    watch::BreakerGuard,
};

/// Times a record is fetched again because another refresh committed meanwhile.
const MAX_FETCH_ATTEMPTS: usize = 3;

/// One in so many unchanged scheduled refreshes takes the strong read all the same: an audit.
const AUDIT_ONE_IN: u32 = 128;

impl AddAssign for ChunkReport {
    fn add_assign(&mut self, other: Self) {
        self.unchanged += other.unchanged;
        self.changed += other.changed;
        self.failed += other.failed;
        self.contended += other.contended;
        self.gone += other.gone;
        self.stale += other.stale;
        self.deferred += other.deferred;
        self.requeued += other.requeued;
    }
}

/// What is asked of a bank for a record: what is not left alone.
struct FetchPlan<'a> {
    /// Accounts of which the same products are asked for; one group where nothing is left alone.
    account_groups: Vec<(Vec<Product>, Vec<AccountRef<'a>>)>,
    suspended_products: SuspendedProducts,
}

impl<'a> FetchPlan<'a> {
    fn for_consent(
        consent: &'a Consent,
        products: &[Product],
        suspended_products: SuspendedProducts,
    ) -> Self {
        let mut account_groups: Vec<(Vec<Product>, Vec<AccountRef<'a>>)> = Vec::with_capacity(1);
        for account in &consent.accounts {
            let mut asked = products.to_vec();
            asked.retain(|product| !suspended_products.includes(account.account_id, *product));
            let account = account_ref(account);
            match account_groups.iter_mut().find(|(group, _)| *group == asked) {
                Some((_, accounts)) => accounts.push(account),
                None if asked.is_empty() => {}
                None => account_groups.push((asked, vec![account])),
            }
        }
        Self {
            account_groups,
            suspended_products,
        }
    }

    fn is_empty(&self) -> bool {
        self.account_groups.is_empty()
    }
}

/// An account as its bank is asked for it.
pub(crate) fn account_ref(account: &ConsentAccount) -> AccountRef<'_> {
    AccountRef {
        id: account.account_id,
        bank_account_id: &account.bank_account_id,
    }
}

/// What came of a record, and after how many seconds it is asked again before its next turn.
type RecordResult<'a> = (RefreshOutcome, Option<(&'a DueEntry, u32)>);

/// How the records of a chunk call their bank.
#[derive(Clone, Copy)]
struct BankCallContext<'a> {
    bank: &'a BankConfig,
    breaker_guard: &'a BreakerGuard<'a>,
    /// The user, where he is there.
    user_present: Option<IpAddr>,
}

impl Refresher {
    /// Refreshes the records of a chunk. `redelivered` says that the message was received before: a
    /// crash may have left work half done, so each record takes the strong read. A fault of our own
    /// on one record does not stop the others; it is returned at the end, so that the message comes
    /// again.
    ///
    /// What comes late has no part in what the bank is planned to be asked: it takes places of its pace, one
    /// for each record, and what gets none is put off. So is what could not be asked because the bank
    /// is down, or was not answered, where the next turn is far off.
    pub async fn refresh_chunk(
        &self,
        mut chunk: Chunk,
        is_redelivered: bool,
    ) -> Result<ChunkReport, RefreshError> {
        let mut report = ChunkReport::default();
        let now = self.clock.now();
        if now > chunk.not_after {
            report.stale = chunk.records.len();
            return Ok(report);
        }
        let watch = self.guard_bank(chunk.bank).await?;
        let refused = watch.rejection_fault();
        if let Some(down) = &refused
            && chunk.is_worth_requeueing()
            && is_outage_reported(&chunk)
        {
            report.deferred = chunk.records.len();
            let records = std::mem::take(&mut chunk.records);
            report.requeued = self
                .requeue_records(&chunk, records, seconds_until_probe(down))
                .await?;
            return Ok(report);
        }
        let late = refused.is_none() && chunk.is_late(now);
        if late && let Some(rate) = self.bank_rate_limit(chunk.bank).await? {
            let wanted = chunk.records.len();
            let places = self
                .store
                .take_ad_hoc_permits(chunk.bank, rate, now, wanted)
                .await?;
            // A probe that is claimed is made.
            let kept = places.max(watch.is_probing().into()).min(wanted);
            let rest = chunk.records.split_off(kept);
            report.deferred = rest.len();
            let in_vain = if places == 0 { chunk.requeue_count } else { 0 };
            let wait_s = rest
                .first()
                .map_or(0, |it| requeue_delay_s(it.key.record, now, in_vain));
            report.requeued = self.requeue_records(&chunk, rest, wait_s).await?;
            if chunk.records.is_empty() {
                return Ok(report);
            }
        }
        let ids: Vec<RecordId> = chunk.records.iter().map(|entry| entry.key.record).collect();
        let mut consents: HashMap<RecordId, Consent> = HashMap::with_capacity(ids.len());
        consents.extend(
            self.store
                .load_consents(&ids)
                .await?
                .into_iter()
                .map(|it| (it.record, it)),
        );

        if consents.is_empty() {
            report.gone = chunk.records.len();
            return Ok(report);
        }
        let bank = self.bank_config(chunk.bank).await?;
        let (on_demand, user) = match chunk.trigger {
            RefreshTrigger::OnDemand { user, .. } => (true, user),
            RefreshTrigger::Scheduled { .. } => (false, None),
        };
        let job = chunk.id.as_str();
        let work = chunk.records.iter().map(|entry| {
            let consent = consents.get(&entry.key.record);
            // Who asks in person is not held.
            let failure_state = entry.failure_state.as_ref().filter(|_| !on_demand);
            let seen_before = is_redelivered || chunk.requeue_count > 0;
            let (bank, strong) = (&bank, seen_before || on_demand || self.is_audit_due(entry));
            let calls = BankCallContext {
                bank,
                breaker_guard: &watch,
                user_present: user,
            };
            let work = async move {
                let Some(consent) = consent else {
                    return Ok((RefreshOutcome::Gone, None));
                };
                let mut over = false;
                if let Some(clock) = consent
                    .consent_clock
                    .filter(|it| it.next_notice_at() <= now)
                {
                    let (store, queues) = (&self.store, &self.queues);
                    let record = consent.record;
                    over = announce::announce_consent_expiry(store, queues, record, clock, now)
                        .await?;
                }
                let accounts = consent.accounts.iter().map(|it| it.account_id);
                let suspended = failure_state
                    .map(|it| it.suspended_products(now, accounts))
                    .unwrap_or_default();
                // An ended consent is not used but for who asks in person: it may have been prolonged.
                // A bank that wants the user there is asked when he is.
                let alone = !on_demand && bank.limits.user_present_only;
                let products = entry.watermarks.products();
                let asked = FetchPlan::for_consent(consent, &products, suspended);
                if asked.is_empty() || alone || (over && !on_demand) {
                    return Ok((RefreshOutcome::Deferred, None));
                }
                let called = calls.breaker_guard.rejection_fault().is_none();
                let refreshed = self
                    .refresh_record(calls, consent, entry, (asked, strong))
                    .await?;
                let called = called.then_some(&bank.limits);
                // A bank that does not answer this record alone is asked again when that is new, a few times.
                let new = !entry
                    .failure_state
                    .as_ref()
                    .is_some_and(FailureState::is_reported)
                    && chunk.requeue_count < MAX_REQUEUES;
                let worth = new || calls.breaker_guard.rejection_fault().is_some();
                let wait_s = transient_retry_delay_s(&refreshed, called).filter(|_| worth);
                if job.starts_with(JOB_CHUNK_PREFIX) {
                    let (record, ended_at) = (consent.record, self.clock.now());
                    let accounts = consent.accounts.len();
                    for product in entry.watermarks.products() {
                        let end = job_end_for_product(&refreshed, product, accounts, ended_at);
                        self.store
                            .end_job(record, product, job, end, ended_at)
                            .await?;
                    }
                }
                let outcome = refreshed.outcome;
                if over
                    && matches!(
                        outcome,
                        RefreshOutcome::Changed(_) | RefreshOutcome::Unchanged
                    )
                {
                    self.store.clear_consent_clock(consent.record).await?;
                }
                Ok((outcome, wait_s.map(|wait_s| (entry, wait_s))))
            };
            work.boxed()
        });
        // Collected, because a borrowing closure inside the stream would make it not `Send`.
        let mut work = work.collect::<Vec<_>>().into_iter();
        let (mut fault, mut rest, mut wait_s) = (None, Vec::new(), 0);
        let mut count = |turn: Result<RecordResult<'_>, RefreshError>| match turn {
            Ok((outcome, again)) => {
                report.count_outcome(&outcome);
                rest.extend(again.map(|(entry, _)| entry.clone()));
                wait_s = wait_s.max(again.map_or(0, |(_, wait_s)| wait_s));
            }
            Err(error) => fault = Some(error),
        };
        while watch.is_probing()
            && let Some(work) = work.next()
        {
            count(work.await);
        }
        let concurrency = usize::from(bank.limits.concurrency.max(1));
        let mut outcomes = stream::iter(work).buffer_unordered(concurrency);
        while let Some(outcome) = outcomes.next().await {
            count(outcome);
        }
        watch.store_breaker().await?;
        if chunk.is_worth_requeueing() {
            report.requeued += self.requeue_records(&chunk, rest, wait_s).await?;
        }
        fault.map_or(Ok(report), Err)
    }

    /// Sees to it that records of a chunk are asked again after `wait_s` seconds; says how many are.
    async fn requeue_records(
        &self,
        chunk: &Chunk,
        records: Vec<DueEntry>,
        wait_s: u32,
    ) -> Result<usize, RefreshError> {
        let count = records.len();
        match chunk.requeue(records, wait_s, self.clock.now()) {
            Some(later) => {
                self.queues
                    .send_chunks(ChunkQueue::Scheduled, &[later])
                    .await?;
                Ok(count)
            }
            None => Ok(0),
        }
    }

    /// Drawn anew each time, so that a record whose turn always comes in the same minute of the day is
    /// audited as often as any other.
    fn is_audit_due(&self, entry: &DueEntry) -> bool {
        random_for_record(entry.key.record, self.clock.now()) < u32::MAX / AUDIT_ONE_IN
    }

    async fn refresh_record(
        &self,
        calls: BankCallContext<'_>,
        consent: &Consent,
        entry: &DueEntry,
        (asked, mut strong): (FetchPlan<'_>, bool),
    ) -> Result<RefreshReport, RefreshError> {
        let BankCallContext {
            bank,
            breaker_guard: watch,
            user_present: user,
        } = calls;
        let mut tokens = self.open_tokens(consent)?;
        let products = entry.watermarks.products();
        let started = self.clock.now();
        let (mut outcome, mut faults) = (RefreshOutcome::Contended, Vec::new());
        for _ in 0..MAX_FETCH_ATTEMPTS {
            let asked_at = self.clock.now();
            let from = window_start(utc_date(asked_at));
            let mut snapshot = Snapshot::default();
            let refusal = watch.rejection_fault();
            for (products, accounts) in &asked.account_groups {
                let ask = FetchRequest {
                    products,
                    from,
                    now: asked_at,
                    user_present: user,
                };
                let answer = match &refusal {
                    Some(fault) => snapshot_from_fault(fault, accounts, products),
                    None => {
                        let asked =
                            self.fetch_with_renewal(bank, consent, &mut tokens, accounts, ask);
                        asked.await?
                    }
                };
                snapshot.accounts.extend(answer.accounts);
            }
            if refusal.is_none() {
                watch
                    .record_outcomes(CallOutcomes::from_snapshot(&snapshot))
                    .await?;
            }
            let observed = digest_snapshot(&snapshot);
            faults.clone_from(&observed.faults);
            if !strong {
                if is_unchanged(entry, &observed) {
                    outcome = RefreshOutcome::Unchanged;
                    break;
                }
                if asked.suspended_products.is_empty()
                    && is_failing_unchanged(entry, &observed, consent, asked_at)
                {
                    outcome = RefreshOutcome::Failed;
                    break;
                }
            }
            let fetched = FetchedRecord {
                bank,
                secret: tokens.consent_secret(),
                consent,
                user_present: user,
                suspended_products: &asked.suspended_products,
                window_from: from,
                requested_at: asked_at,
                snapshot: &snapshot,
                snapshot_digests: &observed,
            };
            match self.commit_changes(entry.key, fetched).await? {
                CommitOutcome::Finished(done, disbelieved) => {
                    outcome = done;
                    faults.extend(disbelieved);
                    break;
                }
                // What we hold is older than what was committed; comparing it would undo that.
                CommitOutcome::Conflict => strong = true,
            }
        }
        let elapsed_ms = self.clock.now().as_millisecond() - started.as_millisecond();
        let refreshed = RefreshReport {
            record: entry.key.record,
            app: consent.app,
            bank: bank.id,
            products,
            outcome,
            faults,
            elapsed_ms,
        };
        self.observer.on_record_refreshed(&refreshed);
        Ok(refreshed)
    }
}

/// Seconds to the next probe of a bank that is down.
fn seconds_until_probe(down_fault: &BankFault) -> u32 {
    down_fault.retry_after_s.unwrap_or(MAX_QUEUE_DELAY_S)
}

/// True where nobody has to be told of an outage any more: every app was, or two refreshes could tell them.
fn is_outage_reported(chunk: &Chunk) -> bool {
    let told = |entry: &DueEntry| {
        entry
            .failure_state
            .as_ref()
            .is_some_and(FailureState::is_reported)
    };
    chunk.requeue_count >= 2 || chunk.records.iter().all(told)
}

/// Seconds after which a record is asked again that was not answered for a reason that passes by itself;
/// `None` where it waits for its next turn. Where the bank was `called`, a day's quota is not spent on it.
fn transient_retry_delay_s(
    refreshed: &RefreshReport,
    called_limits: Option<&BankLimits>,
) -> Option<u32> {
    let spends = called_limits.is_some_and(|limits| limits.unattended_per_day.is_some());
    let failed = refreshed.outcome == RefreshOutcome::Failed && !refreshed.faults.is_empty();
    if !failed || spends {
        return None;
    }
    let waits = refreshed.faults.iter().map(|(_, _, fault)| {
        use FaultClass::{BankUnavailable, RateLimited};
        let passes = matches!(fault.class, BankUnavailable | RateLimited);
        let wait_s = fault.retry_after_s.unwrap_or(MAX_QUEUE_DELAY_S);
        (passes && wait_s <= MAX_QUEUE_DELAY_S).then_some(wait_s)
    });
    waits.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// What came of one product of a record with so many accounts, as its job says it: where none of them had
/// an answer it failed, whatever came of the other product.
fn job_end_for_product(
    refreshed: &RefreshReport,
    product: Product,
    account_count: usize,
    ended_at: Timestamp,
) -> JobCompletion<'static> {
    let faults = refreshed.faults.iter();
    let faults = || faults.clone().filter(|(_, of, _)| *of == product);
    let failed: HashSet<AccountId> = faults().map(|(account, ..)| *account).collect();
    let silent = !failed.is_empty() && failed.len() >= account_count;
    let classes = || faults().map(|(_, _, fault)| fault.class);
    // What the user has to mend comes before what passes by itself.
    let reason = classes().find(|class| class.needs_user());
    let wait_s = faults()
        .filter_map(|(_, _, fault)| fault.retry_after_s)
        .max();
    let retry_at = wait_s.and_then(|wait_s| {
        let wait = SignedDuration::from_secs(wait_s.into());
        ended_at.checked_add(wait).ok()
    });
    JobCompletion {
        outcome: match silent {
            true => FAILED_OUTCOME,
            false => refreshed.outcome.as_str(),
        },
        fault_class: reason.or_else(|| classes().next()),
        retry_at,
        findings: job_findings(&refreshed.outcome),
    }
}

/// What a refresh found, as its job says it.
fn job_findings(outcome: &RefreshOutcome) -> JobFindings {
    match outcome {
        RefreshOutcome::Changed(changes) => JobFindings {
            balances: changes.balances,
            added: changes.added,
            modified: changes.modified,
            removed: changes.removed,
        },
        _ => JobFindings::default(),
    }
}

/// True where every product asked for reads as it did when it was last dispatched.
fn is_unchanged(entry: &DueEntry, snapshot_digests: &SnapshotDigests) -> bool {
    entry.failure_state.is_none()
        && entry.watermarks.iter().all(|(product, mark)| {
            mark.digest.is_some() && mark.digest.as_ref() == snapshot_digests.digests.get(product)
        })
}

/// True where what failed is what failed the last time, was told then, and where everything else reads
/// as before: a product of which no account answered changes nothing.
fn is_failing_unchanged(
    entry: &DueEntry,
    snapshot_digests: &SnapshotDigests,
    consent: &Consent,
    now: Timestamp,
) -> bool {
    let refresh_faults = RefreshFaults {
        faults: &snapshot_digests.faults,
        suspended: &SuspendedProducts::default(),
    };
    let accounts = consent.accounts.len();
    let before = entry.failure_state.as_ref();
    let known = before.is_some_and(FailureState::is_reported)
        && FailureState::after_refresh(before, refresh_faults, now).as_ref() == before;
    known
        && entry.watermarks.iter().all(|(product, mark)| {
            let failed = snapshot_digests
                .faults
                .iter()
                .filter(|(_, of, _)| *of == product);
            let silent = failed.count() == accounts;
            silent
                || (mark.digest.is_some()
                    && mark.digest.as_ref() == snapshot_digests.digests.get(product))
        })
}
