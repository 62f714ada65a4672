//! The pull of a record's history: after the first pull, backwards in time, a bounded stretch of one
//! account at a time, as far as the bank allows.

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{
    model::ids::{AccountId, BankId, RecordId},
    sync::{decide::earliest_window_end, state::BackfillEnd},
};

/// Months of history that are asked for where nothing else is said; Okra's `limit`, and its most.
pub const MAX_BACKFILL_MONTHS: u8 = 24;

/// Days of the first stretch.
const INITIAL_RANGE_DAYS: u16 = 92;

/// Times in a row that a stretch may fail until its account's history is given up.
pub const MAX_STEP_FAILURES: u8 = 12;

/// Seconds past its time after which a step's message is taken to be lost: twice what a queue can hold
/// one back.
const STEP_LOST_AFTER_S: i64 = 1_800;

/// Days of an account that may be left out as unreadable; with one more it is given up.
pub const MAX_UNREADABLE_DAYS: usize = 31;

/// Characters of a [`Hole::why`], at most.
const MAX_REASON_CHARS: usize = 200;

/// How long what could not be had is let be, before it is asked for again.
pub const RETRY_INCOMPLETE_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Days before the last answer that a gap is filled from: the bank may have back-dated.
const GAP_MARGIN_DAYS: i32 = 7;

/// How far the history of a record has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// Steps made; who writes another step first has lost.
    #[serde(rename = "n")]
    pub step: u32,
    /// The first date that is asked for.
    #[serde(rename = "f")]
    pub from: Date,
    /// The first date that was known when the pull began: it goes back from there.
    #[serde(rename = "s")]
    pub start: Date,
    /// The accounts, in the order in which they are pulled.
    #[serde(rename = "a")]
    pub accounts: Vec<AccountBackfill>,
    /// Days of the next stretch at most: halved where the bank's answer was too long.
    #[serde(rename = "d")]
    pub range_days: u16,
    /// Steps that failed in a row.
    #[serde(rename = "e", default)]
    pub failures: u8,
    /// When the next step may be made.
    #[serde(rename = "t")]
    pub next_step_at: Timestamp,
}

/// How far the history of an account has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountBackfill {
    /// The account.
    #[serde(rename = "i")]
    pub account: AccountId,
    /// Everything from this date on is there.
    #[serde(rename = "r")]
    pub reached_date: Date,
    /// Rows that the pull found.
    #[serde(rename = "n", default)]
    pub rows: u64,
    /// Why it is over; `None`: it is not.
    #[serde(rename = "w", skip_serializing_if = "Option::is_none", default)]
    pub end: Option<BackfillEnd>,
    /// Days that were left out; [`MAX_HOLES`] at most.
    #[serde(rename = "h", skip_serializing_if = "Vec::is_empty", default)]
    pub unreadable_days: Vec<UnreadableDay>,
    /// Where a part within what had been reached is asked for: what lies beyond it.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none", default)]
    pub resume_point: Option<ResumePoint>,
    /// The first date of its last answer to a regular refresh, as far as it was noted: once a month, when it
    /// moves, and not while it is being pulled.
    #[serde(rename = "v", skip_serializing_if = "Option::is_none", default)]
    pub last_window_start: Option<Date>,
}

/// A day that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableDay {
    /// The day.
    #[serde(rename = "d")]
    pub date: Date,
    /// Why, for people: the path of what is wrong in the bank's answer.
    #[serde(rename = "y")]
    pub reason: String,
}

/// How far an account's history had come before a part of it was asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// The first date of that part.
    #[serde(rename = "f")]
    pub from: Date,
    /// What had been reached.
    #[serde(rename = "r")]
    pub reached_date: Date,
    /// Why it had gone no further.
    #[serde(rename = "w")]
    pub end: BackfillEnd,
}

impl AccountBackfill {
    fn new(account: AccountId, start: Date) -> Self {
        Self {
            account,
            reached_date: start,
            rows: 0,
            end: None,
            unreadable_days: Vec::new(),
            resume_point: None,
            last_window_start: Some(start),
        }
    }

    /// Answered from `window` on; what lies between that and the window before is to be asked for.
    fn note_window(&mut self, window_start: Date) {
        let through = self
            .last_window_start
            .replace(window_start)
            .map(earliest_window_end);
        if let Some(through) = through.filter(|through| *through < window_start) {
            let gap = through.saturating_sub(GAP_MARGIN_DAYS.days());
            self.reopen_range(gap, window_start);
        }
    }

