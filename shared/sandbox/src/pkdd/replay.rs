//! The rows of a file as a bank would have shown them, day by day.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::{Timestamp, civil::Date};
use okra_core::model::{bank::BankStandard, snapshot::Direction};

use super::row::{PkddRow, czech_crown};
use crate::{
    account::{AccountProfile, RowSource, SandboxAccountKind},
    bank::{LoginView, SandboxBank, SandboxClock, SandboxOptions, to_timestamp},
    command::LoginId,
    movement::{SECONDS_PER_DAY, UnixSeconds},
    replayed::{FileRow, ReplayedRows},
};

/// What a day brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayReport {
    /// The day.
    pub date: Date,
    /// Rows booked on it.
    pub rows: usize,
    /// Logins whose first row is of this day, in the order of the file.
    pub new_logins: Vec<LoginId>,
    /// Logins with rows of this day, in the order of their first row of the day, and how many rows.
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

/// A bank that shows the rows of a file up to a day that is moved by hand. Each account of the file is
/// a login with that one account; it exists from the day of its first row on.
///
/// On day D the bank lists exactly the rows with a date up to D, and the balance is that of the last of
/// them in the order of the file. Moving to another day costs nothing for the rows: what is listed is
/// decided when it is asked for.
#[derive(Clone)]
pub struct ReplayBank {
    bank: SandboxBank,
    now: Arc<AtomicI64>,
    days: Arc<BTreeMap<Date, DayReport>>,
    logins: Arc<HashMap<u64, LoginId>>,
}

impl ReplayBank {
    /// A bank with these rows, on the eve of the first day. The bank speaks both versions; `standard` is
    /// what its logins say they speak. `pace_s` of the options means nothing here.
    pub fn load_rows(
        rows: impl IntoIterator<Item = PkddRow>,
        standard: BankStandard,
        options: SandboxOptions,
    ) -> Self {
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
            let facts = AccountProfile {
                id: account.to_string(),
                name: format!("Account {account}"),
                number: format!("{account:010}"),
                kind: SandboxAccountKind::Current,
                currency: czech_crown(),
            };
            let source = RowSource::Replayed(ReplayedRows::new(rows));
            logins.insert(account, bank.add_login(standard, facts, source));
        }
        let days = build_day_reports(days, &logins);
        Self {
            bank,
            now,
            days: Arc::new(days),
            logins: Arc::new(logins),
        }
    }

    /// The bank itself: its router, links, faults and edits.
    pub const fn sandbox_bank(&self) -> &SandboxBank {
        &self.bank
    }

    /// The days that have rows, first to last.
    pub fn days_with_rows(&self) -> impl Iterator<Item = Date> + '_ {
        self.days.keys().copied()
    }

    /// What a day brings, whatever day it is now.
    pub fn report_for_day(&self, date: Date) -> DayReport {
        let report = self.days.get(&date).cloned();
        report.unwrap_or_else(|| DayReport::without_rows(date))
    }

    /// Makes it the end of a day, later or earlier, and says what that day brings.
    pub fn advance_to(&self, date: Date) -> DayReport {
        self.now
            .store(start_of_day(date) + SECONDS_PER_DAY - 1, Ordering::Release);
        self.report_for_day(date)
    }

    /// The day it is.
    pub fn current_day(&self) -> Date {
        let now = to_timestamp(self.now.load(Ordering::Acquire));
        jiff::tz::Offset::UTC.to_datetime(now).date()
    }

    /// The bank's clock: the last second of the day it is.
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
    jiff::tz::Offset::UTC
        .to_timestamp(date.at(0, 0, 0, 0))
        .map_or(0, Timestamp::as_second)
}

/// The rows by account, accounts in the order they appear in. Texts, of which there are few, are shared.
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
    days: BTreeMap<Date, Vec<u64>>,
    logins: &HashMap<u64, LoginId>,
) -> BTreeMap<Date, DayReport> {
    let mut known = std::collections::HashSet::new();
    let report = |(date, accounts): (Date, Vec<u64>)| {
        let mut report = DayReport::without_rows(date);
        let mut places: HashMap<LoginId, usize> = HashMap::new();
        for login in accounts.iter().filter_map(|account| logins.get(account)) {
            report.rows += 1;
            if known.insert(*login) {
                report.new_logins.push(*login);
            }
            let place = *places.entry(*login).or_insert_with(|| {
                report.logins.push((*login, 0));
                report.logins.len() - 1
            });
            if let Some((_, rows)) = report.logins.get_mut(place) {
                *rows += 1;
            }
        }
        (date, report)
    };
    days.into_iter().map(report).collect()
}
