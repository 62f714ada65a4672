//! A step of a backfill: fetches one range of one account and commits its rows.
//!
//! [`FetchedRange`] is what the bank answered; [`BackfillStepOutcome`] is how the step ended. The rule: rows and progress
//! are committed in one transaction, so that a message that comes twice finds its step made.

use jiff::{SignedDuration, Timestamp, ToSpan};
use okra_connectors::BackfillResponse;
use okra_core::{
    backfill::{
        progress::{
            Backfill, BackfillOutcome, BackfillProgress, BackfillRange, BackfillStep, UnreadableDay,
        },
        step::{
            BackfillAction, StepFault, complete_step, next_backfill_action, outcome_for_fault,
            pause_after_step,
        },
    },
    model::{
        bank::BankConfig,
        fault::FaultClass,
        ids::RecordId,
        snapshot::{ByProduct, Product, Transaction, TransactionWindow},
    },
    refresh::commit_plan::number_entries,
    resilience::bank_breaker::CallOutcomes,
    schedule::plan::DueEntry,
    sync::{
        decide::Watermark,
        diff::diff_transactions,
        feed::{FeedEntry, FetchKind},
        identity::BOOKING_WINDOW_DAYS,
    },
};
use okra_store::{AdHocPermit, CommitError, Consistency, RecordHead};

use super::lifecycle::enqueue_step;
use crate::{
    RefreshError, Refresher,
    bank_breaker::BreakerGuard,
    commit::{CommitExtra, CommitRequest, DueUpdate, PublishOutcome},
    tokens::TokenError,
};

/// Times a step is committed against refreshes of the same record.
const MAX_COMMIT_ATTEMPTS: usize = 6;

/// Seconds between two steps at least, so that backfills leave the bank's rate to refreshes.
const MIN_STEP_PAUSE_S: u32 = 2;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillStepOutcome {
    /// It was made; the backfill has come so far.
    Advanced(BackfillProgress),
    /// It was made, and the backfill is complete.
    Complete(BackfillProgress),
    /// Its time has not come.
    Waiting,
    /// The record waits for its user; the backfill is resumed once they have authorised again.
    Parked,
    /// There is nothing to do: made before, or no longer linked.
    NothingToDo,
}

/// What a step has fetched.
struct FetchedRange {
    backfill: Backfill,
    range: BackfillRange,
    outcome: BackfillOutcome,
    /// The rows of the range, where they could be read.
    window: Option<TransactionWindow>,
    /// Seconds until the next step at least.
    pause_s: u32,
}

impl FetchedRange {
    /// What is fetched of a range without a day.
    const fn for_empty_range(backfill: Backfill, range: BackfillRange) -> Self {
        Self {
            backfill,
            range,
            outcome: BackfillOutcome::Received {
                rows: 0,
                first_available: None,
                unreadable_days: Vec::new(),
            },
            window: None,
            pause_s: 0,
        }
    }
}

/// How the fetch of a range ended.
enum RangeFetch {
    /// The bank answered, and the step is to be committed.
    Fetched(FetchedRange),
    /// The step ends without a commit.
    Ended(BackfillStepOutcome),
}

/// A bank's response, read for what it means for the step.
enum RangeResponse {
    Outcome(BackfillOutcome, Option<TransactionWindow>),
    Park,
}

/// How the commit of a step was tried.
enum StepCommit {
    Committed(Backfill),
    /// Somebody else made the step, or there is nothing to commit to.
    Obsolete,
    /// A refresh committed first: the step is compared and committed again.
    Retry,
}