    /// The dates from `from` to `to` are to be asked for; then what had been reached counts again.
    fn reopen_range(&mut self, from: Date, to: Date) {
        self.resume_point = Some(match self.resume_point {
            Some(beyond) => ResumePoint {
                from: beyond.from.min(from),
                ..beyond
            },
            None => ResumePoint {
                from,
                reached_date: self.reached_date,
                end: self.end.unwrap_or(BackfillEnd::RequestedLimit),
            },
        });
        self.reached_date = to;
        self.end = None;
    }

    /// The pull came to `end`; where it was of a part, what lay beyond counts again.
    fn finish_range(&mut self, end: BackfillEnd) {
        self.end = Some(end);
        if let Some(beyond) = self.resume_point.take() {
            self.reached_date = self.reached_date.min(beyond.reached_date);
            self.end = Some(beyond.end);
        }
    }

    /// True where something is lacking that might be had later. What a bank refuses it refuses until its
    /// customer was there.
    pub fn has_retryable_gaps(&self, user_present: bool) -> bool {
        let refused = self.end == Some(BackfillEnd::BankRejected);
        !self.unreadable_days.is_empty()
            || self.end == Some(BackfillEnd::GaveUp)
            || (refused && user_present)
    }
}

/// A stretch of one account's history: from a date (inclusive) to another (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackfillRange {
    /// The account.
    pub account: AccountId,
    /// First date.
    pub from: Date,
    /// First date that is known already.
    pub to: Date,
}

impl BackfillRange {
    /// True where there is nothing to ask for.
    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }
}

/// What came of asking for a stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackfillOutcome {
    /// The bank answered.
    Received {
        /// Rows that were new.
        rows: usize,
        /// The first date that the bank says it has, where it says so.
        first_available: Option<Date>,
    },
    /// The answer cannot be read, while the bank's answer for today can: it is longer than is read at once,
    /// or a row of it is nonsense. Less is asked for, and what is unreadable in a day is left out.
    Unreadable {
        /// Why, for people.
        reason: String,
    },
    /// The bank refuses dates this old, although it answers for newer ones.
    Rejected,
    /// It failed; it is tried again after a wait.
    Failed {
        /// Seconds the bank asked for.
        retry_after_s: Option<u32>,
    },
}

/// How far a history has come, to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BackfillProgress {
    /// Accounts whose history is complete.
    pub accounts_done: usize,
    /// All accounts.
    pub accounts: usize,
    /// Everything from this date on is there, of every account.
    pub oldest_date: Option<Date>,
    /// Rows found so far.
    pub rows: u64,
    /// Of the days asked for; 100 once complete.
    pub percent: u8,
}

impl Backfill {
    /// The history of these accounts up to `start`, `months` back from `today`. Where `start` is as old as
    /// that, there is nothing to ask for; the first step of each account says so.
    pub fn new(
        accounts: impl IntoIterator<Item = AccountId>,
        start: Date,
        today: Date,
        months: u8,
        now: Timestamp,
    ) -> Self {
        let from = today.saturating_sub(i32::from(months.min(MAX_BACKFILL_MONTHS)).months());
        let accounts = accounts.into_iter();
        Self {
            step: 0,
            from: from.min(start),
            start,
            accounts: accounts.map(|it| AccountBackfill::new(it, start)).collect(),
            range_days: INITIAL_RANGE_DAYS,
            failures: 0,
            next_step_at: now,
        }
    }

    /// The stretch to ask for next; `None`: all is done. A bank that counts calls and not pages is
    /// asked for all that is left at `once`.
    pub fn next_range(&self, all_at_once: bool) -> Option<BackfillRange> {
        let account = self.accounts.iter().find(|it| it.end.is_none())?;
        let from = account.resume_point.map_or(self.from, |beyond| beyond.from);
        let whole = all_at_once && self.range_days == INITIAL_RANGE_DAYS;
        let back = account
            .reached_date
            .saturating_sub(i32::from(self.range_days).days());
        Some(BackfillRange {
            account: account.account,
            from: if whole { from } else { back.max(from) },
            to: account.reached_date,
        })
    }

