//! A chunk: records of one bank, refreshed with bounded concurrency.
//!
//! [`Refresher::refresh_chunk`] admits a chunk, refreshes its records and requeues those that come again before their
//! next turn. The rule: a fault of our own on one record does not stop the others (law 7); it is returned at the end, so
//! that the message comes again.

use std::collections::HashMap;

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use jiff::Timestamp;
use okra_core::{
    model::ids::RecordId,
    refresh::{
        chunk::{
            ChunkAdmission, RecordCalls, admit_chunk, is_audit_due, is_stale, requeue_delay_after,
            split_late_chunk,
        },
        job::product_result,
        outcome::RefreshOutcome,
    },
    schedule::plan::{Chunk, DueEntry, RefreshTrigger},
};
use okra_queue::ChunkQueue;
use okra_store::{Consent, FAILED_OUTCOME, JobCompletion, JobFindings};

use crate::{
    ChunkReport, RefreshError, RefreshReport, Refresher, bank_breaker::BreakerGuard,
    fetch::ChunkTerms,
};

/// How a record ended, and after how many seconds it comes again before its next turn.
struct RecordResult<'a> {
    outcome: RefreshOutcome,
    requeue: Option<(&'a DueEntry, u32)>,
}

impl RecordResult<'_> {
    const fn without_requeue(outcome: RefreshOutcome) -> Self {
        Self {
            outcome,
            requeue: None,
        }
    }
}

/// What is added up of the records of a chunk.
#[derive(Default)]
struct ChunkTally {
    report: ChunkReport,
    error: Option<RefreshError>,
    requeued: Vec<DueEntry>,
    wait_s: u32,
}

impl ChunkTally {
    fn add_result(&mut self, result: Result<RecordResult<'_>, RefreshError>) {
        match result {
            Ok(record) => {
                self.report.count_outcome(&record.outcome);
                if let Some((entry, wait_s)) = record.requeue {
                    self.requeued.push(entry.clone());
                    self.wait_s = self.wait_s.max(wait_s);
                }
            }
            Err(error) => self.error = Some(error),
        }
    }
}

impl Refresher {
    /// Refreshes the records of a chunk. `is_redelivered` says that the message was received before: a
    /// crash may have left work half done, so each record takes the strong read.
    ///
    /// A chunk that comes late takes permits of the bank's rate, one for each record; what gets none is requeued. So is
    /// what could not be fetched because the bank is down, or did not answer, where the next turn is far off.
    #[tracing::instrument(name = "chunk", skip_all, fields(chunk.id = %chunk.id, bank.id = %chunk.bank, records = chunk.records.len()))]
    pub async fn refresh_chunk(
        &self,
        mut chunk: Chunk,
        is_redelivered: bool,
    ) -> Result<ChunkReport, RefreshError> {
        let mut report = ChunkReport::default();
        let now = self.clock.now();
        if is_stale(&chunk, now) {
            report.stale = chunk.records.len();
            return Ok(report);
        }
        let breaker = self.guard_bank(chunk.bank).await?;
        match admit_chunk(&chunk, breaker.rejection_fault().as_ref(), now) {
            ChunkAdmission::Admitted => {}
            ChunkAdmission::Requeue { wait_s } => {
                let records = std::mem::take(&mut chunk.records);
                report.deferred = records.len();
                report.requeued = self.requeue_records(&chunk, records, wait_s).await?;
                return Ok(report);
            }
            ChunkAdmission::NeedsPermits => {
                self.defer_unpermitted(&mut chunk, &breaker, &mut report, now)
                    .await?;
                if chunk.records.is_empty() {
                    return Ok(report);
                }
            }
        }

        // Read the consents of all records in one batch.
        let ids: Vec<RecordId> = chunk.records.iter().map(|entry| entry.key.record).collect();
        let consents = self.store.load_consents(&ids).await?;
        let consents: HashMap<RecordId, Consent> =
            consents.into_iter().map(|it| (it.record, it)).collect();
        if consents.is_empty() {
            report.gone = chunk.records.len();
            return Ok(report);
        }
        let bank = self.bank_config(chunk.bank).await?;
        let (is_on_demand, user_present) = match chunk.trigger {
            RefreshTrigger::OnDemand { user, .. } => (true, user),
            RefreshTrigger::Scheduled { .. } => (false, None),
        };
        let terms = ChunkTerms {
            bank: &bank,
            breaker: &breaker,
            is_on_demand,
            user_present,
            started_at: now,
        };

        // Refresh them, a claimed probe before all others.
        let work = chunk.records.iter().map(|entry| {
            let consent = consents.get(&entry.key.record);
            self.refresh_entry(&chunk, terms, entry, consent, is_redelivered)
                .boxed()
        });
        let tally = run_records(work.collect(), &breaker, bank.limits.concurrency).await;
        breaker.store_breaker().await?;
        report += tally.report;
        if chunk.is_worth_requeueing() {
            report.requeued += self
                .requeue_records(&chunk, tally.requeued, tally.wait_s)
                .await?;
        }
        tally.error.map_or(Ok(report), Err)
    }

