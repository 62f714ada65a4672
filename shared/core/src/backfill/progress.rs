//! The backfill of a record: after the first fetch, its older transactions are fetched backwards in time, a bounded
//! range of one account at a time, as far as the bank allows.
//!
//! The cast: [`Backfill`], how far a record has come, with an [`AccountBackfill`] for each account; a [`BackfillRange`]
//! that is fetched in one step, and its [`BackfillOutcome`]; [`BackfillStep`], the message that a step is due.
//!
//! The rules: every backfill ends; no day between two windows is left out; what cannot be read is left out by itself,
//! named, and fetched again later.

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{
    model::ids::{AccountId, BankId, RecordId},
    sync::{
        decide::earliest_window_end,
        state::{AvailabilityReason, BackfillEnd},
    },
};

/// Months of a backfill by default and at most; Okra's `limit`.
pub const MAX_BACKFILL_MONTHS: u8 = 24;

/// Days of the first range.
const INITIAL_RANGE_DAYS: u16 = 92;

/// Times in a row that a step may fail until its account's backfill is given up.
pub const MAX_STEP_FAILURES: u8 = 12;

/// Seconds by which a failed step is put back at first; each further failure doubles it.
const FIRST_BACKOFF_S: u32 = 30;

/// How often that is doubled at most.
const MAX_BACKOFF_DOUBLINGS: u8 = 9;

/// Seconds before another step at most, whatever the bank asks for.
const MAX_STEP_WAIT_S: u32 = 86_400;

/// Seconds past its time after which a step's message is taken to be lost: twice the longest delay of a queue.
const STEP_LOST_AFTER_S: i64 = 1_800;

/// Days of an account that are left out as unreadable; with one more it is given up.
pub const MAX_UNREADABLE_DAYS: usize = 31;

/// Characters of an [`UnreadableDay::reason`], at most.
const MAX_REASON_CHARS: usize = 200;

/// How long gaps stay before they are fetched again.
pub const RETRY_INCOMPLETE_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Days before the last response from which a gap is filled: the bank may have back-dated rows.
const GAP_MARGIN_DAYS: i32 = 7;

/// The backfill of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// Steps made. A step commits only where no other was committed meanwhile.
    #[serde(rename = "n")]
    pub step: u32,
    /// The first date to fetch.
    #[serde(rename = "f")]
    pub from: Date,
    /// The first date that was known when the backfill began: it goes back from there.
    #[serde(rename = "s")]
    pub start: Date,
    /// The accounts, in the order in which they are backfilled.
    #[serde(rename = "a")]
    pub accounts: Vec<AccountBackfill>,
    /// Days of the next range at most: halved where the bank's response was unreadable.
    #[serde(rename = "d")]
    pub range_days: u16,
    /// Steps that failed in a row.
    #[serde(rename = "e", default)]
    pub failures: u8,
    /// When the next step may be made.
    #[serde(rename = "t")]
    pub next_step_at: Timestamp,
}

/// The backfill of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountBackfill {
    /// The account.
    #[serde(rename = "i")]
    pub account: AccountId,
    /// Everything from this date on was fetched.
    #[serde(rename = "r")]
    pub reached_date: Date,
    /// New rows that the backfill found.
    #[serde(rename = "n", default)]
    pub rows: u64,
    /// Why it ended; `None` where it has not.
    #[serde(rename = "w", skip_serializing_if = "Option::is_none", default)]
    pub end: Option<BackfillEnd>,
    /// Days that were left out; [`MAX_UNREADABLE_DAYS`] at most.
    #[serde(rename = "h", skip_serializing_if = "Vec::is_empty", default)]
    pub unreadable_days: Vec<UnreadableDay>,
    /// Where a part is fetched again: where the backfill resumes after it.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none", default)]
    pub resume_point: Option<ResumePoint>,
    /// The first date of the window of the last regular refresh that was noted: once a month, when the window moves,
    /// and not while the backfill is under way.
    #[serde(rename = "v", skip_serializing_if = "Option::is_none", default)]
    pub last_window_start: Option<Date>,
}