    /// The history after a stretch was asked for. Every `Answered`, `Refused` and `Unreadable` comes
    /// nearer to the end, and so do [`MAX_FAILURES`] failures: it does end.
    #[must_use]
    pub fn after_step(
        mut self,
        range: BackfillRange,
        outcome: BackfillOutcome,
        now: Timestamp,
        pause_s: u32,
    ) -> Self {
        self.step = self.step.saturating_add(1);
        let wait_s = match outcome {
            BackfillOutcome::Failed { retry_after_s } => {
                self.failures = self.failures.saturating_add(1);
                let backoff = 30_u32 << self.failures.min(9);
                retry_after_s.unwrap_or(backoff).clamp(pause_s, 86_400)
            }
            _ => {
                self.failures = 0;
                pause_s
            }
        };
        self.next_step_at = now
            .checked_add(SignedDuration::from_secs(wait_s.into()))
            .unwrap_or(now);
        let failures = self.failures;
        let Some(account) = self
            .accounts
            .iter_mut()
            .find(|it| it.account == range.account)
        else {
            return self;
        };
        let from = account.resume_point.map_or(self.from, |beyond| beyond.from);
        match outcome {
            BackfillOutcome::Received {
                rows,
                first_available,
            } => {
                account.rows += u64::try_from(rows).unwrap_or(u64::MAX);
                account.reached_date = range.from;
                // A bank that counts calls would be asked for all that is left, and fail again.
                self.range_days = self
                    .range_days
                    .max((self.range_days * 2).min(INITIAL_RANGE_DAYS / 2));
                if range.from <= from {
                    account.finish_range(BackfillEnd::RequestedLimit);
                } else if first_available.is_some_and(|first| first >= range.from) {
                    account.finish_range(BackfillEnd::BankLimit);
                }
            }
            BackfillOutcome::Unreadable { .. } if self.range_days > 1 => self.range_days /= 2,
            BackfillOutcome::Unreadable { .. }
                if account.unreadable_days.len() >= MAX_UNREADABLE_DAYS =>
            {
                account.end = Some(BackfillEnd::GaveUp);
            }
            BackfillOutcome::Unreadable { reason: why } => {
                account.unreadable_days.push(UnreadableDay {
                    date: range.from,
                    reason: why.chars().take(MAX_REASON_CHARS).collect(),
                });
                account.reached_date = range.from;
                if range.from <= from {
                    account.finish_range(BackfillEnd::RequestedLimit);
                }
            }
            BackfillOutcome::Rejected => account.end = Some(BackfillEnd::BankRejected),
            BackfillOutcome::Failed { .. } if failures >= MAX_STEP_FAILURES => {
                account.end = Some(BackfillEnd::GaveUp);
                self.failures = 0;
            }
            BackfillOutcome::Failed { .. } => {}
        }
        self
    }

    /// The history after these accounts answered a regular refresh whose window begins at `window`; `None`
    /// where there is nothing to note. An account that never answered before is pulled from now on. Where
    /// months lie between the window and the last that was noted, because nothing ran, the bank failed or
    /// its customer was away, they are asked for. An account that is being pulled is let be: what it misses
    /// is noted after its end. Should a step be under way, it has lost, and is made again.
    #[must_use]
    pub fn after_refresh(
        &self,
        refreshed_accounts: &[AccountId],
        window_start: Date,
        now: Timestamp,
    ) -> Option<Self> {
        let known = |account| self.accounts.iter().find(|it| it.account == account);
        let moved = |account: &&AccountId| {
            known(**account)
                .is_none_or(|it| it.end.is_some() && it.last_window_start != Some(window_start))
        };
        let moved: Vec<AccountId> = refreshed_accounts.iter().filter(moved).copied().collect();
        if moved.is_empty() {
            return None;
        }
        let mut seen = match self.is_complete() {
            true => self.with_next_step(now),
            false => Self {
                step: self.step.saturating_add(1),
                ..self.clone()
            },
        };
        for id in moved {
            match seen.accounts.iter_mut().find(|it| it.account == id) {
                Some(account) => account.note_window(window_start),
                None => seen.accounts.push(AccountBackfill::new(id, window_start)),
            }
        }
        Some(seen)
    }

