//! A step of a backfill: [`next_backfill_action`] says what a step's message asks for ([`BackfillAction`]),
//! [`outcome_for_fault`] what a bank's fault means for the step, and [`backfill_changes`] what its rows are in the feed.
//!
//! The rule: a step adds rows and never removes or edits any; what is younger than its range belongs to the regular
//! refreshes. A message that comes twice finds its step made.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    backfill::progress::{Backfill, BackfillOutcome, BackfillRange, MAX_STEP_FAILURES},
    model::{
        fault::{BankFault, FaultClass},
        ids::AccountId,
        snapshot::Transaction,
    },
    sync::{
        feed::{Change, FetchKind, MAX_CHANGES_PER_ENTRY, TransactionsDiff},
        state::{BackfillComplete, RecordStatus, StateChange},
    },
};

/// Seconds in a day.
const DAY_S: u32 = 86_400;

/// What the message of a step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillAction {
    /// Nothing: the step was made before.
    Ignore,
    /// The step was made, but whoever made it may have crashed before it enqueued the next one.
    EnqueueNext,
    /// The record waits for its user; the backfill is resumed once the user has authorised again.
    Park,
    /// The step's time has not come: its message is enqueued again.
    Wait,
    /// The range is fetched.
    Fetch,
}

/// What the message of step `step` asks for. `is_redelivered` says that it was received before.
pub fn next_backfill_action(
    backfill: &Backfill,
    step: u32,
    is_redelivered: bool,
    status: RecordStatus,
    now: Timestamp,
) -> BackfillAction {
    if backfill.step != step {
        let is_next = step.checked_add(1) == Some(backfill.step);
        return match is_redelivered && is_next && !backfill.is_complete() {
            true => BackfillAction::EnqueueNext,
            false => BackfillAction::Ignore,
        };
    }
    if status != RecordStatus::Active {
        return BackfillAction::Park;
    }
    match backfill.next_step_at > now {
        true => BackfillAction::Wait,
        false => BackfillAction::Fetch,
    }
}

/// What a bank's fault means for a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepFault {
    /// The step ends with this outcome.
    Outcome(BackfillOutcome),
    /// The backfill stops until the user has authorised again, and counts no failure. The regular refresh reports that
    /// the user is needed.
    Park,
}

/// What a fault means for a step after `prior_failures` failures in a row.
///
/// A bank that counts calls is not asked for today's rows to compare with, so a rejection and a malformed answer count
/// only when they repeat a day later: by then its refreshes have succeeded, or the backfill would be parked.
pub fn outcome_for_fault(fault: BankFault, prior_failures: u8, counts_calls: bool) -> StepFault {
    let is_repeated = prior_failures > 0;
    let outcome = match fault.class {
        FaultClass::ConsentRejected if counts_calls && is_repeated => BackfillOutcome::Rejected,
        FaultClass::MalformedResponse if counts_calls && is_repeated => {
            BackfillOutcome::Unreadable {
                reason: fault.detail,
            }
        }
        FaultClass::ConsentRejected | FaultClass::MalformedResponse if counts_calls => {
            BackfillOutcome::Failed {
                retry_after_s: Some(DAY_S),
            }
        }
        FaultClass::ConsentRejected if prior_failures + 1 >= MAX_STEP_FAILURES => {
            return StepFault::Park;
        }
        _ => BackfillOutcome::Failed {
            retry_after_s: fault.retry_after_s,
        },
    };
    StepFault::Outcome(outcome)
}

/// Seconds from a step to the next: where the bank counts calls, a day's steps are spread over the day.
pub fn pause_after_step(steps_per_day: Option<u16>, min_pause_s: u32) -> u32 {
    steps_per_day.map_or(min_pause_s, |steps| DAY_S / u32::from(steps.max(1)))
}

/// The backfill after a step that found `rows`, and what the feed says of it.
#[derive(Clone, Debug)]
pub struct CompletedStep {
    /// The backfill.
    pub backfill: Backfill,
    /// The rows, in entries of [`MAX_CHANGES_PER_ENTRY`] at most.
    pub changes: Vec<(AccountId, Change)>,
    /// That the account's backfill is complete, where it is now.
    pub state_change: Option<(Option<AccountId>, StateChange)>,
}

/// The backfill after a step over `range`. `pause_s` is the least number of seconds until the next one.
pub fn complete_step(
    backfill: Backfill,
    range: BackfillRange,
    outcome: BackfillOutcome,
    added: &[Transaction],
    pause_s: u32,
    now: Timestamp,
) -> CompletedStep {
    let outcome = match outcome {
        BackfillOutcome::Received {
            first_available,
            unreadable_days,
            ..
        } => BackfillOutcome::Received {
            rows: added.len(),
            first_available,
            unreadable_days,
        },
        other => other,
    };
    let backfill = backfill.after_step(range, outcome, now, pause_s);
    CompletedStep {
        changes: backfill_changes(range.account, added),
        state_change: completion_change(&backfill, range.account),
        backfill,
    }
}

