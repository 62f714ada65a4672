//! The rows of a file as a bank would have shown them, day by day: [`ReplayBank`] and its [`DayReport`]s.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::{Timestamp, civil::Date};
use okra_core::model::{bank::BankStandard, snapshot::Direction};

use super::reader::{PkddRow, czech_crown};
use crate::{
    account::{AccountProfile, RowSource, SandboxAccountKind},
    bank::{
        error::CommandError,
        options::{SandboxClock, SandboxOptions},
        state::SandboxBank,
        view::LoginView,
    },
    command::LoginId,
    rows::{
        movement::{SECONDS_PER_DAY, UnixSeconds, to_timestamp},
        replayed::{FileRow, ReplayedRows},
    },
};

/// What happens on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayReport {
    /// The day.
    pub date: Date,
    /// Rows booked on it.
    pub rows: usize,
    /// Logins whose first row is of this day, in the order of the file.
    pub new_logins: Vec<LoginId>,
    /// Logins with rows of this day, and how many rows, in the order of their first row of the day.
    pub logins: Vec<(LoginId, usize)>,
}

impl DayReport {
    const fn without_rows(date: Date) -> Self {
        Self {
            date,
            rows: 0,
            new_logins: Vec::new(),
            logins: Vec::new(),
        }
    }
}

/// A bank that shows the rows of a file up to a day that its caller sets. Each account of the file is a login with that
/// one account; it exists from the day of its first row on.
///
/// On day D the bank lists exactly the rows with a date up to D, and the balance is that of the last of
/// them in the order of the file. Moving to another day costs nothing: what is listed is decided when it is read.
#[derive(Clone)]
pub struct ReplayBank {
    bank: SandboxBank,
    now: Arc<AtomicI64>,
    days: Arc<BTreeMap<Date, DayReport>>,
    logins: Arc<HashMap<u64, LoginId>>,
}

impl ReplayBank {
    /// A bank with these rows, on the eve of the first day. The bank speaks both versions; `standard` is what its
    /// logins state. `row_interval_s` of the options has no effect.
    ///
    /// # Errors
    ///
    /// [`CommandError::LimitReached`] if the file has more accounts than a bank has logins.
    pub fn load_rows(
        rows: impl IntoIterator<Item = PkddRow>,
        standard: BankStandard,
        options: SandboxOptions,
    ) -> Result<Self, CommandError> {
        let mut file = RowsByAccount::default();
        let mut days: BTreeMap<Date, Vec<u64>> = BTreeMap::new();
        for row in rows {
            days.entry(row.date).or_default().push(row.account_id);
            file.add_row(&row);
        }
        let eve = days
            .keys()
            .next()
            .map_or(0, |first| start_of_day(*first) - 1);
        let now = Arc::new(AtomicI64::new(eve));
        let bank = SandboxBank::in_memory(options, shared_clock(&now));
        let mut logins = HashMap::new();
        for (account, rows) in file.into_accounts() {
            let profile = AccountProfile {
                id: account.to_string(),
                name: format!("Account {account}"),
                number: format!("{account:010}"),
                kind: SandboxAccountKind::Current,
                currency: czech_crown(),
            };
            let source = RowSource::Replayed(ReplayedRows::new(rows));
            let login = bank.add_unrecorded_login(standard, profile, source)?;
            logins.insert(account, login);
        }
        let days = build_day_reports(days, &logins);
        Ok(Self {
            bank,
            now,
            days: Arc::new(days),
            logins: Arc::new(logins),
        })
    }

    /// The bank itself: its router, links, faults and edits.
    pub const fn sandbox_bank(&self) -> &SandboxBank {
        &self.bank
    }

