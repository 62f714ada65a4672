//! Movements that the file does not have, played on top of it: pending rows that are booked under
//! another id, edits and removals. The injector keeps its own books of what a perfect observer would be
//! told each day; the verdict compares them with the feed.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context;
use jiff::civil::Date;
use okra_core::{
    decide::window_start,
    feed::{Change, FeedEntry},
    model::{BookingStatus, Direction, TransactionFacts, date_of},
    money::Money,
    normal::text,
};
use okra_sandbox::{
    Amend, Bank, Book, NewTransaction, Place, RowKey, RowView,
    pkdd::{ReplayBank, Row},
};

use super::noon;

/// One of so many linked accounts sees a movement each day.
const ONE_ACCOUNT_IN: usize = 25;

/// Days a pending row stays pending at most.
const MAX_PENDING_DAYS: i64 = 4;

/// Rows an account must show for one of them to be taken away: where most of a list is gone, the answer
/// is not believed, and that is not what is tried here.
const MIN_ROWS_TO_REMOVE: usize = 10;

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Added,
    Modified,
    Removed,
}

/// A change as both sides describe it: what happened, and the row's text, signed minor units and
/// whether it is pending.
pub(crate) type Told = (Kind, String, i64, bool);

/// Changes by account and day.
pub(crate) type Changes = BTreeMap<(String, Date), Vec<Told>>;

/// How many movements of each sort were injected.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Injected {
    pub(crate) pending: u64,
    pub(crate) booked: u64,
    pub(crate) edited: u64,
    pub(crate) removed: u64,
}

struct Open {
    place: Place,
    row: RowKey,
    due: Date,
}

/// See the module.
pub(crate) struct Injector {
    seed: u64,
    open: Vec<Open>,
    number: u64,
    /// What a perfect observer is told.
    pub(crate) expected: Changes,
    /// Minor units by which an account's booked balance differs from the file's.
    pub(crate) drift: HashMap<String, i64>,
    /// The file's rows that are gone.
    pub(crate) gone: HashSet<String>,
    pub(crate) counts: Injected,
}

/// The mark of injected rows, which the file does not have.
const MARK: &str = "INJECTED";

/// True for the text of a row that is none of the file's.
pub(crate) fn is_injected(description: &str) -> bool {
    description.starts_with(MARK)
}

fn told(kind: Kind, row: &RowView) -> anyhow::Result<Told> {
    let money = Money::parse(&row.amount, "CZK".parse()?)?;
    let minor = if row.direction == Direction::Debit {
        -money.minor
    } else {
        money.minor
    };
    let pending = row.status == BookingStatus::Pending;
    Ok((kind, text(&row.text), minor, pending))
}

impl Injector {
    /// An injector whose movements follow from `seed`, over a file with these rows.
    pub(crate) fn new(seed: u64, rows: &[Row]) -> Self {
        let mut expected = Changes::new();
        for row in rows {
            let sign = if row.direction == Direction::Debit {
                -1
            } else {
                1
            };
            let told = (
                Kind::Added,
                text(&row.description()),
                sign * row.amount.minor,
                false,
            );
            let of = (row.account_id.to_string(), row.date);
            expected.entry(of).or_default().push(told);
        }
        Self {
            seed,
            open: Vec::new(),
            number: 0,
            expected,
            drift: HashMap::new(),
            gone: HashSet::new(),
            counts: Injected::default(),
        }
    }

