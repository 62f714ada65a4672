//! Movements that the file does not have, added to it by an [`Injector`]: pending rows that are booked under another id,
//! edits and removals.
//!
//! Rule: the injector records what a perfect observer would see each day, independently of the system; the verdict
//! compares that with the feed.

use std::collections::{HashMap, HashSet};

use anyhow::Context;
use jiff::civil::Date;
use okra_core::{
    model::snapshot::{BookingStatus, Direction, utc_date},
    sync::decide::window_start,
};
use okra_sandbox::{
    AccountAddress, BookingDetails, NewTransaction, RowAmendment, RowKey, RowView, SandboxBank,
    pkdd::{PkddRow, ReplayBank},
};

use super::{
    changes::{AccountDay, ChangeKind, ChangesByDay, DescribedChange},
    days::noon_of_day,
};

/// One of so many linked accounts has a movement each day.
const ONE_ACCOUNT_IN: usize = 25;

/// Most days that a pending row stays pending.
const MAX_PENDING_DAYS: i64 = 4;

/// Fewest rows of an account of which one may be removed: a response that lacks most of the rows is set aside, which is
/// not what is tested here.
const MIN_ROWS_TO_REMOVE: usize = 10;

/// The prefix of injected rows' texts, which no text of the file has.
const INJECTED_PREFIX: &str = "INJECTED";

/// True for the text of a row that was injected.
pub(super) fn is_injected(description: &str) -> bool {
    description.starts_with(INJECTED_PREFIX)
}

/// How many movements of each kind were injected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InjectedCounts {
    pub(super) pending: u64,
    pub(super) booked: u64,
    pub(super) edited: u64,
    pub(super) removed: u64,
}

struct PendingInjectedRow {
    location: AccountAddress,
    row: RowKey,
    due_on: Date,
}

/// Injects movements, and records what they change.
pub(super) struct Injector {
    seed: u64,
    pending_rows: Vec<PendingInjectedRow>,
    last_number: u64,
    /// What a perfect observer sees.
    pub(super) expected_changes: ChangesByDay,
    /// Minor units by which an account's booked balance differs from the file's.
    pub(super) balance_drift: HashMap<String, i64>,
    /// The file's rows that were removed, by their transaction ids.
    pub(super) removed_rows: HashSet<String>,
    pub(super) counts: InjectedCounts,
}

/// One day of the injector.
struct InjectionDay<'a> {
    date: Date,
    bank: &'a SandboxBank,
    /// Rows that changed today: each row changes at most once a day.
    changed_rows: HashSet<RowKey>,
    random: fastrand::Rng,
}