    /// The days that have rows, first to last.
    pub fn days_with_rows(&self) -> impl Iterator<Item = Date> + '_ {
        self.days.keys().copied()
    }

    /// What happens on a day, whatever day it is now.
    pub fn report_for_day(&self, date: Date) -> DayReport {
        let report = self.days.get(&date).cloned();
        report.unwrap_or_else(|| DayReport::without_rows(date))
    }

    /// Moves the bank to the end of a day, later or earlier, and returns what happens on that day.
    pub fn advance_to(&self, date: Date) -> DayReport {
        self.now
            .store(start_of_day(date) + SECONDS_PER_DAY - 1, Ordering::Release);
        self.report_for_day(date)
    }

    /// The bank's present day.
    pub fn current_day(&self) -> Date {
        let now = to_timestamp(self.now.load(Ordering::Acquire));
        jiff::tz::Offset::UTC.to_datetime(now).date()
    }

    /// The bank's clock: the last second of its present day.
    pub fn bank_clock(&self) -> SandboxClock {
        shared_clock(&self.now)
    }

    /// The login of an account of the file.
    pub fn login_id(&self, account_id: u64) -> Option<LoginId> {
        self.logins.get(&account_id).copied()
    }

    /// The login of an account of the file, as it is now.
    pub fn find_login(&self, account_id: u64) -> Option<LoginView> {
        self.bank.find_login(self.login_id(account_id)?)
    }
}

fn shared_clock(now: &Arc<AtomicI64>) -> SandboxClock {
    let now = Arc::clone(now);
    Arc::new(move || to_timestamp(now.load(Ordering::Acquire)))
}

fn start_of_day(date: Date) -> UnixSeconds {
    let midnight = jiff::tz::Offset::UTC.to_timestamp(date.at(0, 0, 0, 0));
    debug_assert!(midnight.is_ok(), "{date} has no midnight in UTC");
    midnight.map_or(0, Timestamp::as_second)
}

/// The rows by account, in the order in which accounts appear. Texts are shared: there are few different ones.
#[derive(Default)]
struct RowsByAccount {
    account_order: Vec<u64>,
    accounts: HashMap<u64, Vec<FileRow>>,
    shared_texts: HashMap<String, Arc<str>>,
}

impl RowsByAccount {
    fn add_row(&mut self, row: &PkddRow) {
        let sign = if row.direction == Direction::Credit {
            1
        } else {
            -1
        };
        let file_row = FileRow {
            id: row.trans_id,
            day_start: start_of_day(row.date),
            amount_minor: sign * row.amount.minor,
            balance_minor: row.balance_after.minor,
            text: self.share_text(&row.bank_description()),
            code: self.share_text(row.transaction_code()),
        };
        let rows = self.accounts.entry(row.account_id).or_insert_with(|| {
            self.account_order.push(row.account_id);
            Vec::new()
        });
        rows.push(file_row);
    }

    fn share_text(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.shared_texts.get(text) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = text.into();
        self.shared_texts
            .insert(text.to_owned(), Arc::clone(&shared));
        shared
    }

    fn into_accounts(mut self) -> impl Iterator<Item = (u64, Vec<FileRow>)> {
        let order = std::mem::take(&mut self.account_order);
        order
            .into_iter()
            .filter_map(move |account| Some((account, self.accounts.remove(&account)?)))
    }
}

fn build_day_reports(
    accounts_by_day: BTreeMap<Date, Vec<u64>>,
    logins: &HashMap<u64, LoginId>,
) -> BTreeMap<Date, DayReport> {
    let mut known_logins = HashSet::new();
    let mut reports = BTreeMap::new();
    for (date, accounts) in accounts_by_day {
        let mut report = DayReport::without_rows(date);
        // Where in the report each login of the day is.
        let mut positions: HashMap<LoginId, usize> = HashMap::new();
        for &login in accounts.iter().filter_map(|account| logins.get(account)) {
            report.rows += 1;
            if known_logins.insert(login) {
                report.new_logins.push(login);
            }
            match positions.entry(login) {
                Entry::Occupied(position) => report.logins[*position.get()].1 += 1,
                Entry::Vacant(vacant) => {
                    vacant.insert(report.logins.len());
                    report.logins.push((login, 1));
                }
            }
        }
        reports.insert(date, report);
    }
    reports
}
