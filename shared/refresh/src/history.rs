//! The pull of a record's history, after its first pull: a bounded stretch of one account at a step,
//! each step a message, so that it survives crashes, waits as long as the bank wants, and gets no
//! record in another's way.
//!
//! A step commits its rows and how far it has come in one transaction. It removes nothing and edits
//! nothing: what is younger than the stretch is the regular refreshes' business. A message that comes
//! twice finds the step made, and only sees to it that the next one is on its way.

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date};
use okra_connectors::BackfillResponse;
use okra_core::{
    backfill::progress::{
        Backfill, BackfillOutcome, BackfillProgress, BackfillRange, BackfillStep, MAX_STEP_FAILURES,
    },
    model::{
        bank::BankConfig,
        fault::{BankFault, FaultClass},
        ids::{AccountId, RecordId},
        snapshot::{ByProduct, Product, TransactionWindow, utc_date},
    },
    resilience::bank_breaker::CallOutcomes,
    sync::{
        decide::Watermark,
        diff::diff_transactions,
        feed::{Change, FetchKind, MAX_CHANGES_PER_ENTRY, TransactionsDiff},
        identity::BOOKING_WINDOW_DAYS,
        state::{BackfillComplete, RecordStatus, StateChange},
    },
};
use okra_queue::Queues;
use okra_store::{AdHocPermit, CommitError, Consistency, RecordHead, Store};

use crate::{RefreshError, Refresher, reconcile::number_entries};

/// Times a step is committed against refreshes of the same record.
const MAX_COMMIT_ATTEMPTS: usize = 6;

/// Seconds between two steps at least, so that histories leave the bank's rate to refreshes.
const MIN_STEP_PAUSE_S: u32 = 2;

/// Seconds that a message can wait.
const MAX_MESSAGE_DELAY_S: i64 = 900;

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillStepOutcome {
    /// It was made; so far the history has come.
    Advanced(BackfillProgress),
    /// The whole history is there.
    Complete(BackfillProgress),
    /// Its time has not come.
    Waiting,
    /// The record waits for its user; the history goes on when he was there.
    Parked,
    /// There is nothing to do: made before, or not linked any more.
    NothingToDo,
}

/// Begins the history of a record up to `start`, where none was begun, and sees to it that its first
/// step is made.
pub(crate) async fn begin_backfill(
    store: &Store,
    queues: &Queues,
    head: &RecordHead,
    (answered, start): (&[AccountId], Date),
    now: Timestamp,
) -> Result<(), RefreshError> {
    let accounts = answered.iter().copied();
    let history = Backfill::new(accounts, start, utc_date(now), head.backfill_months, now);
    if store.put_backfill(head.record, &history).await? {
        return enqueue_step(queues, head, &history, now).await;
    }
    match store
        .find_backfill(head.record, Consistency::Strong)
        .await?
    {
        // It was stored, and whoever stored it may have crashed.
        Some(history) if history.step == 0 => enqueue_step(queues, head, &history, now).await,
        Some(_) | None => Ok(()),
    }
}

/// Notes which accounts' transactions were answered from `window` on, and opens the history again for the
/// months that no answer covered before. Done before that answer is committed: after a crash in
/// between, [`tend`] finds a history that is not complete. Returns the history as it is then; `None`
/// where there is none, or somebody else made a step.
pub(crate) async fn record_covered_window(
    store: &Store,
    record: RecordId,
    (answered, window): (&[AccountId], Date),
    now: Timestamp,
) -> Result<Option<CoverageUpdate>, RefreshError> {
    let Some(history) = store.find_backfill(record, Consistency::Eventual).await? else {
        return Ok(None);
    };
    let Some(seen) = history.after_refresh(answered, window, now) else {
        let opened = false;
        return Ok(Some(CoverageUpdate {
            backfill: history,
            is_reopened: opened,
        }));
    };
    let noted = store.put_backfill(record, &seen).await?;
    Ok(noted.then(|| CoverageUpdate {
        is_reopened: !seen.is_complete(),
        backfill: seen,
    }))
}

/// The history of a record that a refresh has looked at.
pub(crate) struct CoverageUpdate {
    backfill: Backfill,
    /// It was opened again just now: its step has no message yet.
    is_reopened: bool,
}