    /// The history with what it lacks asked for again; `None` where it lacks nothing that may be had now. At
    /// once where the bank's customer `user_was_there`, else [`RETRY_AFTER`] its last step.
    #[must_use]
    pub fn reopen_incomplete(&self, user_present: bool, now: Timestamp) -> Option<Self> {
        let lacks = self
            .accounts
            .iter()
            .any(|it| it.has_retryable_gaps(user_present));
        if !self.is_complete() || !lacks || (!user_present && now < self.next_retry_at()) {
            return None;
        }
        let mut retried = self.with_next_step(now);
        for account in &mut retried.accounts {
            if !account.has_retryable_gaps(user_present) {
                continue;
            }
            let holes = std::mem::take(&mut account.unreadable_days);
            let dates = || holes.iter().map(|hole| hole.date);
            match (dates().min(), dates().max()) {
                (Some(first), Some(last)) => {
                    account.reopen_range(first, last.tomorrow().unwrap_or(last));
                }
                _ => account.end = None,
            }
        }
        Some(retried)
    }

    /// From when on what it lacks is asked for again, with the next refresh that reads the history.
    pub fn next_retry_at(&self) -> Timestamp {
        self.next_step_at
            .saturating_add(RETRY_INCOMPLETE_AFTER)
            .unwrap_or(Timestamp::MAX)
    }

    /// Another step, which may be made now.
    fn with_next_step(&self, now: Timestamp) -> Self {
        Self {
            step: self.step.saturating_add(1),
            range_days: INITIAL_RANGE_DAYS,
            failures: 0,
            next_step_at: now,
            ..self.clone()
        }
    }

    /// The history with another step in the place of one whose message is taken to be lost at `now`;
    /// `None` where it is not. Should the message come after all, it finds its step made.
    #[must_use]
    pub fn revive_lost_step(&self, now: Timestamp) -> Option<Self> {
        let late_s = now.duration_since(self.next_step_at).as_secs();
        (!self.is_complete() && late_s > STEP_LOST_AFTER_S).then(|| Self {
            step: self.step.saturating_add(1),
            next_step_at: now,
            ..self.clone()
        })
    }

    /// True once every account's is.
    pub fn is_complete(&self) -> bool {
        self.accounts.iter().all(|it| it.end.is_some())
    }

    /// How far it has come.
    pub fn measure_progress(&self) -> BackfillProgress {
        let days = |from: Date, to: Date| (to - from).get_days().max(0);
        let wanted = days(self.from, self.start).max(1);
        let covered: i32 = self
            .accounts
            .iter()
            .map(|it| match (it.end, it.resume_point) {
                (Some(_), _) => wanted,
                (None, Some(beyond)) => (wanted - days(beyond.from, it.reached_date)).max(0),
                (None, None) => days(it.reached_date, self.start).min(wanted),
            })
            .sum();
        let all = wanted.saturating_mul(i32::try_from(self.accounts.len()).unwrap_or(i32::MAX));
        BackfillProgress {
            accounts_done: self.accounts.iter().filter(|it| it.end.is_some()).count(),
            accounts: self.accounts.len(),
            oldest_date: self.accounts.iter().map(|it| it.reached_date).max(),
            rows: self.accounts.iter().map(|it| it.rows).sum(),
            percent: u8::try_from(i64::from(covered) * 100 / i64::from(all.max(1))).unwrap_or(100),
        }
    }
}

