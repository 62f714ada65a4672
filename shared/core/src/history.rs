//! The pull of a record's history: after the first pull, backwards in time, a bounded stretch of one
//! account at a time, as far as the bank allows.

use jiff::{Timestamp, ToSpan, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{AccountId, BankId, RecordId},
    state::HistoryEnd,
};

/// Months of history that are asked for where nothing else is said; Okra's `limit`, and its most.
pub const MAX_MONTHS: u8 = 24;

/// Days of the first stretch.
const FIRST_DAYS: u16 = 92;

/// Times in a row that a stretch may fail until its account's history is given up.
pub const MAX_FAILURES: u8 = 12;

/// Seconds past its time after which a step's message is taken to be lost: twice what a queue can hold
/// one back.
const LOST_AFTER_S: i64 = 1_800;

/// How far the history of a record has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
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
    pub accounts: Vec<AccountHistory>,
    /// Days of the next stretch at most: halved where the bank's answer was too long.
    #[serde(rename = "d")]
    pub days: u16,
    /// Steps that failed in a row.
    #[serde(rename = "e", default)]
    pub failures: u8,
    /// When the next step may be made.
    #[serde(rename = "t")]
    pub next_at: Timestamp,
}

/// How far the history of an account has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountHistory {
    /// The account.
    #[serde(rename = "i")]
    pub account: AccountId,
    /// Everything from this date on is there.
    #[serde(rename = "r")]
    pub reached: Date,
    /// Rows that the pull found.
    #[serde(rename = "n", default)]
    pub rows: u64,
    /// Why it is over; `None`: it is not.
    #[serde(rename = "w", skip_serializing_if = "Option::is_none", default)]
    pub end: Option<HistoryEnd>,
}

/// A stretch of one account's history: from a date (inclusive) to another (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The account.
    pub account: AccountId,
    /// First date.
    pub from: Date,
    /// First date that is known already.
    pub to: Date,
}

impl Stretch {
    /// True where there is nothing to ask for.
    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }
}

/// What came of asking for a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The bank answered.
    Answered {
        /// Rows that were new.
        rows: usize,
        /// The first date that the bank says it has, where it says so.
        first_available: Option<Date>,
    },
    /// The answer was longer than is read at once.
    TooLong,
    /// The bank refuses dates this old, although it answers for newer ones.
    Refused,
    /// It failed; it is tried again after a wait.
    Failed {
        /// Seconds the bank asked for.
        retry_after_s: Option<u32>,
    },
}

/// How far a history has come, to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
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

impl History {
    /// The history of these accounts up to `start`, `months` back from `today`. Where `start` is as old as
    /// that, there is nothing to ask for; the first step of each account says so.
    pub fn new(
        accounts: impl IntoIterator<Item = AccountId>,
        start: Date,
        today: Date,
        months: u8,
        now: Timestamp,
    ) -> Self {
        let from = today.saturating_sub(i32::from(months.min(MAX_MONTHS)).months());
        let account = |account| AccountHistory {
            account,
            reached: start,
            rows: 0,
            end: None,
        };
        Self {
            step: 0,
            from: from.min(start),
            start,
            accounts: accounts.into_iter().map(account).collect(),
            days: FIRST_DAYS,
            failures: 0,
            next_at: now,
        }
    }

    /// The stretch to ask for next; `None`: all is done. A bank that counts calls and not pages is
    /// asked for all that is left at `once`.
    pub fn next(&self, once: bool) -> Option<Stretch> {
        let account = self.accounts.iter().find(|it| it.end.is_none())?;
        let whole = once && self.days == FIRST_DAYS;
        let back = account.reached.saturating_sub(i32::from(self.days).days());
        Some(Stretch {
            account: account.account,
            from: if whole {
                self.from
            } else {
                back.max(self.from)
            },
            to: account.reached,
        })
    }

    /// The history after a stretch was asked for. Every `Answered`, `Refused` and `TooLong` comes
    /// nearer to the end, and so do [`MAX_FAILURES`] failures: it does end.
    #[must_use]
    pub fn after(mut self, stretch: Stretch, asked: Asked, now: Timestamp, pause_s: u32) -> Self {
        self.step = self.step.saturating_add(1);
        let wait_s = match asked {
            Asked::Failed { retry_after_s } => {
                self.failures = self.failures.saturating_add(1);
                let backoff = 30_u32 << self.failures.min(9);
                retry_after_s.unwrap_or(backoff).clamp(pause_s, 86_400)
            }
            _ => {
                self.failures = 0;
                pause_s
            }
        };
        self.next_at = now
            .checked_add(jiff::SignedDuration::from_secs(wait_s.into()))
            .unwrap_or(now);
        let (from, failures) = (self.from, self.failures);
        let Some(account) = self
            .accounts
            .iter_mut()
            .find(|it| it.account == stretch.account)
        else {
            return self;
        };
        match asked {
            Asked::Answered {
                rows,
                first_available,
            } => {
                account.rows += u64::try_from(rows).unwrap_or(u64::MAX);
                account.reached = stretch.from;
                if stretch.from <= from {
                    account.end = Some(HistoryEnd::Limit);
                } else if first_available.is_some_and(|first| first >= stretch.from) {
                    account.end = Some(HistoryEnd::BankLimit);
                }
            }
            // One day that is too long to be read is left out, and said to be.
            Asked::TooLong if self.days <= 1 => account.end = Some(HistoryEnd::BankLimit),
            Asked::TooLong => self.days /= 2,
            Asked::Refused => account.end = Some(HistoryEnd::BankRefused),
            Asked::Failed { .. } if failures >= MAX_FAILURES => {
                account.end = Some(HistoryEnd::GaveUp);
                self.failures = 0;
            }
            Asked::Failed { .. } => {}
        }
        self
    }