/// Asks again for what the history of a record lacks, now that its bank's customer was there: he may
/// have allowed more.
///
/// # Errors
///
/// [`RefreshError`].
pub async fn retry_backfill(
    store: &Store,
    record: RecordId,
    now: Timestamp,
) -> Result<(), RefreshError> {
    let history = store.find_backfill(record, Consistency::Strong).await?;
    if let Some(retried) = history.and_then(|history| history.reopen_incomplete(true, now)) {
        store.put_backfill(record, &retried).await?;
    }
    Ok(())
}

/// Lets a history go on that was parked or opened again.
///
/// # Errors
///
/// [`RefreshError`].
pub async fn resume_backfill(
    store: &Store,
    queues: &Queues,
    head: &RecordHead,
    now: Timestamp,
) -> Result<(), RefreshError> {
    match store
        .find_backfill(head.record, Consistency::Strong)
        .await?
    {
        Some(history) if !history.is_complete() => enqueue_step(queues, head, &history, now).await,
        Some(_) | None => Ok(()),
    }
}

/// Makes the next step of a history that was opened again, whose message was lost, or that lacks
/// something for long enough. Looked for by each refresh that reads the head, at half a read unit.
/// `unsettled` says that whoever began it may have crashed.
pub(crate) async fn maintain_backfill(
    store: &Store,
    queues: &Queues,
    head: &RecordHead,
    (noted, unsettled): (Option<CoverageUpdate>, bool),
    now: Timestamp,
) -> Result<(), RefreshError> {
    let history = match noted {
        Some(CoverageUpdate {
            backfill: history,
            is_reopened: opened,
        }) if opened || (unsettled && history.step == 0) => {
            return enqueue_step(queues, head, &history, now).await;
        }
        Some(CoverageUpdate {
            backfill: history, ..
        }) => Some(history),
        None => {
            store
                .find_backfill(head.record, Consistency::Eventual)
                .await?
        }
    };
    let due = history.and_then(|it| {
        it.revive_lost_step(now)
            .or_else(|| it.reopen_incomplete(false, now))
    });
    if let Some(due) = due
        && store.put_backfill(head.record, &due).await?
    {
        enqueue_step(queues, head, &due, now).await?;
    }
    Ok(())
}

async fn enqueue_step(
    queues: &Queues,
    head: &RecordHead,
    backfill: &Backfill,
    now: Timestamp,
) -> Result<(), RefreshError> {
    let step = BackfillStep {
        record: head.record,
        bank: head.bank,
        step: backfill.step,
    };
    // Rounded up: a step that comes a part of a second too soon would enqueue itself at once, over
    // and over, until that second is over.
    let wait_ms = backfill.next_step_at.duration_since(now).as_millis().max(0);
    let wait_s = (wait_ms + 999) / 1000;
    let delay_s = u16::try_from(wait_s.min(i128::from(MAX_MESSAGE_DELAY_S))).unwrap_or(0);
    Ok(queues.send_backfill_step(step, delay_s).await?)
}