/// A step of a history to be made; the message of the fetch queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillStep {
    /// The record.
    pub record: RecordId,
    /// Its bank: the message group.
    pub bank: BankId,
    /// Which step.
    pub step: u32,
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;
    use crate::sync::decide::window_start;

    /// Two accounts of two years, a day at a step, and each of them failing in between as often as may be.
    const MAX_STEPS: usize = 2 * 760 * 13;

    fn any_outcome() -> impl Strategy<Value = BackfillOutcome> {
        prop_oneof![
            4 => (0..500_usize, prop::option::of(0..800_i32)).prop_map(|(rows, ago)| BackfillOutcome::Received {
                rows,
                first_available: ago.map(|ago| date(2026, 3, 15).saturating_sub(ago.days())),
            }),
            2 => Just(BackfillOutcome::Unreadable { reason: "Data.Transaction[3].Amount: 12,50".repeat(20) }),
            1 => Just(BackfillOutcome::Rejected),
            2 => prop::option::of(any::<u32>()).prop_map(|retry_after_s| BackfillOutcome::Failed { retry_after_s }),
        ]
    }

    proptest! {
        /// Whatever the bank does, the pull ends, goes back without a gap and waits a day at most.
        #[test]
        fn every_history_ends(answers in prop::collection::vec(any_outcome(), 1..40), once: bool, months in 0..30_u8) {
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            let accounts = [AccountId::derive(&[b"a"]), AccountId::derive(&[b"b"])];
            let (start, today) = (date(2026, 2, 1), date(2026, 3, 15));
            let mut history = Backfill::new(accounts, start, today, months, now);
            let mut percent = 0;
            let mut answers = answers.into_iter().cycle();
            let mut steps = 0;
            while let Some(stretch) = history.next_range(once) {
                prop_assert!(stretch.from < stretch.to || (stretch.is_empty() && months <= 1));
                prop_assert!(stretch.from >= history.from);
                let of = |history: &Backfill| history.accounts.iter().find(|it| it.account == stretch.account).unwrap().clone();
                prop_assert_eq!(stretch.to, of(&history).reached_date, "no gap");
                let before = history.step;
                history = history.after_step(stretch, answers.next().unwrap(), now, 1);
                prop_assert_eq!(history.step, before + 1);
                prop_assert!(history.next_step_at.duration_since(now).as_hours() <= 24);
                prop_assert!(history.measure_progress().percent >= percent);
                percent = history.measure_progress().percent;
                steps += 1;
                prop_assert!(steps < MAX_STEPS, "it does not end");
            }
            prop_assert!(history.is_complete());
            prop_assert_eq!(history.measure_progress().percent, 100);
            prop_assert_eq!(history.measure_progress().accounts_done, 2);
            prop_assert!(history.revive_lost_step(Timestamp::MAX).is_none());
        }
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// Asks for everything that is to be asked for, of a bank that answers so.
    fn run_backfill(
        mut backfill: Backfill,
        mut bank: impl FnMut(&BackfillRange) -> BackfillOutcome,
    ) -> (Backfill, Vec<BackfillRange>) {
        let mut asked = Vec::new();
        while let Some(stretch) = backfill.next_range(false) {
            backfill = backfill.after_step(stretch, bank(&stretch), NOW, 1);
            asked.push(stretch);
            assert!(asked.len() < MAX_STEPS, "it does not end");
        }
        (backfill, asked)
    }

    fn received_outcome(_: &BackfillRange) -> BackfillOutcome {
        BackfillOutcome::Received {
            rows: 1,
            first_available: None,
        }
    }

    fn unreadable_outcome() -> BackfillOutcome {
        BackfillOutcome::Unreadable {
            reason: "Data.Transaction[3].Amount".to_owned(),
        }
    }

    fn one_account_backfill(months: u8) -> Backfill {
        let (start, today) = (date(2026, 2, 1), date(2026, 3, 15));
        Backfill::new([AccountId::derive(&[b"a"])], start, today, months, NOW)
    }

    #[test]
    fn a_day_that_cannot_be_read_is_left_out_alone() {
        let bad = date(2025, 8, 17);
        let bank = |stretch: &BackfillRange| match (stretch.from..stretch.to).contains(&bad) {
            true => unreadable_outcome(),
            false => received_outcome(stretch),
        };
        let (history, asked) = run_backfill(one_account_backfill(24), bank);
        let account = &history.accounts[0];
        assert_eq!(
            (account.end, account.reached_date),
            (Some(BackfillEnd::RequestedLimit), date(2024, 3, 15))
        );
        let holes: Vec<_> = account
            .unreadable_days
            .iter()
            .map(|hole| (hole.date, hole.reason.as_str()))
            .collect();
        assert_eq!(holes, [(bad, "Data.Transaction[3].Amount")]);
        assert!(asked.len() < 50, "{} questions", asked.len());

        // A week later that day is asked for again, and nothing else.
        assert_eq!(history.reopen_incomplete(false, NOW), None);
        let again = history
            .reopen_incomplete(false, history.next_retry_at())
            .unwrap();
        assert_eq!(again.measure_progress().oldest_date, bad.tomorrow().ok());
        let (history, asked) = run_backfill(again, received_outcome);
        let asked: Vec<_> = asked
            .iter()
            .map(|stretch| (stretch.from, stretch.to))
            .collect();
        assert_eq!(asked, [(bad, bad.tomorrow().unwrap())]);
        let account = &history.accounts[0];
        assert_eq!(
            (account.end, account.reached_date),
            (Some(BackfillEnd::RequestedLimit), date(2024, 3, 15))
        );
        assert_eq!(account.unreadable_days, []);
        assert_eq!(
            history.reopen_incomplete(false, history.next_retry_at()),
            None
        );
    }

    #[test]
    fn a_history_of_which_nothing_can_be_read_is_given_up_and_begun_again() {
        let (history, _) = run_backfill(one_account_backfill(24), |_| unreadable_outcome());
        let account = &history.accounts[0];
        assert_eq!(
            (account.end, account.unreadable_days.len()),
            (Some(BackfillEnd::GaveUp), MAX_UNREADABLE_DAYS)
        );
        let again = history
            .reopen_incomplete(false, history.next_retry_at())
            .unwrap();
        let (history, _) = run_backfill(again, received_outcome);
        // First what was left out, and a week later what was never asked for.
        assert_eq!(history.accounts[0].end, Some(BackfillEnd::GaveUp));
        let again = history
            .reopen_incomplete(false, history.next_retry_at())
            .unwrap();
        let (history, _) = run_backfill(again, received_outcome);
        let account = &history.accounts[0];
        assert_eq!(
            (account.end, account.reached_date),
            (Some(BackfillEnd::RequestedLimit), date(2024, 3, 15))
        );
    }

    #[test]
    fn what_a_bank_refuses_is_asked_for_again_once_its_customer_was_there() {
        let (history, _) = run_backfill(one_account_backfill(24), |_| BackfillOutcome::Rejected);
        assert_eq!(history.accounts[0].end, Some(BackfillEnd::BankRejected));
        assert_eq!(history.reopen_incomplete(false, Timestamp::MAX), None);
        let (history, _) = run_backfill(
            history.reopen_incomplete(true, NOW).unwrap(),
            received_outcome,
        );
        assert_eq!(history.accounts[0].end, Some(BackfillEnd::RequestedLimit));
        assert_eq!(
            history.reopen_incomplete(true, NOW),
            None,
            "it lacks nothing"
        );
    }

    #[test]
    fn an_account_that_answers_late_is_pulled_too_while_another_is_being_pulled() {
        let late = AccountId::derive(&[b"late"]);
        let history = one_account_backfill(24);
        let first = history.accounts[0].account;
        let stretch = history.next_range(false).unwrap();
        let wait = BackfillOutcome::Failed {
            retry_after_s: Some(600),
        };
        let history = history.after_step(stretch, wait, NOW, 1);
        let window = date(2026, 2, 1);
        assert_eq!(history.after_refresh(&[first], window, NOW), None);
        let seen = history.after_refresh(&[first, late], window, NOW).unwrap();
        assert_eq!(seen.step, history.step + 1);
        assert_eq!(
            (seen.next_step_at, seen.failures),
            (history.next_step_at, 1)
        );
        assert_eq!(
            run_backfill(seen, received_outcome)
                .0
                .measure_progress()
                .accounts_done,
            2
        );
    }

    proptest! {
        /// Whenever the bank answers, after whatever pauses: what regular refreshes and histories asked for,
        /// together, leaves out no day.
        #[test]
        fn no_pause_leaves_a_gap(pauses in prop::collection::vec(1..200_i32, 1..12), gives_up: bool) {
            let mut today = date(2026, 3, 15);
            let mut window = window_start(today);
            let mut history = Backfill::new([AccountId::derive(&[b"a"])], window, today, 24, NOW);
            // Everything before this date was asked for.
            let mut known_through = today;
            for pause in pauses {
                history = run_backfill(history, received_outcome).0;
                today = today.saturating_add(pause.days());
                window = window_start(today);
                let oldest = history.accounts[0].reached_date;
                if let Some(seen) = history.after_refresh(&[history.accounts[0].account], window, NOW) {
                    prop_assert_eq!(seen.step, history.step + 1);
                    history = seen;
                }
                let (first, rest) = run_backfill(history.clone(), received_outcome);
                if gives_up && !rest.is_empty() {
                    // What fails too often is not forgotten.
                    let (failed, _) = run_backfill(history, |_| BackfillOutcome::Failed { retry_after_s: None });
                    prop_assert_eq!(failed.accounts[0].end, Some(BackfillEnd::GaveUp));
                    history = run_backfill(failed.reopen_incomplete(false, failed.next_retry_at()).unwrap(), received_outcome).0;
                } else {
                    history = first;
                }
                let asked_from = rest.iter().map(|stretch| stretch.from).min().unwrap_or(window);
                prop_assert!(asked_from <= known_through, "{asked_from} {known_through}");
                prop_assert!(rest.is_empty() || rest[0].to == window);
                prop_assert_eq!(history.accounts[0].reached_date, oldest, "it is as old as it was");
                known_through = today;
            }
        }
    }
}