impl Injector {
    /// An injector whose movements are derived from `seed`, over a file with these rows.
    pub(super) fn new(seed: u64, rows: &[PkddRow]) -> Self {
        let mut expected_changes = ChangesByDay::new();
        for row in rows {
            expected_changes
                .entry(AccountDay::new(&row.account_id.to_string(), row.date))
                .or_default()
                .push(DescribedChange::from_file_row(row));
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

    /// What its movements are derived from.
    pub(super) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Plays the movements of a day, which is the bank's present day. The same days in the same order make the same
    /// movements, so an interrupted replay plays them again before it resumes.
    pub(super) fn play_day(&mut self, date: Date, bank: &ReplayBank) -> anyhow::Result<()> {
        let day_number = u64::from(date.year().unsigned_abs()) * 366
            + u64::from(date.day_of_year().unsigned_abs());
        let seed = self.seed ^ day_number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut day = InjectionDay {
            date,
            bank: bank.sandbox_bank(),
            changed_rows: HashSet::new(),
            random: fastrand::Rng::with_seed(seed),
        };
        // First the pending rows whose day has come, then new movements.
        let (due, open): (Vec<PendingInjectedRow>, Vec<PendingInjectedRow>) =
            std::mem::take(&mut self.pending_rows)
                .into_iter()
                .partition(|pending| pending.due_on <= date);
        self.pending_rows = open;
        for pending in due {
            day.changed_rows.insert(pending.row);
            self.settle_pending_row(&mut day, pending)?;
        }
        let addresses = list_first_accounts(day.bank);
        for _ in 0..addresses.len().div_ceil(ONE_ACCOUNT_IN) {
            let address = addresses[day.random.usize(..addresses.len())].clone();
            self.play_movement(&mut day, address)?;
        }
        Ok(())
    }

    fn expect_change(
        &mut self,
        account: &str,
        date: Date,
        kind: ChangeKind,
        row: &RowView,
    ) -> anyhow::Result<()> {
        let change = DescribedChange::from_bank_row(kind, row)?;
        self.expected_changes
            .entry(AccountDay::new(account, date))
            .or_default()
            .push(change);
        Ok(())
    }

    /// Books a pending row under another id, or removes it.
    fn settle_pending_row(
        &mut self,
        day: &mut InjectionDay<'_>,
        pending: PendingInjectedRow,
    ) -> anyhow::Result<()> {
        let account = pending.location.account_id.clone();
        if day.random.u8(..5) == 0 {
            let removed = day.bank.remove_row(pending.location, pending.row)?;
            self.counts.removed += 1;
            return self.expect_change(&account, day.date, ChangeKind::Removed, &removed);
        }
        let booking = BookingDetails {
            drift: 0,
            booking_time: Some(noon_of_day(day.date)),
            id: None,
        };
        let booked = day.bank.book_row(pending.location, pending.row, booking)?;
        self.counts.booked += 1;
        let change = DescribedChange::from_bank_row(ChangeKind::Modified, &booked)?;
        *self.balance_drift.entry(account.clone()).or_default() += change.signed_minor;
        self.expect_change(&account, day.date, ChangeKind::Modified, &booked)
    }

    /// Edits or removes a row of the account, or adds a pending one.
    fn play_movement(
        &mut self,
        day: &mut InjectionDay<'_>,
        location: AccountAddress,
    ) -> anyhow::Result<()> {
        let rows = day
            .bank
            .list_rows(&location)
            .context("an account of the bank has no rows")?;
        let changeable: Vec<&RowView> = rows.iter().filter(|row| day.may_change(row)).collect();
        match day.random.u8(..10) {
            0..=3 if !changeable.is_empty() => {
                let row = changeable[day.random.usize(..changeable.len())];
                self.edit_row(day, location, row)
            }
            4 if changeable.len() >= MIN_ROWS_TO_REMOVE => {
                let row = changeable[day.random.usize(..changeable.len())];
                self.remove_row(day, location, row)
            }
            _ => self.add_pending_row(day, location),
        }
    }

    fn edit_row(
        &mut self,
        day: &mut InjectionDay<'_>,
        location: AccountAddress,
        row: &RowView,
    ) -> anyhow::Result<()> {
        let account = location.account_id.clone();
        day.changed_rows.insert(row.row);
        self.last_number += 1;
        let amendment = RowAmendment {
            text: Some(format!("{} NOTE {}", row.text, self.last_number)),
            ..RowAmendment::default()
        };
        let edited = day.bank.amend_row(location, row.row, amendment)?;
        self.counts.edited += 1;
        self.expect_change(&account, day.date, ChangeKind::Modified, &edited)
    }

    fn remove_row(
        &mut self,
        day: &mut InjectionDay<'_>,
        location: AccountAddress,
        row: &RowView,
    ) -> anyhow::Result<()> {
        let account = location.account_id.clone();
        day.changed_rows.insert(row.row);
        let change = DescribedChange::from_bank_row(ChangeKind::Removed, row)?;
        *self.balance_drift.entry(account.clone()).or_default() -= change.signed_minor;
        self.removed_rows.extend(row.transaction_id.clone());
        let removed = day.bank.remove_row(location, row.row)?;
        self.counts.removed += 1;
        self.expect_change(&account, day.date, ChangeKind::Removed, &removed)
    }

    fn add_pending_row(
        &mut self,
        day: &mut InjectionDay<'_>,
        location: AccountAddress,
    ) -> anyhow::Result<()> {
        let account = location.account_id.clone();
        self.last_number += 1;
        let number = self.last_number;
        let pending = NewTransaction {
            direction: Direction::Debit,
            amount: format!("{}.{:02}", 1 + number % 9000, number % 100),
            text: format!("{INJECTED_PREFIX} {number}"),
            status: BookingStatus::Pending,
            booking_time: Some(noon_of_day(day.date)),
            id: None,
        };
        let row = day.bank.add_row(location.clone(), pending)?;
        day.changed_rows.insert(row.row);
        let pending_days = 1 + day.random.u64(..MAX_PENDING_DAYS.unsigned_abs());
        self.pending_rows.push(PendingInjectedRow {
            location,
            row: row.row,
            due_on: day
                .date
                .checked_add(jiff::Span::new().days(i64::try_from(pending_days)?))?,
        });
        self.counts.pending += 1;
        self.expect_change(&account, day.date, ChangeKind::Added, &row)
    }
}

impl InjectionDay<'_> {
    /// True for booked rows that were shown on an earlier day, that the connector still fetches, and that have not
    /// changed today.
    fn may_change(&self, row: &RowView) -> bool {
        let booked_on = utc_date(row.booking_time);
        booked_on < self.date
            && booked_on >= window_start(self.date)
            && row.status == BookingStatus::Booked
            && !self.changed_rows.contains(&row.row)
    }
}

/// The first account of each login that has one by now.
fn list_first_accounts(bank: &SandboxBank) -> Vec<AccountAddress> {
    let first_account = bank.list_logins().into_iter().filter_map(|login| {
        let account = login.accounts.into_iter().next()?;
        Some(AccountAddress {
            login: login.id,
            account_id: account.account_id,
        })
    });
    first_account.collect()
}
