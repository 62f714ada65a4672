//! Movements that the file does not have, played on top of it: pending rows that are booked under
//! another id, edits and removals. The injector keeps its own books of what a perfect observer would be
//! told each day; the verdict compares them with the feed.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context;
use jiff::civil::Date;
use okra_core::{
    model::{
        money::Money,
        snapshot::{BookingStatus, Direction, TransactionFacts, utc_date},
    },
    sync::{
        decide::window_start,
        digest::normalise_text,
        feed::{Change, FeedEntry},
    },
};
use okra_sandbox::{
    AccountAddress, BookingDetails, NewTransaction, RowAmendment, RowKey, RowView, SandboxBank,
    pkdd::{PkddRow, ReplayBank},
};

use super::noon_of_day;

/// One of so many linked accounts sees a movement each day.
const ONE_ACCOUNT_IN: usize = 25;

/// Days a pending row stays pending at most.
const MAX_PENDING_DAYS: i64 = 4;

/// Rows an account must show for one of them to be taken away: where most of a list is gone, the answer
/// is not believed, and that is not what is tried here.
const MIN_ROWS_TO_REMOVE: usize = 10;

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InjectedChangeKind {
    Added,
    Modified,
    Removed,
}

/// A change as both sides describe it: what happened, and the row's text, signed minor units and
/// whether it is pending.
pub(crate) type DescribedChange = (InjectedChangeKind, String, i64, bool);

/// Changes by account and day.
pub(crate) type ChangesByDay = BTreeMap<(String, Date), Vec<DescribedChange>>;

/// How many movements of each sort were injected.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InjectedCounts {
    pub(crate) pending: u64,
    pub(crate) booked: u64,
    pub(crate) edited: u64,
    pub(crate) removed: u64,
}

struct PendingInjectedRow {
    location: AccountAddress,
    row: RowKey,
    due_on: Date,
}

/// See the module.
pub(crate) struct Injector {
    seed: u64,
    pending_rows: Vec<PendingInjectedRow>,
    last_number: u64,
    /// What a perfect observer is told.
    pub(crate) expected_changes: ChangesByDay,
    /// Minor units by which an account's booked balance differs from the file's.
    pub(crate) balance_drift: HashMap<String, i64>,
    /// The file's rows that are gone.
    pub(crate) removed_rows: HashSet<String>,
    pub(crate) counts: InjectedCounts,
}

/// The mark of injected rows, which the file does not have.
const INJECTED_PREFIX: &str = "INJECTED";

/// True for the text of a row that is none of the file's.
pub(crate) fn is_injected(description: &str) -> bool {
    description.starts_with(INJECTED_PREFIX)
}

fn describe_change(kind: InjectedChangeKind, row: &RowView) -> anyhow::Result<DescribedChange> {
    let money = Money::parse(&row.amount, "CZK".parse()?)?;
    let minor = if row.direction == Direction::Debit {
        -money.minor
    } else {
        money.minor
    };
    let pending = row.status == BookingStatus::Pending;
    Ok((kind, normalise_text(&row.text), minor, pending))
}

impl Injector {
    /// An injector whose movements follow from `seed`, over a file with these rows.
    pub(crate) fn new(seed: u64, rows: &[PkddRow]) -> Self {
        let mut expected_changes = ChangesByDay::new();
        for row in rows {
            let sign = if row.direction == Direction::Debit {
                -1
            } else {
                1
            };
            let told = (
                InjectedChangeKind::Added,
                normalise_text(&row.bank_description()),
                sign * row.amount.minor,
                false,
            );
            let of = (row.account_id.to_string(), row.date);
            expected_changes.entry(of).or_default().push(told);
        }
        Self {
            seed,
            pending_rows: Vec::new(),
            last_number: 0,
            expected_changes,
            balance_drift: HashMap::new(),
            removed_rows: HashSet::new(),
            counts: InjectedCounts::default(),
        }
    }