    /// The complete history of a record opened again for a gap: the dates from `from` to `start`.
    #[must_use]
    pub fn reopened(mut self, from: Date, start: Date, now: Timestamp) -> Self {
        self.step = self.step.saturating_add(1);
        (self.from, self.start) = (from, start);
        (self.days, self.failures, self.next_at) = (FIRST_DAYS, 0, now);
        for account in &mut self.accounts {
            account.reached = start;
            account.end = None;
        }
        self
    }

    /// The history with another step in the place of one whose message is taken to be lost at `now`;
    /// `None` where it is not. Should the message come after all, it finds its step made.
    #[must_use]
    pub fn revived(&self, now: Timestamp) -> Option<Self> {
        let late_s = now.duration_since(self.next_at).as_secs();
        (!self.is_complete() && late_s > LOST_AFTER_S).then(|| Self {
            step: self.step.saturating_add(1),
            next_at: now,
            ..self.clone()
        })
    }

    /// True once every account's is.
    pub fn is_complete(&self) -> bool {
        self.accounts.iter().all(|it| it.end.is_some())
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        let days = |from: Date, to: Date| (to - from).get_days().max(0);
        let wanted = days(self.from, self.start).max(1);
        let covered: i32 = self
            .accounts
            .iter()
            .map(|it| match it.end {
                Some(_) => wanted,
                None => days(it.reached, self.start).min(wanted),
            })
            .sum();
        let all = wanted.saturating_mul(i32::try_from(self.accounts.len()).unwrap_or(i32::MAX));
        Progress {
            accounts_done: self.accounts.iter().filter(|it| it.end.is_some()).count(),
            accounts: self.accounts.len(),
            oldest_date: self.accounts.iter().map(|it| it.reached).max(),
            rows: self.accounts.iter().map(|it| it.rows).sum(),
            percent: u8::try_from(i64::from(covered) * 100 / i64::from(all.max(1))).unwrap_or(100),
        }
    }
}

/// A step of a history to be made; the message of the fetch queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryStep {
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

    fn asked() -> impl Strategy<Value = Asked> {
        prop_oneof![
            4 => (0..500_usize, prop::option::of(0..800_i32)).prop_map(|(rows, ago)| Asked::Answered {
                rows,
                first_available: ago.map(|ago| date(2026, 3, 15).saturating_sub(ago.days())),
            }),
            1 => Just(Asked::TooLong),
            1 => Just(Asked::Refused),
            2 => prop::option::of(any::<u32>()).prop_map(|retry_after_s| Asked::Failed { retry_after_s }),
        ]
    }

    proptest! {
        /// Whatever the bank does, the pull ends, goes back without a gap and waits a day at most.
        #[test]
        fn every_history_ends(answers in prop::collection::vec(asked(), 1..40), once: bool, months in 0..30_u8) {
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            let accounts = [AccountId::derive(&[b"a"]), AccountId::derive(&[b"b"])];
            let (start, today) = (date(2026, 2, 1), date(2026, 3, 15));
            let mut history = History::new(accounts, start, today, months, now);
            let mut percent = 0;
            let mut answers = answers.into_iter().cycle();
            let mut steps = 0;
            while let Some(stretch) = history.next(once) {
                prop_assert!(stretch.from < stretch.to || (stretch.is_empty() && months <= 1));
                prop_assert!(stretch.from >= history.from);
                let of = |history: &History| history.accounts.iter().find(|it| it.account == stretch.account).unwrap().clone();
                prop_assert_eq!(stretch.to, of(&history).reached, "no gap");
                let before = history.step;
                history = history.after(stretch, answers.next().unwrap(), now, 1);
                prop_assert_eq!(history.step, before + 1);
                prop_assert!(history.next_at.duration_since(now).as_hours() <= 24);
                prop_assert!(history.progress().percent >= percent);
                percent = history.progress().percent;
                steps += 1;
                prop_assert!(steps < 2_000, "it does not end");
            }
            prop_assert!(history.is_complete());
            prop_assert_eq!(history.progress().percent, 100);
            prop_assert_eq!(history.progress().accounts_done, 2);
            prop_assert!(history.revived(Timestamp::MAX).is_none());
        }
    }
}
