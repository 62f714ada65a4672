//! The pull of a record's history, after its first pull: a bounded stretch of one account at a step,
//! each step a message, so that it survives crashes, waits as long as the bank wants, and gets no
//! record in another's way.
//!
//! A step commits its rows and how far it has come in one transaction. It removes nothing and edits
//! nothing: what is younger than the stretch is the regular refreshes' business. A message that comes
//! twice finds the step made, and only sees to it that the next one is on its way.

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date};
use okra_banks::HistoryAnswer;
use okra_core::{
    bank::BankConfig,
    breaker::Heard,
    decide::Mark,
    diff::diff_transactions,
    fault::{BankFault, FaultClass},
    feed::{Change, MAX_CHANGES_PER_ENTRY, Pull, TransactionsDiff},
    history::{Asked, History, HistoryStep, MAX_FAILURES, Progress, Stretch},
    identity::BOOKING_WINDOW_DAYS,
    ids::{AccountId, RecordId},
    model::{ByProduct, Product, TransactionWindow, date_of},
    state::{HistoryComplete, RecordStatus, StateChange},
};
use okra_queue::Queues;
use okra_store::{CommitError, Consistency, Head, Place, Store};

use crate::{RefreshError, Refresher, reconcile::number};

/// Times a step is committed against refreshes of the same record.
const MAX_COMMITS: usize = 6;

/// Seconds between two steps at least, so that histories leave the bank's rate to refreshes.
const PAUSE_S: u32 = 2;

/// Seconds that a message can wait.
const MAX_WAIT_S: i64 = 900;

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryOutcome {
    /// It was made; so far the history has come.
    Step(Progress),
    /// The whole history is there.
    Complete(Progress),
    /// Its time has not come.
    Waiting,
    /// The record waits for its user; the history goes on when he was there.
    Parked,
    /// There is nothing to do: made before, or not linked any more.
    Nothing,
}

/// Begins the history of a record up to `start`, where none was begun, and sees to it that its first
/// step is made.
pub(crate) async fn begin(
    store: &Store,
    queues: &Queues,
    head: &Head,
    (answered, start): (&[AccountId], Date),
    now: Timestamp,
) -> Result<(), RefreshError> {
    let accounts = answered.iter().copied();
    let history = History::new(accounts, start, date_of(now), head.months, now);
    if store.put_history(head.record, &history).await? {
        return send(queues, head, &history, now).await;
    }
    match store.history(head.record, Consistency::Strong).await? {
        // It was stored, and whoever stored it may have crashed.
        Some(history) if history.step == 0 => send(queues, head, &history, now).await,
        Some(_) | None => Ok(()),
    }
}

/// Notes which accounts' transactions were answered from `window` on, and opens the history again for the
/// months that no answer covered before. Done before that answer is committed: after a crash in
/// between, [`tend`] finds a history that is not complete. Returns the history as it is then; `None`
/// where there is none, or somebody else made a step.
pub(crate) async fn note_window(
    store: &Store,
    record: RecordId,
    (answered, window): (&[AccountId], Date),
    now: Timestamp,
) -> Result<Option<Noted>, RefreshError> {
    let Some(history) = store.history(record, Consistency::Eventual).await? else {
        return Ok(None);
    };
    let Some(seen) = history.seen(answered, window, now) else {
        let opened = false;
        return Ok(Some(Noted { history, opened }));
    };
    let noted = store.put_history(record, &seen).await?;
    Ok(noted.then(|| Noted {
        opened: !seen.is_complete(),
        history: seen,
    }))
}

/// The history of a record that a refresh has looked at.
pub(crate) struct Noted {
    history: History,
    /// It was opened again just now: its step has no message yet.
    opened: bool,
}

/// Asks again for what the history of a record lacks, now that its bank's customer was there: he may
/// have allowed more.
///
/// # Errors
///
/// [`RefreshError`].
pub async fn retry(store: &Store, record: RecordId, now: Timestamp) -> Result<(), RefreshError> {
    let history = store.history(record, Consistency::Strong).await?;
    if let Some(retried) = history.and_then(|history| history.retried(true, now)) {
        store.put_history(record, &retried).await?;
    }
    Ok(())
}

/// Lets a history go on that was parked or opened again.
///
/// # Errors
///
/// [`RefreshError`].
pub async fn resume(
    store: &Store,
    queues: &Queues,
    head: &Head,
    now: Timestamp,
) -> Result<(), RefreshError> {
    match store.history(head.record, Consistency::Strong).await? {
        Some(history) if !history.is_complete() => send(queues, head, &history, now).await,
        Some(_) | None => Ok(()),
    }
}