impl Refresher {
    /// Makes a step of a record's backfill. `is_redelivered` says that the message was received before.
    #[tracing::instrument(name = "backfill", skip_all, fields(record.id = %step.record, bank.id = %step.bank, step = step.step))]
    pub async fn run_backfill_step(
        &self,
        step: BackfillStep,
        is_redelivered: bool,
    ) -> Result<BackfillStepOutcome, RefreshError> {
        let now = self.clock.now();
        let record = step.record;
        let backfill = self
            .store
            .find_backfill(record, Consistency::Strong)
            .await?;
        let head = self.store.find_head(record, Consistency::Strong).await?;
        let (Some(backfill), Some(head)) = (backfill, head) else {
            return Ok(BackfillStepOutcome::NothingToDo);
        };
        match next_backfill_action(&backfill, step.step, is_redelivered, head.status, now) {
            BackfillAction::Fetch => self.fetch_and_commit_step(backfill, &head).await,
            BackfillAction::Ignore => Ok(BackfillStepOutcome::NothingToDo),
            BackfillAction::Park => Ok(BackfillStepOutcome::Parked),
            BackfillAction::EnqueueNext => {
                enqueue_step(&self.queues, &head, &backfill, now).await?;
                Ok(BackfillStepOutcome::NothingToDo)
            }
            BackfillAction::Wait => {
                enqueue_step(&self.queues, &head, &backfill, now).await?;
                Ok(BackfillStepOutcome::Waiting)
            }
        }
    }

    /// Fetches the next range, commits it and enqueues the next step.
    async fn fetch_and_commit_step(
        &self,
        backfill: Backfill,
        head: &RecordHead,
    ) -> Result<BackfillStepOutcome, RefreshError> {
        let bank = self.bank_config(head.bank).await?;
        let counts_calls = bank.limits.unattended_per_day.is_some();
        let Some(range) = backfill.next_range(counts_calls) else {
            return Ok(BackfillStepOutcome::NothingToDo);
        };
        let fetched = match range.is_empty() {
            true => FetchedRange::for_empty_range(backfill, range),
            false => match self.fetch_range(&bank, head, backfill, range).await? {
                RangeFetch::Fetched(fetched) => fetched,
                RangeFetch::Ended(outcome) => return Ok(outcome),
            },
        };
        let Some(backfill) = self.commit_backfill_step(head.record, fetched).await? else {
            return Ok(BackfillStepOutcome::NothingToDo);
        };
        let progress = backfill.measure_progress();
        if backfill.is_complete() {
            return Ok(BackfillStepOutcome::Complete(progress));
        }
        enqueue_step(&self.queues, head, &backfill, self.clock.now()).await?;
        Ok(BackfillStepOutcome::Advanced(progress))
    }

    /// Fetches a range, where the bank's circuit breaker and its rate allow it now; else the step is enqueued for later.
    async fn fetch_range(
        &self,
        bank: &BankConfig,
        head: &RecordHead,
        backfill: Backfill,
        range: BackfillRange,
    ) -> Result<RangeFetch, RefreshError> {
        let now = self.clock.now();
        let breaker = self.guard_bank(head.bank).await?;
        if let Some(next_step_at) = self.find_later_time(bank, &breaker).await? {
            let later = Backfill {
                next_step_at,
                ..backfill
            };
            enqueue_step(&self.queues, head, &later, now).await?;
            return Ok(RangeFetch::Ended(BackfillStepOutcome::Waiting));
        }
        let response = self.request_range(bank, head, &range).await?;
        let outcomes = response.as_ref().map(call_outcomes).unwrap_or_default();
        breaker.record_outcomes(outcomes).await?;
        breaker.store_breaker().await?;
        let Some(response) = response else {
            return Ok(RangeFetch::Ended(BackfillStepOutcome::NothingToDo));
        };
        let counts_calls = bank.limits.unattended_per_day.is_some();
        let (outcome, window) = match read_response(response, backfill.failures, counts_calls) {
            RangeResponse::Outcome(outcome, window) => (outcome, window),
            RangeResponse::Park => return Ok(RangeFetch::Ended(BackfillStepOutcome::Parked)),
        };
        // Where the bank counts calls, a step takes one of the day's. Without an interval the step is not committed.
        let interval = head.schedule.transactions;
        let steps_per_day = interval.and_then(|it| bank.limits.backfill_steps_per_day(it));
        Ok(RangeFetch::Fetched(FetchedRange {
            backfill,
            range,
            outcome,
            window,
            pause_s: pause_after_step(steps_per_day, MIN_STEP_PAUSE_S),
        }))
    }

