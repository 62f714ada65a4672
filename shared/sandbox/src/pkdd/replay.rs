//! The rows of a file as a bank would have shown them, day by day.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::{Timestamp, civil::Date};
use okra_core::{bank::Standard, model::Direction};

use super::row::{Row, czk};
use crate::{
    account::{Facts, Kind, Source},
    bank::{Bank, Clock, LoginView, Options, timestamp},
    command::LoginId,
    movement::{DAY, Second},
    replayed::{FileRow, Replayed},
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
    const fn quiet(date: Date) -> Self {
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
    bank: Bank,
    now: Arc<AtomicI64>,
    days: Arc<BTreeMap<Date, DayReport>>,
    logins: Arc<HashMap<u64, LoginId>>,
}

impl ReplayBank {
    /// A bank with these rows, on the eve of the first day. The bank speaks both versions; `standard` is
    /// what its logins say they speak. `pace_s` of the options means nothing here.
    pub fn load(rows: impl IntoIterator<Item = Row>, standard: Standard, options: Options) -> Self {
        let mut file = FileOrder::default();
        let mut days: BTreeMap<Date, Vec<u64>> = BTreeMap::new();
        for row in rows {
            days.entry(row.date).or_default().push(row.account_id);
            file.add(&row);
        }
        let eve = days.keys().next().map_or(0, |first| start_of(*first) - 1);
        let now = Arc::new(AtomicI64::new(eve));
        let bank = Bank::memory(options, clock(&now));
        let mut logins = HashMap::new();
        for (account, rows) in file.into_accounts() {
            let facts = Facts {
                id: account.to_string(),
                name: format!("Account {account}"),
                number: format!("{account:010}"),
                kind: Kind::Current,
                currency: czk(),
            };
            let source = Source::Replayed(Replayed::new(rows));
            logins.insert(account, bank.adopt(standard, facts, source));
        }
        let days = reports(days, &logins);
        Self {
            bank,
            now,
            days: Arc::new(days),
            logins: Arc::new(logins),
        }
    }

    /// The bank itself: its router, links, faults and edits.
    pub const fn bank(&self) -> &Bank {
        &self.bank
    }

    /// The days that have rows, first to last.
    pub fn days(&self) -> impl Iterator<Item = Date> + '_ {
        self.days.keys().copied()
    }

    /// What a day brings, whatever day it is now.
    pub fn day(&self, date: Date) -> DayReport {
        let report = self.days.get(&date).cloned();
        report.unwrap_or_else(|| DayReport::quiet(date))
    }

    /// Makes it the end of a day, later or earlier, and says what that day brings.
    pub fn advance_to(&self, date: Date) -> DayReport {
        self.now.store(start_of(date) + DAY - 1, Ordering::Release);
        self.day(date)
    }

    /// The day it is.
    pub fn today(&self) -> Date {
        let now = timestamp(self.now.load(Ordering::Acquire));
        jiff::tz::Offset::UTC.to_datetime(now).date()
    }

    /// The bank's clock: the last second of the day it is.
    pub fn clock(&self) -> Clock {
        clock(&self.now)
    }

    /// The login of an account of the file.
    pub fn login_of(&self, account_id: u64) -> Option<LoginId> {
        self.logins.get(&account_id).copied()
    }

    /// The login of an account of the file, as it is now.
    pub fn login(&self, account_id: u64) -> Option<LoginView> {
        self.bank.login(self.login_of(account_id)?)
    }
}

fn clock(now: &Arc<AtomicI64>) -> Clock {
    let now = Arc::clone(now);
    Arc::new(move || timestamp(now.load(Ordering::Acquire)))
}

fn start_of(date: Date) -> Second {
    jiff::tz::Offset::UTC
        .to_timestamp(date.at(0, 0, 0, 0))
        .map_or(0, Timestamp::as_second)
}

/// The rows by account, accounts in the order they appear in. Texts, of which there are few, are shared.
#[derive(Default)]
struct FileOrder {
    order: Vec<u64>,
    accounts: HashMap<u64, Vec<FileRow>>,
    texts: HashMap<String, Arc<str>>,
}

impl FileOrder {
    fn add(&mut self, row: &Row) {
        let sign = if row.direction == Direction::Credit {
            1
        } else {
            -1
        };
        let file_row = FileRow {
            id: row.trans_id,
            day: start_of(row.date),
            minor: sign * row.amount.minor,
            balance: row.balance_after.minor,
            text: self.text(&row.description()),
            code: self.text(row.code()),
        };
        let rows = self.accounts.entry(row.account_id).or_insert_with(|| {
            self.order.push(row.account_id);
            Vec::new()
        });
        rows.push(file_row);
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.texts.get(text) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = text.into();
        self.texts.insert(text.to_owned(), Arc::clone(&shared));
        shared
    }

    fn into_accounts(mut self) -> impl Iterator<Item = (u64, Vec<FileRow>)> {
        let order = std::mem::take(&mut self.order);
        order
            .into_iter()
            .filter_map(move |account| Some((account, self.accounts.remove(&account)?)))
    }
}

fn reports(
    days: BTreeMap<Date, Vec<u64>>,
    logins: &HashMap<u64, LoginId>,
) -> BTreeMap<Date, DayReport> {
    let mut known = std::collections::HashSet::new();
    let report = |(date, accounts): (Date, Vec<u64>)| {
        let mut report = DayReport::quiet(date);
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