impl Refresher {
    /// Makes a step of a record's history. `redelivered` says that the message was received before.
    pub async fn run_backfill_step(
        &self,
        step: BackfillStep,
        is_redelivered: bool,
    ) -> Result<BackfillStepOutcome, RefreshError> {
        let now = self.clock.now();
        let record = step.record;
        let history = self
            .store
            .find_backfill(record, Consistency::Strong)
            .await?;
        let head = self.store.find_head(record, Consistency::Strong).await?;
        let (Some(history), Some(head)) = (history, head) else {
            return Ok(BackfillStepOutcome::NothingToDo);
        };
        if history.step != step.step {
            // Who made it may have crashed before the next was on its way.
            if is_redelivered
                && history.step == step.step.saturating_add(1)
                && !history.is_complete()
            {
                enqueue_step(&self.queues, &head, &history, now).await?;
            }
            return Ok(BackfillStepOutcome::NothingToDo);
        }
        if head.status != RecordStatus::Active {
            return Ok(BackfillStepOutcome::Parked);
        }
        if history.next_step_at > now {
            enqueue_step(&self.queues, &head, &history, now).await?;
            return Ok(BackfillStepOutcome::Waiting);
        }
        let bank = self.bank_config(head.bank).await?;
        let once = bank.limits.unattended_per_day.is_some();
        let Some(stretch) = history.next_range(once) else {
            return Ok(BackfillStepOutcome::NothingToDo);
        };
        let pulled = match stretch.is_empty() {
            true => Ok(FetchedRange::for_empty_range(history, stretch)),
            false => self.fetch_range(&bank, &head, history, stretch).await?,
        };
        let pulled = match pulled {
            Ok(pulled) => pulled,
            Err(outcome) => return Ok(outcome),
        };
        let Some(history) = self.commit_backfill_step(record, pulled).await? else {
            return Ok(BackfillStepOutcome::NothingToDo);
        };
        let progress = history.measure_progress();
        if history.is_complete() {
            return Ok(BackfillStepOutcome::Complete(progress));
        }
        enqueue_step(&self.queues, &head, &history, self.clock.now()).await?;
        Ok(BackfillStepOutcome::Advanced(progress))
    }

    /// Asks the bank for a stretch, where its circuit and its pace let it; else what became of the step.
    async fn fetch_range(
        &self,
        bank: &BankConfig,
        head: &RecordHead,
        backfill: Backfill,
        backfill_range: BackfillRange,
    ) -> Result<Result<FetchedRange, BackfillStepOutcome>, RefreshError> {
        let now = self.clock.now();
        let watch = self.guard_bank(head.bank).await?;
        let later = match watch.rejection_fault() {
            Some(down) => {
                let wait_s = down.retry_after_s.unwrap_or(0).max(MIN_STEP_PAUSE_S);
                let until = now.saturating_add(SignedDuration::from_secs(wait_s.into()));
                Some(until.unwrap_or(now))
            }
            None => match self.acquire_bank_permit(bank).await? {
                AdHocPermit::GrantedAt(_) => None,
                AdHocPermit::ExhaustedUntil(until) => Some(until),
            },
        };
        if let Some(next_at) = later {
            enqueue_step(
                &self.queues,
                head,
                &Backfill {
                    next_step_at: next_at,
                    ..backfill
                },
                now,
            )
            .await?;
            return Ok(Err(BackfillStepOutcome::Waiting));
        }
        let (answer, pause_s) = self.request_range(head, &backfill_range).await?;
        watch
            .record_outcomes(call_outcomes(answer.as_ref()))
            .await?;
        watch.store_breaker().await?;
        let Some(answer) = answer else {
            return Ok(Err(BackfillStepOutcome::NothingToDo));
        };
        let (asked, window) = match answer {
            BackfillResponse::Rows {
                window,
                first_available,
            } => (
                BackfillOutcome::Received {
                    rows: 0,
                    first_available,
                },
                Some(window),
            ),
            BackfillResponse::Unreadable(fault) => (
                BackfillOutcome::Unreadable {
                    reason: fault.detail,
                },
                None,
            ),
            BackfillResponse::DatesRejected => (BackfillOutcome::Rejected, None),
            BackfillResponse::Fault(fault) if bank.limits.unattended_per_day.is_some() => {
                (quota_bank_outcome(fault, backfill.failures), None)
            }
            BackfillResponse::Fault(fault) => {
                // The regular refresh says that the user is needed; nothing is counted against him.
                if fault.class == FaultClass::ConsentRejected
                    && backfill.failures + 1 >= MAX_STEP_FAILURES
                {
                    return Ok(Err(BackfillStepOutcome::Parked));
                }
                let retry_after_s = fault.retry_after_s;
                (BackfillOutcome::Failed { retry_after_s }, None)
            }
        };
        Ok(Ok(FetchedRange {
            backfill,
            range: backfill_range,
            outcome: asked,
            window,
            pause_s,
        }))
    }