    /// When the bank may be called, where that is not now.
    async fn find_later_time(
        &self,
        bank: &BankConfig,
        breaker: &BreakerGuard<'_>,
    ) -> Result<Option<Timestamp>, RefreshError> {
        let Some(down) = breaker.rejection_fault() else {
            return Ok(match self.acquire_bank_permit(bank).await? {
                AdHocPermit::GrantedAt(_) => None,
                AdHocPermit::ExhaustedUntil(until) => Some(until),
            });
        };
        let wait_s = down.retry_after_s.unwrap_or(0).max(MIN_STEP_PAUSE_S);
        let wait = SignedDuration::from_secs(wait_s.into());
        // A time past the last that there is never comes; the step waits as long as a message can.
        Ok(Some(
            self.clock
                .now()
                .saturating_add(wait)
                .unwrap_or(Timestamp::MAX),
        ))
    }

    /// Calls the bank; `None` where the record or the account is no longer linked.
    async fn request_range(
        &self,
        bank: &BankConfig,
        head: &RecordHead,
        range: &BackfillRange,
    ) -> Result<Option<BackfillResponse>, RefreshError> {
        let consent = self
            .store
            .find_consent(head.record, Consistency::Eventual)
            .await?;
        let Some(consent) = consent else {
            return Ok(None);
        };
        let mut linked = consent.accounts.iter();
        let Some(linked) = linked.find(|it| it.account_id == range.account) else {
            return Ok(None);
        };
        let tokens = match self.open_fresh_tokens(bank, &consent).await {
            Ok(tokens) => tokens,
            Err(TokenError::Bank(fault)) => return Ok(Some(BackfillResponse::Fault(fault))),
            Err(TokenError::Refresh(error)) => return Err(error),
        };
        let dates = range.from..range.to;
        let (secret, account) = (tokens.consent_secret(), &linked.bank_account_id);
        let now = self.clock.now();
        let response = self
            .connectors
            .fetch_backfill(bank, secret, account, dates, now);
        Ok(Some(response.await))
    }

    /// Commits the new rows of a range and the progress of the backfill, and dispatches both. `None` where somebody else
    /// made the step.
    async fn commit_backfill_step(
        &self,
        record: RecordId,
        fetched: FetchedRange,
    ) -> Result<Option<Backfill>, RefreshError> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            match self.try_commit_step(record, &fetched).await? {
                StepCommit::Committed(backfill) => return Ok(Some(backfill)),
                StepCommit::Obsolete => return Ok(None),
                StepCommit::Retry => {}
            }
        }
        Err(RefreshError::Commit(CommitError::Conflict))
    }

    async fn try_commit_step(
        &self,
        record: RecordId,
        fetched: &FetchedRange,
    ) -> Result<StepCommit, RefreshError> {
        let now = self.clock.now();
        let Some(head) = self.store.find_head(record, Consistency::Strong).await? else {
            return Ok(StepCommit::Obsolete);
        };
        let Some(interval) = head.schedule.transactions else {
            return Ok(StepCommit::Obsolete);
        };
        let key = head.due_key(interval);
        let Some(due) = self.store.find_due_entry(key, Consistency::Strong).await? else {
            return Ok(StepCommit::Retry);
        };
        // What a crash left undone is done first: rows that are committed and not yet stored would
        // seem to be new.
        let repaired = self.pipeline().repair_dispatch(&due, &head).await?;
        let added = match &fetched.window {
            Some(window) => self.find_new_rows(&fetched.range, window).await?,
            None => Vec::new(),
        };
        let completed = complete_step(
            fetched.backfill.clone(),
            fetched.range,
            fetched.outcome.clone(),
            &added,
            fetched.pause_s,
            now,
        );
        let backfill = completed.backfill;
        let states = completed.state_change.into_iter().collect();
        let entries = number_entries(record, head.seq, now, completed.changes, states);
        if entries.is_empty() {
            return Ok(match self.store.put_backfill(record, &backfill).await? {
                true => StepCommit::Committed(backfill),
                false => StepCommit::Obsolete,
            });
        }
        let committed = committed_watermark(&head, &entries);
        let request = CommitRequest {
            head: &head,
            due: Some(&due),
            entries: &entries,
            watermarks: ByProduct {
                balance: None,
                transactions: Some(committed),
            },
            status: None,
            extra: CommitExtra::Backfill(&backfill),
            now,
        };
        let published = match self.pipeline().publish(request, repaired).await? {
            PublishOutcome::Published(published) => published,
            PublishOutcome::Conflict => return self.retry_or_give_up(record, fetched).await,
        };
        let update = DueUpdate::Advance {
            due: &due,
            watermarks: dispatched_watermarks(&due, committed),
        };
        self.pipeline().advance(&published, update).await?;
        Ok(StepCommit::Committed(backfill))
    }

    /// After a conflict the step is committed again, unless somebody else made it.
    async fn retry_or_give_up(
        &self,
        record: RecordId,
        fetched: &FetchedRange,
    ) -> Result<StepCommit, RefreshError> {
        let stored = self
            .store
            .find_backfill(record, Consistency::Strong)
            .await?;
        Ok(match stored {
            Some(stored) if stored.step == fetched.backfill.step => StepCommit::Retry,
            Some(_) | None => StepCommit::Obsolete,
        })
    }

    /// The rows of a range that are not stored, with the identities they get.
    async fn find_new_rows(
        &self,
        range: &BackfillRange,
        window: &TransactionWindow,
    ) -> Result<Vec<Transaction>, RefreshError> {
        let from = range.from.saturating_sub(BOOKING_WINDOW_DAYS.days());
        let to = range.to.saturating_add(BOOKING_WINDOW_DAYS.days());
        let stored = self
            .store
            .list_transactions(range.account, from, Some(to), Consistency::Strong)
            .await?;
        let stored: Vec<_> = stored.into_iter().map(|row| row.transaction).collect();
        Ok(diff_transactions(range.account, &stored, window, FetchKind::Backfill).added)
    }
}