/// Rows that a backfill found, as changes of the feed.
fn backfill_changes(account: AccountId, added: &[Transaction]) -> Vec<(AccountId, Change)> {
    let parts = added.chunks(MAX_CHANGES_PER_ENTRY).map(|rows| {
        let diff = TransactionsDiff {
            fetch_kind: FetchKind::Backfill,
            added: rows.to_vec(),
            modified: Vec::new(),
            removed: Vec::new(),
            previous_seqs: BTreeMap::new(),
        };
        (account, Change::Transactions(diff))
    });
    parts.collect()
}

/// That the backfill of an account is complete; `None` where it is not.
fn completion_change(
    backfill: &Backfill,
    account: AccountId,
) -> Option<(Option<AccountId>, StateChange)> {
    let progress = backfill.accounts.iter().find(|it| it.account == account)?;
    let complete = BackfillComplete {
        oldest_date: progress.reached_date,
        rows: progress.rows,
        end_reason: progress.end?,
    };
    Some((Some(account), StateChange::BackfillComplete(complete)))
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, civil::date};

    use super::*;

    fn backfill_at(now: Timestamp) -> Backfill {
        let account = AccountId::derive(&[b"a"]);
        let today = date(2026, 3, 15);
        Backfill::new([account], date(2026, 2, 1), today, 24, now)
    }

    #[test]
    fn a_step_is_made_once_and_its_successor_is_enqueued_after_a_crash() {
        let now = Timestamp::UNIX_EPOCH;
        let active = RecordStatus::Active;
        let backfill = Backfill {
            step: 4,
            ..backfill_at(now)
        };
        let action = |step, is_redelivered| {
            next_backfill_action(&backfill, step, is_redelivered, active, now)
        };
        assert_eq!(action(4, false), BackfillAction::Fetch);
        assert_eq!(action(3, false), BackfillAction::Ignore);
        assert_eq!(action(3, true), BackfillAction::EnqueueNext);
        assert_eq!(action(2, true), BackfillAction::Ignore);
        assert_eq!(action(u32::MAX, true), BackfillAction::Ignore);
        let later = Backfill {
            next_step_at: now + SignedDuration::from_secs(1),
            ..backfill.clone()
        };
        let waiting = next_backfill_action(&later, 4, false, active, now);
        assert_eq!(waiting, BackfillAction::Wait);
        let needs_user = RecordStatus::ReauthorisationRequired;
        let parked = next_backfill_action(&later, 4, false, needs_user, now);
        assert_eq!(parked, BackfillAction::Park);
    }

    #[test]
    fn a_rejection_is_final_only_where_it_repeats() {
        let rejected = || BankFault::new(FaultClass::ConsentRejected, "");
        let a_day_later = BackfillOutcome::Failed {
            retry_after_s: Some(DAY_S),
        };
        let first = outcome_for_fault(rejected(), 0, true);
        assert_eq!(first, StepFault::Outcome(a_day_later));
        let second = outcome_for_fault(rejected(), 1, true);
        assert_eq!(second, StepFault::Outcome(BackfillOutcome::Rejected));
        let soon = BackfillOutcome::Failed {
            retry_after_s: None,
        };
        let uncounted = outcome_for_fault(rejected(), 1, false);
        assert_eq!(uncounted, StepFault::Outcome(soon));
        let last = outcome_for_fault(rejected(), MAX_STEP_FAILURES - 1, false);
        assert_eq!(last, StepFault::Park);
    }

    #[test]
    fn a_step_that_reaches_the_limit_completes_its_account() {
        let now = Timestamp::UNIX_EPOCH;
        let backfill = backfill_at(now);
        let range = backfill.next_range(true).unwrap();
        let received = BackfillOutcome::Received {
            rows: 0,
            first_available: None,
            unreadable_days: vec![],
        };
        let step = complete_step(backfill.clone(), range, received.clone(), &[], 2, now);
        assert!(step.backfill.is_complete() && step.changes.is_empty());
        let (account, change) = step.state_change.unwrap();
        assert_eq!(account, Some(range.account));
        assert!(matches!(change, StateChange::BackfillComplete(_)));
        let part = backfill.next_range(false).unwrap();
        let step = complete_step(backfill, part, received, &[], 2, now);
        assert!(!step.backfill.is_complete() && step.state_change.is_none());
    }
}