    /// What its movements follow from.
    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Plays the movements of a day, which is the bank's today. The same days in the same order make
    /// the same movements, so an interrupted replay plays them again before it goes on.
    pub(crate) fn day(&mut self, date: Date, bank: &ReplayBank) -> anyhow::Result<()> {
        let day = u64::from(date.year().unsigned_abs()) * 366
            + u64::from(date.day_of_year().unsigned_abs());
        let mut random =
            fastrand::Rng::with_seed(self.seed ^ day.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut touched: HashSet<RowKey> = HashSet::new();
        let (due, open): (Vec<Open>, Vec<Open>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|open| open.due <= date);
        self.open = open;
        for open in due {
            touched.insert(open.row);
            self.settle(date, bank.bank(), open, &mut random)?;
        }
        let places: Vec<Place> = bank
            .bank()
            .logins()
            .into_iter()
            .filter_map(|login| {
                let account = login.accounts.first()?.account_id.clone();
                Some(Place {
                    login: login.id,
                    account,
                })
            })
            .collect();
        for _ in 0..places.len().div_ceil(ONE_ACCOUNT_IN) {
            let place = places[random.usize(..places.len())].clone();
            self.movement(date, bank.bank(), place, &mut touched, &mut random)?;
        }
        Ok(())
    }

    fn tell(&mut self, account: &str, date: Date, kind: Kind, row: &RowView) -> anyhow::Result<()> {
        let told = told(kind, row)?;
        self.expected
            .entry((account.to_owned(), date))
            .or_default()
            .push(told);
        Ok(())
    }

    /// A pending row is booked under another id, or taken back.
    fn settle(
        &mut self,
        date: Date,
        bank: &Bank,
        open: Open,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<()> {
        let Open { place, row, .. } = open;
        let account = place.account.clone();
        if random.u8(..5) == 0 {
            let gone = bank.remove(place, row)?;
            self.counts.removed += 1;
            return self.tell(&account, date, Kind::Removed, &gone);
        }
        let how = Book {
            drift: 0,
            dated: Some(noon(date)),
            id: None,
        };
        let booked = bank.book(place, row, how)?;
        self.counts.booked += 1;
        let (_, _, minor, _) = told(Kind::Modified, &booked)?;
        *self.drift.entry(account.clone()).or_default() += minor;
        self.tell(&account, date, Kind::Modified, &booked)
    }

    fn movement(
        &mut self,
        date: Date,
        bank: &Bank,
        place: Place,
        touched: &mut HashSet<RowKey>,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<()> {
        let rows = bank.rows(&place).context("an account")?;
        // Only rows that were shown on an earlier day, and that the connector still asks for.
        let shown: Vec<&RowView> = rows
            .iter()
            .filter(|row| date_of(row.dated) < date && date_of(row.dated) >= window_start(date))
            .filter(|row| row.status == BookingStatus::Booked && !touched.contains(&row.row))
            .collect();
        let account = place.account.clone();
        match random.u8(..10) {
            0..=3 if !shown.is_empty() => {
                let row = shown[random.usize(..shown.len())];
                touched.insert(row.row);
                self.number += 1;
                let amend = Amend {
                    text: Some(format!("{} NOTE {}", row.text, self.number)),
                    ..Amend::default()
                };
                let edited = bank.amend(place, row.row, amend)?;
                self.counts.edited += 1;
                self.tell(&account, date, Kind::Modified, &edited)
            }
            4 if shown.len() >= MIN_ROWS_TO_REMOVE => {
                let row = shown[random.usize(..shown.len())];
                touched.insert(row.row);
                let (_, _, minor, _) = told(Kind::Removed, row)?;
                *self.drift.entry(account.clone()).or_default() -= minor;
                self.gone.extend(row.transaction_id.clone());
                let gone = bank.remove(place, row.row)?;
                self.counts.removed += 1;
                self.tell(&account, date, Kind::Removed, &gone)
            }
            _ => {
                self.number += 1;
                let pending = NewTransaction {
                    direction: Direction::Debit,
                    amount: format!("{}.{:02}", 1 + self.number % 9000, self.number % 100),
                    text: format!("{MARK} {}", self.number),
                    status: BookingStatus::Pending,
                    dated: Some(noon(date)),
                    id: None,
                };
                let row = bank.add(place.clone(), pending)?;
                touched.insert(row.row);
                let days =
                    1 + i64::try_from(random.u64(..MAX_PENDING_DAYS.unsigned_abs())).unwrap_or(0);
                let due = date.saturating_add(jiff::Span::new().days(days));
                self.open.push(Open {
                    place,
                    row: row.row,
                    due,
                });
                self.counts.pending += 1;
                self.tell(&account, date, Kind::Added, &row)
            }
        }
    }
}

/// What a record's feed told, day by day.
pub(crate) fn observed(account: &str, entries: &[FeedEntry], into: &mut Changes) {
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
            let day = into
                .entry((account.to_owned(), date_of(entry.at)))
                .or_default();
            day.extend(diff.added.iter().map(|it| describe(Kind::Added, &it.facts)));
            day.extend(
                diff.modified
                    .iter()
                    .map(|it| describe(Kind::Modified, &it.after.facts)),
            );
            day.extend(
                diff.removed
                    .iter()
                    .map(|it| describe(Kind::Removed, &it.facts)),
            );
        }
    }
}

/// What was missed and what was invented, up to a day.
pub(crate) fn compare(
    expected: &Changes,
    observed: &Changes,
    last: Date,
) -> (Vec<String>, Vec<String>) {
    let (mut missed, mut invented) = (Vec::new(), Vec::new());
    let days: std::collections::BTreeSet<&(String, Date)> =
        expected.keys().chain(observed.keys()).collect();
    for of in days.into_iter().filter(|(_, date)| *date <= last) {
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
        let of = |told: &[Told]| Changes::from([(("1".to_owned(), day), told.to_vec())]);
        let a = (Kind::Added, "A".to_owned(), -5, true);
        let b = (Kind::Modified, "A".to_owned(), -5, false);
        assert_eq!(
            compare(
                &of(&[a.clone(), b.clone()]),
                &of(&[b.clone(), a.clone()]),
                day
            ),
            (vec![], vec![])
        );
        let (missed, invented) = compare(&of(&[a.clone(), a.clone()]), &of(&[a.clone(), b]), day);
        assert_eq!((missed.len(), invented.len()), (1, 1));
        // What comes after the last day played is nobody's.
        let eve = day.yesterday().unwrap();
        assert_eq!(compare(&of(&[a]), &Changes::new(), eve), (vec![], vec![]));
    }
}