/// What is committed of the transactions with a step's entries: their digest is that of the last refresh.
fn committed_watermark(head: &RecordHead, entries: &[FeedEntry]) -> Watermark {
    let before = head.watermarks.transactions.unwrap_or_default();
    let mut rows = entries.iter().rev();
    let last = rows.find(|entry| entry.change.concerns_product(Product::Transactions));
    Watermark {
        seq: last.map_or(before.seq, |entry| entry.seq),
        ..before
    }
}

/// What the due entry says after a step. It keeps its own digests: a step says nothing of what a refresh reads.
fn dispatched_watermarks(due: &DueEntry, committed: Watermark) -> ByProduct<Watermark> {
    let digest = due.watermarks.transactions.and_then(|it| it.digest);
    ByProduct {
        balance: due.watermarks.balance,
        transactions: Some(Watermark {
            digest,
            ..committed
        }),
    }
}

fn read_response(
    response: BackfillResponse,
    prior_failures: u8,
    counts_calls: bool,
) -> RangeResponse {
    match response {
        BackfillResponse::Rows {
            window,
            first_available,
        } => {
            // The rows that are new are counted once they are compared with those stored.
            let unreadable = window.unreadable.iter().map(|row| UnreadableDay {
                date: row.day.unwrap_or(window.from),
                reason: row.fault.clone(),
            });
            let received = BackfillOutcome::Received {
                rows: 0,
                first_available,
                unreadable_days: unreadable.collect(),
            };
            RangeResponse::Outcome(received, Some(window))
        }
        BackfillResponse::Unreadable(fault) => {
            let unreadable = BackfillOutcome::Unreadable {
                reason: fault.detail,
            };
            RangeResponse::Outcome(unreadable, None)
        }
        BackfillResponse::DatesRejected => RangeResponse::Outcome(BackfillOutcome::Rejected, None),
        BackfillResponse::Fault(fault) => {
            match outcome_for_fault(fault, prior_failures, counts_calls) {
                StepFault::Outcome(outcome) => RangeResponse::Outcome(outcome, None),
                StepFault::Park => RangeResponse::Park,
            }
        }
    }
}

/// What a response says of the bank itself.
fn call_outcomes(response: &BackfillResponse) -> CallOutcomes {
    match response {
        BackfillResponse::Fault(fault) if fault.class == FaultClass::BankUnavailable => {
            CallOutcomes {
                successes: 0,
                failures: 1,
                retry_after_s: fault.retry_after_s,
            }
        }
        BackfillResponse::Fault(fault) if fault.class == FaultClass::Internal => {
            CallOutcomes::default()
        }
        BackfillResponse::Rows { .. }
        | BackfillResponse::Unreadable(_)
        | BackfillResponse::DatesRejected
        | BackfillResponse::Fault(_) => CallOutcomes {
            successes: 1,
            failures: 0,
            retry_after_s: None,
        },
    }
}
