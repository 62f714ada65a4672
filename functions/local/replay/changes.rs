//! Changes as both sides describe them: those that a replay expects, and those that the feeds have.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use okra_core::{
    model::{
        money::Money,
        snapshot::{BookingStatus, Direction, TransactionFacts, utc_date},
    },
    sync::{
        digest::normalise_text,
        feed::{Change, FeedEntry},
    },
};
use okra_sandbox::{RowView, pkdd::PkddRow};

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ChangeKind {
    Added,
    Modified,
    Removed,
}

/// A change, in what the bank and the feed have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DescribedChange {
    pub(super) kind: ChangeKind,
    /// The row's text, normalised.
    pub(super) description: String,
    pub(super) signed_minor: i64,
    pub(super) is_pending: bool,
}

impl DescribedChange {
    /// A row of the file that is booked on its day.
    pub(super) fn from_file_row(row: &PkddRow) -> Self {
        Self {
            kind: ChangeKind::Added,
            description: normalise_text(&row.bank_description()),
            signed_minor: apply_direction(row.amount.minor, row.direction),
            is_pending: false,
        }
    }

    /// A row of the bank that was injected or edited.
    pub(super) fn from_bank_row(kind: ChangeKind, row: &RowView) -> anyhow::Result<Self> {
        let amount = Money::parse(&row.amount, "CZK".parse()?)?;
        Ok(Self {
            kind,
            description: normalise_text(&row.text),
            signed_minor: apply_direction(amount.minor, row.direction),
            is_pending: row.status == BookingStatus::Pending,
        })
    }

    fn from_facts(kind: ChangeKind, facts: &TransactionFacts) -> Self {
        Self {
            kind,
            description: facts.description.clone(),
            signed_minor: facts.signed_minor(),
            is_pending: facts.status == BookingStatus::Pending,
        }
    }
}

/// An amount with the sign of its direction.
pub(super) const fn apply_direction(minor: i64, direction: Direction) -> i64 {
    match direction {
        Direction::Credit => minor,
        Direction::Debit => -minor,
    }
}

/// Which account's changes of which day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AccountDay {
    pub(super) account: String,
    pub(super) date: Date,
}

impl AccountDay {
    pub(super) fn new(account: &str, date: Date) -> Self {
        Self {
            account: account.to_owned(),
            date,
        }
    }
}

/// Changes by account and day.
pub(super) type ChangesByDay = BTreeMap<AccountDay, Vec<DescribedChange>>;

/// Adds the changes in entries of an account's feed, each on the day it was committed.
pub(super) fn collect_observed_changes(
    account: &str,
    entries: &[FeedEntry],
    changes: &mut ChangesByDay,
) {
    for entry in entries {
        let Change::Transactions(diff) = &entry.change else {
            continue;
        };
        let day = AccountDay::new(account, utc_date(entry.committed_at));
        let day = changes.entry(day).or_default();
        for added in &diff.added {
            day.push(DescribedChange::from_facts(ChangeKind::Added, &added.facts));
        }
        for modified in &diff.modified {
            day.push(DescribedChange::from_facts(
                ChangeKind::Modified,
                &modified.after.facts,
            ));
        }
        for removed in &diff.removed {
            day.push(DescribedChange::from_facts(
                ChangeKind::Removed,
                &removed.facts,
            ));
        }
    }
}

/// How the feeds differ from what was expected, a sentence for each difference.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ChangeDifferences {
    /// Expected, but in no feed.
    pub(super) missed: Vec<String>,
    /// In a feed, but not expected.
    pub(super) unexpected: Vec<String>,
}

/// Compares expected and observed changes, up to and including a day.
pub(super) fn compare_changes(
    expected: &ChangesByDay,
    observed: &ChangesByDay,
    last_day: Date,
) -> ChangeDifferences {
    let mut differences = ChangeDifferences::default();
    let days: BTreeSet<&AccountDay> = expected.keys().chain(observed.keys()).collect();
    for day in days.into_iter().filter(|day| day.date <= last_day) {
        let AccountDay { account, date } = day;
        // What is left of the observed changes after each expected one took its own is unexpected.
        let mut remaining: Vec<&DescribedChange> =
            observed.get(day).into_iter().flatten().collect();
        for change in expected.get(day).into_iter().flatten() {
            match remaining.iter().position(|observed| *observed == change) {
                Some(position) => {
                    remaining.swap_remove(position);
                }
                None => differences.missed.push(format!(
                    "account {account} on {date}: {change:?} was missed"
                )),
            }
        }
        for change in remaining {
            differences
                .unexpected
                .push(format!("account {account} on {date}: {change:?} is false"));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: ChangeKind, is_pending: bool) -> DescribedChange {
        DescribedChange {
            kind,
            description: "A".to_owned(),
            signed_minor: -5,
            is_pending,
        }
    }

    #[test]
    fn missed_and_unexpected_changes_are_told_apart() {
        let date = jiff::civil::date(1995, 3, 1);
        let on_day = |changes: &[DescribedChange]| {
            ChangesByDay::from([(AccountDay::new("1", date), changes.to_vec())])
        };
        let a = change(ChangeKind::Added, true);
        let b = change(ChangeKind::Modified, false);
        // The order within a day does not matter.
        assert_eq!(
            compare_changes(
                &on_day(&[a.clone(), b.clone()]),
                &on_day(&[b.clone(), a.clone()]),
                date
            ),
            ChangeDifferences::default()
        );
        let differences = compare_changes(
            &on_day(&[a.clone(), a.clone()]),
            &on_day(&[a.clone(), b]),
            date,
        );
        assert_eq!(
            (differences.missed.len(), differences.unexpected.len()),
            (1, 1)
        );
        // Changes after the last day played do not count.
        let eve = date.yesterday().unwrap();
        assert_eq!(
            compare_changes(&on_day(&[a]), &ChangesByDay::new(), eve),
            ChangeDifferences::default()
        );
    }
}