/// Makes the next step of a history that was opened again, whose message was lost, or that lacks
/// something for long enough. Looked for by each refresh that reads the head, at half a read unit.
/// `unsettled` says that whoever began it may have crashed.
pub(crate) async fn tend(
    store: &Store,
    queues: &Queues,
    head: &Head,
    (noted, unsettled): (Option<Noted>, bool),
    now: Timestamp,
) -> Result<(), RefreshError> {
    let history = match noted {
        Some(Noted { history, opened }) if opened || (unsettled && history.step == 0) => {
            return send(queues, head, &history, now).await;
        }
        Some(Noted { history, .. }) => Some(history),
        None => store.history(head.record, Consistency::Eventual).await?,
    };
    let due = history.and_then(|it| it.revived(now).or_else(|| it.retried(false, now)));
    if let Some(due) = due
        && store.put_history(head.record, &due).await?
    {
        send(queues, head, &due, now).await?;
    }
    Ok(())
}

async fn send(
    queues: &Queues,
    head: &Head,
    history: &History,
    now: Timestamp,
) -> Result<(), RefreshError> {
    let step = HistoryStep {
        record: head.record,
        bank: head.bank,
        step: history.step,
    };
    // Rounded up: a step that comes a part of a second too soon would enqueue itself at once, over
    // and over, until that second is over.
    let wait_ms = history.next_at.duration_since(now).as_millis().max(0);
    let wait_s = (wait_ms + 999) / 1000;
    let delay_s = u16::try_from(wait_s.min(i128::from(MAX_WAIT_S))).unwrap_or(0);
    Ok(queues.send_history(step, delay_s).await?)
}

impl Refresher {
    /// Makes a step of a record's history. `redelivered` says that the message was received before.
    pub async fn history(
        &self,
        step: HistoryStep,
        redelivered: bool,
    ) -> Result<HistoryOutcome, RefreshError> {
        let now = self.clock.now();
        let record = step.record;
        let history = self.store.history(record, Consistency::Strong).await?;
        let head = self.store.head(record, Consistency::Strong).await?;
        let (Some(history), Some(head)) = (history, head) else {
            return Ok(HistoryOutcome::Nothing);
        };
        if history.step != step.step {
            // Who made it may have crashed before the next was on its way.
            if redelivered && history.step == step.step.saturating_add(1) && !history.is_complete()
            {
                send(&self.queues, &head, &history, now).await?;
            }
            return Ok(HistoryOutcome::Nothing);
        }
        if head.status != RecordStatus::Active {
            return Ok(HistoryOutcome::Parked);
        }
        if history.next_at > now {
            send(&self.queues, &head, &history, now).await?;
            return Ok(HistoryOutcome::Waiting);
        }
        let bank = self.bank(head.bank).await?;
        let once = bank.limits.unattended_per_day.is_some();
        let Some(stretch) = history.next(once) else {
            return Ok(HistoryOutcome::Nothing);
        };
        let pulled = match stretch.is_empty() {
            true => Ok(Pulled::nothing(history, stretch)),
            false => self.pull(&bank, &head, history, stretch).await?,
        };
        let pulled = match pulled {
            Ok(pulled) => pulled,
            Err(outcome) => return Ok(outcome),
        };
        let Some(history) = self.commit_history(record, pulled).await? else {
            return Ok(HistoryOutcome::Nothing);
        };
        let progress = history.progress();
        if history.is_complete() {
            return Ok(HistoryOutcome::Complete(progress));
        }
        send(&self.queues, &head, &history, self.clock.now()).await?;
        Ok(HistoryOutcome::Step(progress))
    }