/// A day that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableDay {
    /// The day.
    #[serde(rename = "d")]
    pub date: Date,
    /// Why, for people: the path of the offending field in the bank's response.
    #[serde(rename = "y")]
    pub reason: String,
}

/// Where an account's backfill resumes after a part of it was fetched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// The first date of that part.
    #[serde(rename = "f")]
    pub from: Date,
    /// The date that had been reached.
    #[serde(rename = "r")]
    pub reached_date: Date,
    /// Why the backfill had ended.
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

    /// The first date to fetch: that of the part that is fetched again, or of the whole backfill.
    fn first_date(&self, backfill_from: Date) -> Date {
        self.resume_point
            .map_or(backfill_from, |resume| resume.from)
    }

    /// Notes a response to a regular refresh from `window_start` on. What lies between that and the window before
    /// becomes a gap.
    fn note_window(&mut self, window_start: Date) {
        let covered_to = self
            .last_window_start
            .replace(window_start)
            .map(earliest_window_end);
        if let Some(covered_to) = covered_to.filter(|covered_to| *covered_to < window_start) {
            let from = covered_to.saturating_sub(GAP_MARGIN_DAYS.days());
            self.reopen_range(from, window_start);
        }
    }

    /// Notes that a range was read.
    fn note_received(
        &mut self,
        range: BackfillRange,
        backfill_from: Date,
        rows: usize,
        first_available: Option<Date>,
    ) {
        self.rows += rows as u64;
        self.reached_date = range.from;
        if range.from <= self.first_date(backfill_from) {
            self.finish_range(BackfillEnd::RequestedLimit);
        } else if first_available.is_some_and(|first| first >= range.from) {
            self.finish_range(BackfillEnd::BankLimit);
        }
    }

    /// Leaves out a day that cannot be read; with more than [`MAX_UNREADABLE_DAYS`] the account is given up.
    fn note_unreadable_day(&mut self, range: BackfillRange, backfill_from: Date, reason: &str) {
        if self.unreadable_days.len() >= MAX_UNREADABLE_DAYS {
            self.end = Some(BackfillEnd::GaveUp);
            return;
        }
        self.unreadable_days.push(UnreadableDay {
            date: range.from,
            reason: reason.chars().take(MAX_REASON_CHARS).collect(),
        });
        self.reached_date = range.from;
        if range.from <= self.first_date(backfill_from) {
            self.finish_range(BackfillEnd::RequestedLimit);
        }
    }

    /// Notes days of which some rows could not be read, so that they are fetched again; as many as there is room for.
    fn note_unreadable_rows(&mut self, days: Vec<UnreadableDay>) {
        for mut day in days {
            let is_noted = self.unreadable_days.iter().any(|it| it.date == day.date);
            if is_noted || self.unreadable_days.len() >= MAX_UNREADABLE_DAYS {
                continue;
            }
            day.reason = day.reason.chars().take(MAX_REASON_CHARS).collect();
            self.unreadable_days.push(day);
        }
    }

    /// Fetches again what is missing: the days left out, or what lies before an end that the bank did not set.
    fn reopen_gaps(&mut self) {
        let days = std::mem::take(&mut self.unreadable_days);
        let dates = days.iter().map(|day| day.date);
        match (dates.clone().min(), dates.max()) {
            (Some(first), Some(last)) => {
                // The last date of the calendar has no tomorrow.
                self.reopen_range(first, last.tomorrow().unwrap_or(last));
            }
            _ => self.end = None,
        }
    }

    /// Fetches the dates from `from` (inclusive) to `to` (exclusive) again; then the backfill resumes where it was.
    fn reopen_range(&mut self, from: Date, to: Date) {
        self.resume_point = Some(match self.resume_point {
            Some(resume) => ResumePoint {
                from: resume.from.min(from),
                ..resume
            },
            None => ResumePoint {
                from,
                reached_date: self.reached_date,
                // Ranges are reopened only after the end.
                end: self.end.unwrap_or(BackfillEnd::RequestedLimit),
            },
        });
        self.reached_date = to;
        self.end = None;
    }

    /// Ends the backfill, or where a part was fetched again, resumes where it was.
    fn finish_range(&mut self, end: BackfillEnd) {
        self.end = Some(end);
        if let Some(resume) = self.resume_point.take() {
            self.reached_date = self.reached_date.min(resume.reached_date);
            self.end = Some(resume.end);
        }
    }

    /// True where something is missing that may be available later. What a bank rejects it rejects until the user was
    /// present.
    pub fn has_retryable_gaps(&self, user_present: bool) -> bool {
        let is_rejected = self.end == Some(BackfillEnd::BankRejected);
        !self.unreadable_days.is_empty()
            || self.end == Some(BackfillEnd::GaveUp)
            || (is_rejected && user_present)
    }

    /// Why the account's older transactions are not whole; `None` where they are, or are being fetched for the first
    /// time.
    pub fn partial_reason(&self) -> Option<AvailabilityReason> {
        match self.end {
            None if self.resume_point.is_some() => Some(AvailabilityReason::BackfillGap),
            _ if !self.unreadable_days.is_empty() => Some(AvailabilityReason::BackfillUnreadable),
            end => AvailabilityReason::for_backfill_end(end?),
        }
    }
}