    /// Takes permits for the records of a late chunk, and requeues those that get none.
    async fn defer_unpermitted(
        &self,
        chunk: &mut Chunk,
        breaker: &BreakerGuard<'_>,
        report: &mut ChunkReport,
        now: Timestamp,
    ) -> Result<(), RefreshError> {
        let Some(rate) = self.bank_rate_limit(chunk.bank).await? else {
            return Ok(());
        };
        let wanted = chunk.records.len();
        let permits = self
            .store
            .take_ad_hoc_permits(chunk.bank, rate, now, wanted)
            .await?;
        let split = split_late_chunk(chunk, permits, breaker.is_probing(), now);
        let deferred = chunk.records.split_off(split.refreshed);
        report.deferred = deferred.len();
        report.requeued = self.requeue_records(chunk, deferred, split.wait_s).await?;
        Ok(())
    }

    /// Refreshes the record of a due entry, and does what follows from how that ended.
    async fn refresh_entry<'a>(
        &self,
        chunk: &Chunk,
        terms: ChunkTerms<'_>,
        entry: &'a DueEntry,
        consent: Option<&Consent>,
        is_redelivered: bool,
    ) -> Result<RecordResult<'a>, RefreshError> {
        let Some(consent) = consent else {
            return Ok(RecordResult::without_requeue(RefreshOutcome::Gone));
        };
        let needs_strong_read = is_redelivered
            || chunk.requeue_count > 0
            || terms.is_on_demand
            || is_audit_due(entry, self.clock.now());
        let was_called = terms.breaker.rejection_fault().is_none();
        let refreshed = self
            .refresh_record(terms, consent, entry, needs_strong_read)
            .await?;
        let Some(report) = &refreshed.report else {
            return Ok(RecordResult::without_requeue(RefreshOutcome::Deferred));
        };
        let calls = RecordCalls {
            called_limits: was_called.then_some(&terms.bank.limits),
            is_circuit_open: terms.breaker.rejection_fault().is_some(),
            requeue_count: chunk.requeue_count,
        };
        let wait_s = requeue_delay_after(&report.outcome, &report.faults, entry, calls);
        if chunk.is_job() {
            self.end_jobs(&chunk.id, consent, report).await?;
        }
        // The bank went on answering after the end that we knew of.
        if refreshed.is_consent_expired && report.outcome.has_response() {
            self.store.clear_consent_clock(consent.record).await?;
        }
        Ok(RecordResult {
            outcome: report.outcome.clone(),
            requeue: wait_s.map(|wait_s| (entry, wait_s)),
        })
    }

    /// Stores for each product how the job ended that the chunk carried out.
    async fn end_jobs(
        &self,
        job: &str,
        consent: &Consent,
        report: &RefreshReport,
    ) -> Result<(), RefreshError> {
        let ended_at = self.clock.now();
        for &product in &report.products {
            let result = product_result(&report.faults, product, consent.accounts.len(), ended_at);
            let completion = JobCompletion {
                outcome: match result.is_failed {
                    true => FAILED_OUTCOME,
                    false => report.outcome.as_str(),
                },
                fault_class: result.fault_class,
                retry_at: result.retry_at,
                findings: job_findings(&report.outcome),
            };
            self.store
                .end_job(report.record, product, job, completion, ended_at)
                .await?;
        }
        Ok(())
    }

    /// Enqueues records of a chunk so that they come again after `wait_s` seconds; returns how many do.
    pub(crate) async fn requeue_records(
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
}

/// Runs the refreshes of a chunk: one after the other while a probe is to be made, then up to `concurrency` at once.
async fn run_records<'a>(
    work: Vec<BoxFuture<'_, Result<RecordResult<'a>, RefreshError>>>,
    breaker: &BreakerGuard<'_>,
    concurrency: u16,
) -> ChunkTally {
    let mut tally = ChunkTally::default();
    let mut work = work.into_iter();
    while breaker.is_probing()
        && let Some(record) = work.next()
    {
        tally.add_result(record.await);
    }
    let concurrency = usize::from(concurrency.max(1));
    let mut results = stream::iter(work).buffer_unordered(concurrency);
    while let Some(result) = results.next().await {
        tally.add_result(result);
    }
    tally
}

/// What a refresh found, as its job states it.
fn job_findings(outcome: &RefreshOutcome) -> JobFindings {
    match outcome {
        RefreshOutcome::Changed(changes) => JobFindings {
            balances: changes.balances,
            added: changes.added,
            modified: changes.modified,
            removed: changes.removed,
        },
        RefreshOutcome::Unchanged
        | RefreshOutcome::Failed
        | RefreshOutcome::Contended
        | RefreshOutcome::Gone
        | RefreshOutcome::Deferred => JobFindings::default(),
    }
}