    /// Asks the bank for a stretch, where its circuit and its pace let it; else what became of the step.
    async fn pull(
        &self,
        bank: &BankConfig,
        head: &Head,
        history: History,
        stretch: Stretch,
    ) -> Result<Result<Pulled, HistoryOutcome>, RefreshError> {
        let now = self.clock.now();
        let watch = self.watch(head.bank).await?;
        let later = match watch.refuses() {
            Some(down) => {
                let wait_s = down.retry_after_s.unwrap_or(0).max(PAUSE_S);
                let until = now.saturating_add(SignedDuration::from_secs(wait_s.into()));
                Some(until.unwrap_or(now))
            }
            None => match self.take_place(bank).await? {
                Place::At(_) => None,
                Place::Full(until) => Some(until),
            },
        };
        if let Some(next_at) = later {
            send(&self.queues, head, &History { next_at, ..history }, now).await?;
            return Ok(Err(HistoryOutcome::Waiting));
        }
        let (answer, pause_s) = self.ask_history(head, &stretch).await?;
        watch.hear(heard(answer.as_ref())).await?;
        watch.settle().await?;
        let Some(answer) = answer else {
            return Ok(Err(HistoryOutcome::Nothing));
        };
        let (asked, window) = match answer {
            HistoryAnswer::Rows {
                window,
                first_available,
            } => (
                Asked::Answered {
                    rows: 0,
                    first_available,
                },
                Some(window),
            ),
            HistoryAnswer::Unreadable(fault) => (Asked::Unreadable { why: fault.detail }, None),
            HistoryAnswer::Refused => (Asked::Refused, None),
            HistoryAnswer::Fault(fault) if bank.limits.unattended_per_day.is_some() => {
                (counted(fault, history.failures), None)
            }
            HistoryAnswer::Fault(fault) => {
                // The regular refresh says that the user is needed; nothing is counted against him.
                if fault.class == FaultClass::ConsentRefused && history.failures + 1 >= MAX_FAILURES
                {
                    return Ok(Err(HistoryOutcome::Parked));
                }
                let retry_after_s = fault.retry_after_s;
                (Asked::Failed { retry_after_s }, None)
            }
        };
        Ok(Ok(Pulled {
            history,
            stretch,
            asked,
            window,
            pause_s,
        }))
    }

    /// Asks the bank, where the record is still linked; and how long to pause until the next step.
    async fn ask_history(
        &self,
        head: &Head,
        stretch: &Stretch,
    ) -> Result<(Option<HistoryAnswer>, u32), RefreshError> {
        let consent = self
            .store
            .consent(head.record, Consistency::Eventual)
            .await?;
        let Some(consent) = consent else {
            return Ok((None, PAUSE_S));
        };
        let at_bank = consent.accounts.iter().find(|it| it.id == stretch.account);
        let Some(at_bank) = at_bank else {
            return Ok((None, PAUSE_S));
        };
        let bank = self.bank(head.bank).await?;
        let range = (stretch.from, stretch.to);
        let (account, now) = (&at_bank.bank_account_id, self.clock.now());
        let answer = match self.fresh_tokens(&bank, &consent).await? {
            Ok(tokens) => {
                let (connectors, secret) = (&self.connectors, tokens.secret());
                connectors.history(&bank, secret, account, range, now).await
            }
            Err(fault) => HistoryAnswer::Fault(fault),
        };
        // Where the bank counts refreshes, a step takes one of the day's; else one of the pace.
        let interval = head.schedule.transactions.unwrap_or_default();
        let pause_s = match bank.limits.history_per_day(interval) {
            Some(steps) => 86_400 / u32::from(steps.max(1)),
            None => PAUSE_S,
        };
        Ok((Some(answer), pause_s))
    }