/// A range of one account's backfill: from a date (inclusive) to another (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackfillRange {
    /// The account.
    pub account: AccountId,
    /// The first date.
    pub from: Date,
    /// The first date that was fetched before.
    pub to: Date,
}

impl BackfillRange {
    /// True where there is nothing to fetch.
    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }
}

/// What came of fetching a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackfillOutcome {
    /// The bank responded.
    Received {
        /// Rows that were new.
        rows: usize,
        /// The first date that the bank says it has, where it says so.
        first_available: Option<Date>,
        /// Days of which a row could not be read, with the fault; the other rows were.
        unreadable_days: Vec<UnreadableDay>,
    },
    /// The response cannot be read, while the bank's response for today can: it is too long, or a row of it is
    /// malformed. A shorter range is fetched, and a single day that is unreadable is left out.
    Unreadable {
        /// Why, for people.
        reason: String,
    },
    /// The bank rejects dates this old, although it responds for newer ones.
    Rejected,
    /// The step failed and is tried again after a wait.
    Failed {
        /// Seconds the bank asked for.
        retry_after_s: Option<u32>,
    },
}

/// How much of a backfill is done, to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BackfillProgress {
    /// Accounts whose backfill is complete.
    pub accounts_done: usize,
    /// All accounts.
    pub accounts: usize,
    /// Everything from this date on was fetched, of every account; `None` without accounts.
    pub oldest_date: Option<Date>,
    /// New rows found so far.
    pub rows: u64,
    /// Per cent of the requested days; 100 once complete.
    pub percent: u8,
}

impl Backfill {
    /// The backfill of these accounts up to `start`, `months` back from `today`. Where `start` is as old as that, there
    /// is nothing to fetch, and the first step of each account ends it.
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

    /// The range to fetch next; `None` where every account is complete. A bank that counts calls and not pages is asked
    /// for all that is left `all_at_once`.
    pub fn next_range(&self, all_at_once: bool) -> Option<BackfillRange> {
        let account = self.accounts.iter().find(|it| it.end.is_none())?;
        let first = account.first_date(self.from);
        let is_whole = all_at_once && self.range_days == INITIAL_RANGE_DAYS;
        let back = account
            .reached_date
            .saturating_sub(i32::from(self.range_days).days());
        Some(BackfillRange {
            account: account.account,
            from: if is_whole { first } else { back.max(first) },
            to: account.reached_date,
        })
    }