    /// Asks the bank, where the record is still linked; and how long to pause until the next step.
    async fn request_range(
        &self,
        head: &RecordHead,
        backfill_range: &BackfillRange,
    ) -> Result<(Option<BackfillResponse>, u32), RefreshError> {
        let consent = self
            .store
            .find_consent(head.record, Consistency::Eventual)
            .await?;
        let Some(consent) = consent else {
            return Ok((None, MIN_STEP_PAUSE_S));
        };
        let at_bank = consent
            .accounts
            .iter()
            .find(|it| it.account_id == backfill_range.account);
        let Some(at_bank) = at_bank else {
            return Ok((None, MIN_STEP_PAUSE_S));
        };
        let bank = self.bank_config(head.bank).await?;
        let range = backfill_range.from..backfill_range.to;
        let (account, now) = (&at_bank.bank_account_id, self.clock.now());
        let answer = match self.open_fresh_tokens(&bank, &consent).await? {
            Ok(tokens) => {
                let (connectors, secret) = (&self.connectors, tokens.consent_secret());
                connectors
                    .fetch_backfill(&bank, secret, account, range, now)
                    .await
            }
            Err(fault) => BackfillResponse::Fault(fault),
        };
        // Where the bank counts refreshes, a step takes one of the day's; else one of the pace.
        let interval = head.schedule.transactions.unwrap_or_default();
        let pause_s = match bank.limits.backfill_steps_per_day(interval) {
            Some(steps) => 86_400 / u32::from(steps.max(1)),
            None => MIN_STEP_PAUSE_S,
        };
        Ok((Some(answer), pause_s))
    }

    /// Commits the new rows of a stretch and how far the history has come with them, and tells of both.
    /// `None` where somebody else made the step.
    async fn commit_backfill_step(
        &self,
        record: RecordId,
        fetched: FetchedRange,
    ) -> Result<Option<Backfill>, RefreshError> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let now = self.clock.now();
            let Some(head) = self.store.find_head(record, Consistency::Strong).await? else {
                return Ok(None);
            };
            let Some(interval) = head.schedule.transactions else {
                return Ok(None);
            };
            let key = head.due_key(interval);
            let Some(due) = self.store.find_due_entry(key, Consistency::Strong).await? else {
                continue;
            };
            // What a crash left undone is done first: rows that are committed and not yet stored would
            // seem to be new.
            let mut changes = self.repair_dispatch(&due, &head).await?;
            let added = match &fetched.window {
                Some(window) => self.find_new_rows(&fetched.range, window).await?,
                None => Vec::new(),
            };
            let asked = match fetched.outcome.clone() {
                BackfillOutcome::Received {
                    first_available, ..
                } => BackfillOutcome::Received {
                    rows: added.len(),
                    first_available,
                },
                other => other,
            };
            let history =
                fetched
                    .backfill
                    .clone()
                    .after_step(fetched.range, asked, now, fetched.pause_s);
            let account = fetched.range.account;
            let ended = history.accounts.iter().find(|it| it.account == account);
            let complete = ended.and_then(|it| {
                let complete = BackfillComplete {
                    oldest_date: it.reached_date,
                    rows: it.rows,
                    end_reason: it.end?,
                };
                Some((Some(account), StateChange::BackfillComplete(complete)))
            });
            let states: Vec<_> = complete.into_iter().collect();
            let rows = added.chunks(MAX_CHANGES_PER_ENTRY).map(|added| {
                let diff = TransactionsDiff {
                    fetch_kind: FetchKind::Backfill,
                    added: added.to_vec(),
                    modified: Vec::new(),
                    removed: Vec::new(),
                    previous_seqs: std::collections::BTreeMap::new(),
                };
                (account, Change::Transactions(diff))
            });
            let rows: Vec<_> = rows.collect();
            if rows.is_empty() && states.is_empty() {
                let made = self.store.put_backfill(record, &history).await?;
                return Ok(made.then_some(history));
            }
            let known = head.watermarks.transactions.unwrap_or_default();
            let seq = head.seq.plus(u64::try_from(rows.len()).unwrap_or(u64::MAX));
            let mark = Watermark {
                seq: if rows.is_empty() { known.seq } else { seq },
                ..known
            };
            let marks = ByProduct {
                balance: None,
                transactions: Some(mark),
            };
            let told = self.find_state_watermark(&due, &head, &states).await?;
            let entries = number_entries(&head, rows, states, now);
            let committed = self
                .commit_entries(&head, &entries, marks, None, Some(&history))
                .await;
            let committed = match committed {
                Ok(committed) => committed,
                Err(CommitError::Conflict) => {
                    let stored = self
                        .store
                        .find_backfill(record, Consistency::Strong)
                        .await?;
                    if stored.is_none_or(|stored| stored.step != fetched.backfill.step) {
                        return Ok(None);
                    }
                    continue;
                }
                Err(error) => return Err(RefreshError::Commit(error)),
            };
            if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                self.observer
                    .on_entries_committed(record, first.seq, last.seq);
            }
            self.store.project_entries(&entries).await?;
            let states = told.map(|(told, _)| (told, committed.state_seq));
            self.dispatch_changes(&due, marks, states, &mut changes)
                .await?;
            let digest = due
                .watermarks
                .get(Product::Transactions)
                .and_then(|it| it.digest);
            let marks = ByProduct {
                balance: due.watermarks.balance,
                transactions: Some(Watermark { digest, ..mark }),
            };
            let state = due.state_seq.map(|_| committed.state_seq);
            self.store.advance_watermarks(key, marks, state).await?;
            if let Some((_, carrier)) = told
                && carrier != key
            {
                let nothing = ByProduct::default();
                self.store
                    .advance_watermarks(carrier, nothing, Some(committed.state_seq))
                    .await?;
            }
            return Ok(Some(history));
        }
        Err(RefreshError::Commit(CommitError::Conflict))
    }

    /// The rows of a stretch that are not stored, with the identities they get.
    async fn find_new_rows(
        &self,
        backfill_range: &BackfillRange,
        window: &TransactionWindow,
    ) -> Result<Vec<okra_core::model::snapshot::Transaction>, RefreshError> {
        let from = backfill_range
            .from
            .saturating_sub(BOOKING_WINDOW_DAYS.days());
        let to = backfill_range.to.saturating_add(BOOKING_WINDOW_DAYS.days());
        let known = self
            .store
            .list_transactions(backfill_range.account, from, Some(to), Consistency::Strong)
            .await?;
        let known: Vec<_> = known.into_iter().map(|row| row.transaction).collect();
        Ok(diff_transactions(backfill_range.account, &known, window, FetchKind::Backfill).added)
    }
}