    /// What its movements follow from.
    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Plays the movements of a day, which is the bank's today. The same days in the same order make
    /// the same movements, so an interrupted replay plays them again before it goes on.
    pub(crate) fn play_day(&mut self, date: Date, bank: &ReplayBank) -> anyhow::Result<()> {
        let day = u64::from(date.year().unsigned_abs()) * 366
            + u64::from(date.day_of_year().unsigned_abs());
        let mut random =
            fastrand::Rng::with_seed(self.seed ^ day.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut touched: HashSet<RowKey> = HashSet::new();
        let (due, open): (Vec<PendingInjectedRow>, Vec<PendingInjectedRow>) =
            std::mem::take(&mut self.pending_rows)
                .into_iter()
                .partition(|open| open.due_on <= date);
        self.pending_rows = open;
        for open in due {
            touched.insert(open.row);
            self.settle_pending_row(date, bank.sandbox_bank(), open, &mut random)?;
        }
        let places: Vec<AccountAddress> = bank
            .sandbox_bank()
            .list_logins()
            .into_iter()
            .filter_map(|login| {
                let account = login.accounts.first()?.account_id.clone();
                Some(AccountAddress {
                    login: login.id,
                    account_id: account,
                })
            })
            .collect();
        for _ in 0..places.len().div_ceil(ONE_ACCOUNT_IN) {
            let place = places[random.usize(..places.len())].clone();
            self.play_movement(date, bank.sandbox_bank(), place, &mut touched, &mut random)?;
        }
        Ok(())
    }

    fn expect_change(
        &mut self,
        account: &str,
        date: Date,
        kind: InjectedChangeKind,
        row: &RowView,
    ) -> anyhow::Result<()> {
        let told = describe_change(kind, row)?;
        self.expected_changes
            .entry((account.to_owned(), date))
            .or_default()
            .push(told);
        Ok(())
    }

    /// A pending row is booked under another id, or taken back.
    fn settle_pending_row(
        &mut self,
        date: Date,
        bank: &SandboxBank,
        pending_row: PendingInjectedRow,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<()> {
        let PendingInjectedRow {
            location: place,
            row,
            ..
        } = pending_row;
        let account = place.account_id.clone();
        if random.u8(..5) == 0 {
            let gone = bank.remove_row(place, row)?;
            self.counts.removed += 1;
            return self.expect_change(&account, date, InjectedChangeKind::Removed, &gone);
        }
        let how = BookingDetails {
            drift: 0,
            booking_time: Some(noon_of_day(date)),
            id: None,
        };
        let booked = bank.book_row(place, row, how)?;
        self.counts.booked += 1;
        let (_, _, minor, _) = describe_change(InjectedChangeKind::Modified, &booked)?;
        *self.balance_drift.entry(account.clone()).or_default() += minor;
        self.expect_change(&account, date, InjectedChangeKind::Modified, &booked)
    }

    fn play_movement(
        &mut self,
        date: Date,
        bank: &SandboxBank,
        location: AccountAddress,
        touched_rows: &mut HashSet<RowKey>,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<()> {
        let rows = bank.list_rows(&location).context("an account")?;
        // Only rows that were shown on an earlier day, and that the connector still asks for.
        let shown: Vec<&RowView> = rows
            .iter()
            .filter(|row| {
                utc_date(row.booking_time) < date
                    && utc_date(row.booking_time) >= window_start(date)
            })
            .filter(|row| row.status == BookingStatus::Booked && !touched_rows.contains(&row.row))
            .collect();
        let account = location.account_id.clone();
        match random.u8(..10) {
            0..=3 if !shown.is_empty() => {
                let row = shown[random.usize(..shown.len())];
                touched_rows.insert(row.row);
                self.last_number += 1;
                let amend = RowAmendment {
                    text: Some(format!("{} NOTE {}", row.text, self.last_number)),
                    ..RowAmendment::default()
                };
                let edited = bank.amend_row(location, row.row, amend)?;
                self.counts.edited += 1;
                self.expect_change(&account, date, InjectedChangeKind::Modified, &edited)
            }
            4 if shown.len() >= MIN_ROWS_TO_REMOVE => {
                let row = shown[random.usize(..shown.len())];
                touched_rows.insert(row.row);
                let (_, _, minor, _) = describe_change(InjectedChangeKind::Removed, row)?;
                *self.balance_drift.entry(account.clone()).or_default() -= minor;
                self.removed_rows.extend(row.transaction_id.clone());
                let gone = bank.remove_row(location, row.row)?;
                self.counts.removed += 1;
                self.expect_change(&account, date, InjectedChangeKind::Removed, &gone)
            }
            _ => {
                self.last_number += 1;
                let pending = NewTransaction {
                    direction: Direction::Debit,
                    amount: format!(
                        "{}.{:02}",
                        1 + self.last_number % 9000,
                        self.last_number % 100
                    ),
                    text: format!("{INJECTED_PREFIX} {}", self.last_number),
                    status: BookingStatus::Pending,
                    booking_time: Some(noon_of_day(date)),
                    id: None,
                };
                let row = bank.add_row(location.clone(), pending)?;
                touched_rows.insert(row.row);
                let days =
                    1 + i64::try_from(random.u64(..MAX_PENDING_DAYS.unsigned_abs())).unwrap_or(0);
                let due = date.saturating_add(jiff::Span::new().days(days));
                self.pending_rows.push(PendingInjectedRow {
                    location,
                    row: row.row,
                    due_on: due,
                });
                self.counts.pending += 1;
                self.expect_change(&account, date, InjectedChangeKind::Added, &row)
            }
        }
    }
}

/// What a record's feed told, day by day.
pub(crate) fn collect_observed_changes(
    account: &str,
    entries: &[FeedEntry],
    changes: &mut ChangesByDay,
) {
    let describe = |kind, facts: &TransactionFacts| {
        (
            kind,
            facts.description.clone(),
            facts.signed_minor(),
            facts.status == BookingStatus::Pending,
        )
    };
    for entry in entries {
        if let Change::Transactions(diff) = &entry.change {
            let day = changes
                .entry((account.to_owned(), utc_date(entry.committed_at)))
                .or_default();
            day.extend(
                diff.added
                    .iter()
                    .map(|it| describe(InjectedChangeKind::Added, &it.facts)),
            );
            day.extend(
                diff.modified
                    .iter()
                    .map(|it| describe(InjectedChangeKind::Modified, &it.after.facts)),
            );
            day.extend(
                diff.removed
                    .iter()
                    .map(|it| describe(InjectedChangeKind::Removed, &it.facts)),
            );
        }
    }
}

/// What was missed and what was invented, up to a day.
pub(crate) fn compare_changes(
    expected: &ChangesByDay,
    observed: &ChangesByDay,
    last_day: Date,
) -> (Vec<String>, Vec<String>) {
    let (mut missed, mut invented) = (Vec::new(), Vec::new());
    let days: std::collections::BTreeSet<&(String, Date)> =
        expected.keys().chain(observed.keys()).collect();
    for of in days.into_iter().filter(|(_, date)| *date <= last_day) {
        let mut seen = observed.get(of).cloned().unwrap_or_default();
        for change in expected.get(of).into_iter().flatten() {
            match seen.iter().position(|it| it == change) {
                Some(at) => {
                    seen.swap_remove(at);
                }
                None => missed.push(format!(
                    "account {} on {}: {change:?} was missed",
                    of.0, of.1
                )),
            }
        }
        invented.extend(
            seen.iter()
                .map(|change| format!("account {} on {}: {change:?} is false", of.0, of.1)),
        );
    }
    (missed, invented)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_and_what_is_invented_are_told_apart() {
        let day = jiff::civil::date(1995, 3, 1);
        let of =
            |told: &[DescribedChange]| ChangesByDay::from([(("1".to_owned(), day), told.to_vec())]);
        let a = (InjectedChangeKind::Added, "A".to_owned(), -5, true);
        let b = (InjectedChangeKind::Modified, "A".to_owned(), -5, false);
        assert_eq!(
            compare_changes(
                &of(&[a.clone(), b.clone()]),
                &of(&[b.clone(), a.clone()]),
                day
            ),
            (vec![], vec![])
        );
        let (missed, invented) =
            compare_changes(&of(&[a.clone(), a.clone()]), &of(&[a.clone(), b]), day);
        assert_eq!((missed.len(), invented.len()), (1, 1));
        // What comes after the last day played is nobody's.
        let eve = day.yesterday().unwrap();
        assert_eq!(
            compare_changes(&of(&[a]), &ChangesByDay::new(), eve),
            (vec![], vec![])
        );
    }
}