    /// The backfill after a range was fetched, with the next step `pause_s` seconds later at the earliest.
    ///
    /// It always ends: `Received`, `Rejected` and `Unreadable` each bring an account nearer to its end, and so do
    /// [`MAX_STEP_FAILURES`] failures.
    #[must_use]
    pub fn after_step(
        mut self,
        range: BackfillRange,
        outcome: BackfillOutcome,
        now: Timestamp,
        pause_s: u32,
    ) -> Self {
        self.step += 1;
        self.schedule_next_step(&outcome, now, pause_s);
        let Some(position) = self
            .accounts
            .iter()
            .position(|it| it.account == range.account)
        else {
            debug_assert!(false, "a range of an account without a backfill");
            return self;
        };
        let account = &mut self.accounts[position];
        match outcome {
            BackfillOutcome::Received {
                rows,
                first_available,
                unreadable_days,
            } => {
                account.note_unreadable_rows(unreadable_days);
                account.note_received(range, self.from, rows, first_available);
                // Longer again, but not the initial length: a bank that counts calls would be asked for all that is
                // left, and fail again.
                let longer = (self.range_days * 2).min(INITIAL_RANGE_DAYS / 2);
                self.range_days = self.range_days.max(longer);
            }
            BackfillOutcome::Unreadable { .. } if self.range_days > 1 => self.range_days /= 2,
            BackfillOutcome::Unreadable { reason } => {
                account.note_unreadable_day(range, self.from, &reason);
            }
            BackfillOutcome::Rejected => account.end = Some(BackfillEnd::BankRejected),
            BackfillOutcome::Failed { .. } if self.failures >= MAX_STEP_FAILURES => {
                account.end = Some(BackfillEnd::GaveUp);
                self.failures = 0;
            }
            BackfillOutcome::Failed { .. } => {}
        }
        self
    }

    /// Counts consecutive failures, and says when the next step may be made.
    fn schedule_next_step(&mut self, outcome: &BackfillOutcome, now: Timestamp, pause_s: u32) {
        let wait_s = match outcome {
            BackfillOutcome::Failed { retry_after_s } => {
                self.failures = self.failures.saturating_add(1);
                let backoff_s = FIRST_BACKOFF_S << self.failures.min(MAX_BACKOFF_DOUBLINGS);
                let wait_s = retry_after_s.unwrap_or(backoff_s);
                wait_s.clamp(pause_s, MAX_STEP_WAIT_S)
            }
            BackfillOutcome::Received { .. }
            | BackfillOutcome::Unreadable { .. }
            | BackfillOutcome::Rejected => {
                self.failures = 0;
                pause_s
            }
        };
        // Only the end of the calendar cuts the wait short.
        self.next_step_at = now
            .saturating_add(SignedDuration::from_secs(wait_s.into()))
            .unwrap_or(Timestamp::MAX);
    }

    /// The backfill after these accounts responded to a regular refresh whose window begins at `window_start`; `None`
    /// where there is nothing to note.
    ///
    /// An account that never responded before is backfilled from now on. Where months lie between the window and the
    /// last one noted, because nothing ran, the bank failed or the user was away, they are fetched. An account whose
    /// backfill is under way stays as it is: what it misses is noted after its end. A step that is under way loses the
    /// commit, and is made again.
    #[must_use]
    pub fn after_refresh(
        &self,
        refreshed_accounts: &[AccountId],
        window_start: Date,
        now: Timestamp,
    ) -> Option<Self> {
        let moved: Vec<AccountId> = refreshed_accounts
            .iter()
            .copied()
            .filter(|account| self.has_window_moved(*account, window_start))
            .collect();
        if moved.is_empty() {
            return None;
        }
        let mut after = match self.is_complete() {
            true => self.with_next_step(now),
            false => Self {
                step: self.step + 1,
                ..self.clone()
            },
        };
        for id in moved {
            match after.accounts.iter_mut().find(|it| it.account == id) {
                Some(account) => account.note_window(window_start),
                None => after.accounts.push(AccountBackfill::new(id, window_start)),
            }
        }
        Some(after)
    }

    /// True where the account is new, or its backfill is complete and another window was noted last.
    fn has_window_moved(&self, account: AccountId, window_start: Date) -> bool {
        let known = self.accounts.iter().find(|it| it.account == account);
        known.is_none_or(|it| it.end.is_some() && it.last_window_start != Some(window_start))
    }

    /// The backfill with its gaps open again; `None` where there is none that may be fetched now. At once where the user
    /// is present, else [`RETRY_INCOMPLETE_AFTER`] its last step.
    #[must_use]
    pub fn reopen_incomplete(&self, user_present: bool, now: Timestamp) -> Option<Self> {
        let has_gaps = self
            .accounts
            .iter()
            .any(|it| it.has_retryable_gaps(user_present));
        if !self.is_complete() || !has_gaps || (!user_present && now < self.next_retry_at()) {
            return None;
        }
        let mut reopened = self.with_next_step(now);
        for account in &mut reopened.accounts {
            if account.has_retryable_gaps(user_present) {
                account.reopen_gaps();
            }
        }
        Some(reopened)
    }