    /// Commits the new rows of a stretch and how far the history has come with them, and tells of both.
    /// `None` where somebody else made the step.
    async fn commit_history(
        &self,
        record: RecordId,
        pulled: Pulled,
    ) -> Result<Option<History>, RefreshError> {
        for _ in 0..MAX_COMMITS {
            let now = self.clock.now();
            let Some(head) = self.store.head(record, Consistency::Strong).await? else {
                return Ok(None);
            };
            let Some(interval) = head.schedule.transactions else {
                return Ok(None);
            };
            let key = head.due_key(interval);
            let Some(due) = self.store.due_entry(key, Consistency::Strong).await? else {
                continue;
            };
            // What a crash left undone is done first: rows that are committed and not yet stored would
            // seem to be new.
            let mut changes = self.heal(&due, &head).await?;
            let added = match &pulled.window {
                Some(window) => self.new_rows(&pulled.stretch, window).await?,
                None => Vec::new(),
            };
            let asked = match pulled.asked.clone() {
                Asked::Answered {
                    first_available, ..
                } => Asked::Answered {
                    rows: added.len(),
                    first_available,
                },
                other => other,
            };
            let history = pulled
                .history
                .clone()
                .after(pulled.stretch, asked, now, pulled.pause_s);
            let account = pulled.stretch.account;
            let ended = history.accounts.iter().find(|it| it.account == account);
            let complete = ended.and_then(|it| {
                let complete = HistoryComplete {
                    oldest: it.reached,
                    rows: it.rows,
                    end: it.end?,
                };
                Some((Some(account), StateChange::HistoryComplete(complete)))
            });
            let states: Vec<_> = complete.into_iter().collect();
            let rows = added.chunks(MAX_CHANGES_PER_ENTRY).map(|added| {
                let diff = TransactionsDiff {
                    pull: Pull::Full,
                    added: added.to_vec(),
                    modified: Vec::new(),
                    removed: Vec::new(),
                    previous: std::collections::BTreeMap::new(),
                };
                (account, Change::Transactions(diff))
            });
            let rows: Vec<_> = rows.collect();
            if rows.is_empty() && states.is_empty() {
                let made = self.store.put_history(record, &history).await?;
                return Ok(made.then_some(history));
            }
            let known = head.marks.transactions.unwrap_or_default();
            let seq = head.seq.plus(u64::try_from(rows.len()).unwrap_or(u64::MAX));
            let mark = Mark {
                seq: if rows.is_empty() { known.seq } else { seq },
                ..known
            };
            let marks = ByProduct {
                balance: None,
                transactions: Some(mark),
            };
            let told = self.told(&due, &head, &states).await?;
            let entries = number(&head, rows, states, now);
            let committed = self
                .commit(&head, &entries, marks, None, Some(&history))
                .await;
            let committed = match committed {
                Ok(committed) => committed,
                Err(CommitError::Lost) => {
                    let stored = self.store.history(record, Consistency::Strong).await?;
                    if stored.is_none_or(|stored| stored.step != pulled.history.step) {
                        return Ok(None);
                    }
                    continue;
                }
                Err(error) => return Err(RefreshError::Commit(error)),
            };
            if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                self.observer.committed(record, first.seq, last.seq);
            }
            self.store.project(&entries).await?;
            let states = told.map(|(told, _)| (told, committed.state));
            self.dispatch(&due, marks, states, &mut changes).await?;
            let digest = due
                .marks
                .get(Product::Transactions)
                .and_then(|it| it.digest);
            let marks = ByProduct {
                balance: due.marks.balance,
                transactions: Some(Mark { digest, ..mark }),
            };
            let state = due.state.map(|_| committed.state);
            self.store.advance(key, marks, state).await?;
            if let Some((_, carrier)) = told
                && carrier != key
            {
                let nothing = ByProduct::default();
                self.store
                    .advance(carrier, nothing, Some(committed.state))
                    .await?;
            }
            return Ok(Some(history));
        }
        Err(RefreshError::Commit(CommitError::Lost))
    }

    /// The rows of a stretch that are not stored, with the identities they get.
    async fn new_rows(
        &self,
        stretch: &Stretch,
        window: &TransactionWindow,
    ) -> Result<Vec<okra_core::model::Transaction>, RefreshError> {
        let from = stretch.from.saturating_sub(BOOKING_WINDOW_DAYS.days());
        let to = stretch.to.saturating_add(BOOKING_WINDOW_DAYS.days());
        let known = self
            .store
            .transactions(stretch.account, from, Some(to), Consistency::Strong)
            .await?;
        let known: Vec<_> = known.into_iter().map(|row| row.transaction).collect();
        Ok(diff_transactions(stretch.account, &known, window, Pull::Full).added)
    }
}

/// What a fault says at a bank that counts calls, which is not asked for today's rows as well. A day later
/// its refreshes have done that: had they failed, the history would be parked.
fn counted(fault: BankFault, failures: u8) -> Asked {
    let again = failures > 0;
    match fault.class {
        FaultClass::ConsentRefused if again => Asked::Refused,
        FaultClass::Nonsense if again => Asked::Unreadable { why: fault.detail },
        FaultClass::ConsentRefused | FaultClass::Nonsense => Asked::Failed {
            retry_after_s: Some(86_400),
        },
        _ => Asked::Failed {
            retry_after_s: fault.retry_after_s,
        },
    }
}

/// What a step heard of the bank itself.
fn heard(answer: Option<&HistoryAnswer>) -> Heard {
    let (up, down, retry_after_s) = match answer {
        None => (0, 0, None),
        Some(HistoryAnswer::Fault(fault)) => match fault.class {
            FaultClass::BankUnavailable => (0, 1, fault.retry_after_s),
            FaultClass::Internal => (0, 0, None),
            _ => (1, 0, None),
        },
        Some(_) => (1, 0, None),
    };
    Heard {
        up,
        down,
        retry_after_s,
    }
}

/// What a step has in hand.
struct Pulled {
    history: History,
    stretch: Stretch,
    asked: Asked,
    window: Option<TransactionWindow>,
    pause_s: u32,
}

impl Pulled {
    /// Of a stretch without a day.
    fn nothing(history: History, stretch: Stretch) -> Self {
        Self {
            history,
            stretch,
            asked: Asked::Answered {
                rows: 0,
                first_available: None,
            },
            window: None,
            pause_s: 0,
        }
    }
}