/// What a fault says at a bank that counts calls, which is not asked for today's rows as well. A day later
/// its refreshes have done that: had they failed, the history would be parked.
fn quota_bank_outcome(fault: BankFault, prior_failures: u8) -> BackfillOutcome {
    let again = prior_failures > 0;
    match fault.class {
        FaultClass::ConsentRejected if again => BackfillOutcome::Rejected,
        FaultClass::MalformedResponse if again => BackfillOutcome::Unreadable {
            reason: fault.detail,
        },
        FaultClass::ConsentRejected | FaultClass::MalformedResponse => BackfillOutcome::Failed {
            retry_after_s: Some(86_400),
        },
        _ => BackfillOutcome::Failed {
            retry_after_s: fault.retry_after_s,
        },
    }
}

/// What a step heard of the bank itself.
fn call_outcomes(response: Option<&BackfillResponse>) -> CallOutcomes {
    let (up, down, retry_after_s) = match response {
        None => (0, 0, None),
        Some(BackfillResponse::Fault(fault)) => match fault.class {
            FaultClass::BankUnavailable => (0, 1, fault.retry_after_s),
            FaultClass::Internal => (0, 0, None),
            _ => (1, 0, None),
        },
        Some(_) => (1, 0, None),
    };
    CallOutcomes {
        successes: up,
        failures: down,
        retry_after_s,
    }
}

/// What a step has in hand.
struct FetchedRange {
    backfill: Backfill,
    range: BackfillRange,
    outcome: BackfillOutcome,
    window: Option<TransactionWindow>,
    pause_s: u32,
}

impl FetchedRange {
    /// Of a stretch without a day.
    fn for_empty_range(backfill: Backfill, range: BackfillRange) -> Self {
        Self {
            backfill,
            range,
            outcome: BackfillOutcome::Received {
                rows: 0,
                first_available: None,
            },
            window: None,
            pause_s: 0,
        }
    }
}