    /// From when on gaps are fetched again, with the next refresh that reads the backfill.
    pub fn next_retry_at(&self) -> Timestamp {
        // At the end of time there is no retry.
        self.next_step_at
            .saturating_add(RETRY_INCOMPLETE_AFTER)
            .unwrap_or(Timestamp::MAX)
    }

    /// Another step, which may be made now.
    fn with_next_step(&self, now: Timestamp) -> Self {
        Self {
            step: self.step + 1,
            range_days: INITIAL_RANGE_DAYS,
            failures: 0,
            next_step_at: now,
            ..self.clone()
        }
    }

    /// The backfill with another step instead of one whose message is taken to be lost at `now`; `None` where it is
    /// not. A message that is received after all finds its step made.
    #[must_use]
    pub fn revive_lost_step(&self, now: Timestamp) -> Option<Self> {
        let late_s = now.duration_since(self.next_step_at).as_secs();
        (!self.is_complete() && late_s > STEP_LOST_AFTER_S).then(|| Self {
            step: self.step + 1,
            next_step_at: now,
            ..self.clone()
        })
    }

    /// True once every account's backfill has ended.
    pub fn is_complete(&self) -> bool {
        self.accounts.iter().all(|it| it.end.is_some())
    }

    /// How much of the backfill is done.
    pub fn measure_progress(&self) -> BackfillProgress {
        let wanted = days_between(self.from, self.start).max(1);
        let covered: i64 = self
            .accounts
            .iter()
            .map(|it| match (it.end, it.resume_point) {
                (Some(_), _) => wanted,
                (None, Some(resume)) => {
                    (wanted - days_between(resume.from, it.reached_date)).max(0)
                }
                (None, None) => days_between(it.reached_date, self.start).min(wanted),
            })
            .sum();
        let all: i64 = self.accounts.iter().map(|_| wanted).sum();
        // Without accounts there is nothing to do.
        let percent = (covered * 100).checked_div(all).unwrap_or(0);
        BackfillProgress {
            accounts_done: self.accounts.iter().filter(|it| it.end.is_some()).count(),
            accounts: self.accounts.len(),
            oldest_date: self.accounts.iter().map(|it| it.reached_date).max(),
            rows: self.accounts.iter().map(|it| it.rows).sum(),
            percent: u8::try_from(percent).unwrap_or(100),
        }
    }
}

/// Days from one date to a later one; 0 where it is not later.
fn days_between(from: Date, to: Date) -> i64 {
    i64::from((to - from).get_days().max(0))
}

/// The message of the fetch queue: a step of a backfill is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillStep {
    /// The record.
    pub record: RecordId,
    /// Its bank: the message group.
    pub bank: BankId,
    /// The number of the step. Where another was committed meanwhile, the message is void.
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
                unreadable_days: vec![],
                rows,
                first_available: ago.map(|ago| date(2026, 3, 15).saturating_sub(ago.days())),
            }),
            2 => Just(BackfillOutcome::Unreadable { reason: "Data.Transaction[3].Amount: 12,50".repeat(20) }),
            1 => Just(BackfillOutcome::Rejected),
            2 => prop::option::of(any::<u32>()).prop_map(|retry_after_s| BackfillOutcome::Failed { retry_after_s }),
        ]
    }

    proptest! {
        /// Whatever the bank does, the backfill ends, goes back without a gap and waits a day at most.
        #[test]
        fn every_backfill_ends(outcomes in prop::collection::vec(any_outcome(), 1..40), all_at_once: bool, months in 0..30_u8) {
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            let accounts = [AccountId::derive(&[b"a"]), AccountId::derive(&[b"b"])];
            let (start, today) = (date(2026, 2, 1), date(2026, 3, 15));
            let mut backfill = Backfill::new(accounts, start, today, months, now);
            let mut percent = 0;
            let mut outcomes = outcomes.into_iter().cycle();
            let mut steps = 0;
            while let Some(range) = backfill.next_range(all_at_once) {
                prop_assert!(range.from < range.to || (range.is_empty() && months <= 1));
                prop_assert!(range.from >= backfill.from);
                let of = |backfill: &Backfill| backfill.accounts.iter().find(|it| it.account == range.account).unwrap().clone();
                prop_assert_eq!(range.to, of(&backfill).reached_date, "no gap");
                let before = backfill.step;
                backfill = backfill.after_step(range, outcomes.next().unwrap(), now, 1);
                prop_assert_eq!(backfill.step, before + 1);
                prop_assert!(backfill.next_step_at.duration_since(now).as_hours() <= 24);
                prop_assert!(backfill.measure_progress().percent >= percent);
                percent = backfill.measure_progress().percent;
                steps += 1;
                prop_assert!(steps < MAX_STEPS, "the backfill does not end");
            }
            prop_assert!(backfill.is_complete());
            prop_assert_eq!(backfill.measure_progress().percent, 100);
            prop_assert_eq!(backfill.measure_progress().accounts_done, 2);
            prop_assert!(backfill.revive_lost_step(Timestamp::MAX).is_none());
        }
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// Makes every step, with a bank that responds so.
    fn run_backfill(
        mut backfill: Backfill,
        mut bank: impl FnMut(&BackfillRange) -> BackfillOutcome,
    ) -> (Backfill, Vec<BackfillRange>) {
        let mut fetched = Vec::new();
        while let Some(range) = backfill.next_range(false) {
            backfill = backfill.after_step(range, bank(&range), NOW, 1);
            fetched.push(range);
            assert!(fetched.len() < MAX_STEPS, "the backfill does not end");
        }
        (backfill, fetched)
    }

    fn received_outcome(_: &BackfillRange) -> BackfillOutcome {
        BackfillOutcome::Received {
            unreadable_days: vec![],
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
    fn a_single_unreadable_day_is_left_out() {
        let bad = date(2025, 8, 17);
        let bank = |range: &BackfillRange| match (range.from..range.to).contains(&bad) {
            true => unreadable_outcome(),
            false => received_outcome(range),
        };
        let (backfill, fetched) = run_backfill(one_account_backfill(24), bank);
        let account = &backfill.accounts[0];
        assert_eq!(
            (account.end, account.reached_date),
            (Some(BackfillEnd::RequestedLimit), date(2024, 3, 15))
        );
        let days: Vec<_> = account
            .unreadable_days
            .iter()
            .map(|day| (day.date, day.reason.as_str()))
            .collect();
        assert_eq!(days, [(bad, "Data.Transaction[3].Amount")]);
        assert!(fetched.len() < 50, "{} ranges", fetched.len());

        // A week later that day is fetched again, and nothing else.
        assert_eq!(backfill.reopen_incomplete(false, NOW), None);
        let reopened = backfill
            .reopen_incomplete(false, backfill.next_retry_at())
            .unwrap();
        assert_eq!(reopened.measure_progress().oldest_date, bad.tomorrow().ok());
        let (backfill, fetched) = run_backfill(reopened, received_outcome);
        let fetched: Vec<_> = fetched.iter().map(|range| (range.from, range.to)).collect();
        assert_eq!(fetched, [(bad, bad.tomorrow().unwrap())]);
        let account = &backfill.accounts[0];
        assert_eq!(
            (account.end, account.reached_date),
            (Some(BackfillEnd::RequestedLimit), date(2024, 3, 15))
        );
        assert_eq!(account.unreadable_days, []);
        assert_eq!(
            backfill.reopen_incomplete(false, backfill.next_retry_at()),
            None
        );
    }

    #[test]
    fn a_backfill_of_which_nothing_can_be_read_is_given_up_and_begun_again() {
        let (backfill, _) = run_backfill(one_account_backfill(24), |_| unreadable_outcome());
        let account = &backfill.accounts[0];
        assert_eq!(
            (account.end, account.unreadable_days.len()),
            (Some(BackfillEnd::GaveUp), MAX_UNREADABLE_DAYS)
        );
        let reopened = backfill
            .reopen_incomplete(false, backfill.next_retry_at())
            .unwrap();
        let (backfill, _) = run_backfill(reopened, received_outcome);
        // First what was left out, and a week later what was never fetched.
        assert_eq!(backfill.accounts[0].end, Some(BackfillEnd::GaveUp));
        let reopened = backfill
            .reopen_incomplete(false, backfill.next_retry_at())
            .unwrap();
        let (backfill, _) = run_backfill(reopened, received_outcome);
        let account = &backfill.accounts[0];
        assert_eq!(
            (account.end, account.reached_date),
            (Some(BackfillEnd::RequestedLimit), date(2024, 3, 15))
        );
    }

    #[test]
    fn what_a_bank_rejects_is_fetched_again_once_the_user_was_present() {
        let (backfill, _) = run_backfill(one_account_backfill(24), |_| BackfillOutcome::Rejected);
        assert_eq!(backfill.accounts[0].end, Some(BackfillEnd::BankRejected));
        assert_eq!(backfill.reopen_incomplete(false, Timestamp::MAX), None);
        let (backfill, _) = run_backfill(
            backfill.reopen_incomplete(true, NOW).unwrap(),
            received_outcome,
        );
        assert_eq!(backfill.accounts[0].end, Some(BackfillEnd::RequestedLimit));
        assert_eq!(
            backfill.reopen_incomplete(true, NOW),
            None,
            "it has no gaps"
        );
    }

    #[test]
    fn an_account_that_responds_late_is_backfilled_while_another_is() {
        let late = AccountId::derive(&[b"late"]);
        let backfill = one_account_backfill(24);
        let first = backfill.accounts[0].account;
        let range = backfill.next_range(false).unwrap();
        let wait = BackfillOutcome::Failed {
            retry_after_s: Some(600),
        };
        let backfill = backfill.after_step(range, wait, NOW, 1);
        let window = date(2026, 2, 1);
        assert_eq!(backfill.after_refresh(&[first], window, NOW), None);
        let noted = backfill.after_refresh(&[first, late], window, NOW).unwrap();
        assert_eq!(noted.step, backfill.step + 1);
        assert_eq!(
            (noted.next_step_at, noted.failures),
            (backfill.next_step_at, 1)
        );
        assert_eq!(
            run_backfill(noted, received_outcome)
                .0
                .measure_progress()
                .accounts_done,
            2
        );
    }

    proptest! {
        /// Whenever the bank responds, after whatever pauses: regular refreshes and backfills together leave out no day.
        #[test]
        fn no_pause_leaves_a_gap(pauses in prop::collection::vec(1..200_i32, 1..12), gives_up: bool) {
            let mut today = date(2026, 3, 15);
            let mut window = window_start(today);
            let mut backfill = Backfill::new([AccountId::derive(&[b"a"])], window, today, 24, NOW);
            // Everything before this date was fetched.
            let mut known_through = today;
            for pause in pauses {
                backfill = run_backfill(backfill, received_outcome).0;
                today = today.saturating_add(pause.days());
                window = window_start(today);
                let oldest = backfill.accounts[0].reached_date;
                if let Some(noted) = backfill.after_refresh(&[backfill.accounts[0].account], window, NOW) {
                    prop_assert_eq!(noted.step, backfill.step + 1);
                    backfill = noted;
                }
                let (first, rest) = run_backfill(backfill.clone(), received_outcome);
                if gives_up && !rest.is_empty() {
                    // What failed too often is not forgotten.
                    let (failed, _) = run_backfill(backfill, |_| BackfillOutcome::Failed { retry_after_s: None });
                    prop_assert_eq!(failed.accounts[0].end, Some(BackfillEnd::GaveUp));
                    backfill = run_backfill(failed.reopen_incomplete(false, failed.next_retry_at()).unwrap(), received_outcome).0;
                } else {
                    backfill = first;
                }
                let fetched_from = rest.iter().map(|range| range.from).min().unwrap_or(window);
                prop_assert!(fetched_from <= known_through, "{fetched_from} {known_through}");
                prop_assert!(rest.is_empty() || rest[0].to == window);
                prop_assert_eq!(backfill.accounts[0].reached_date, oldest, "it is as old as it was");
                known_through = today;
            }
        }
    }
}
