//! The verdict: does the stored state equal the file, and was everything announced exactly once?
//!
//! [`ExpectedAccounts`] is what the file says; [`judge_replay`] compares the table and the receiver's events with it,
//! account by account.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::{Date, date};
use okra_core::model::ids::{RecordId, Seq};
use okra_sandbox::pkdd::PkddRow;
use okra_store::{Consistency, Store};

use super::{
    changes::{ChangesByDay, apply_direction, collect_observed_changes, compare_changes},
    inject::{Injector, is_injected},
};
use crate::receiver::ReceivedEvent;

/// Feed entries that are read at once.
const ENTRIES_PER_PAGE: usize = 1_000;

/// Earlier than every row of the file.
const BEFORE_ALL_ROWS: Date = date(1900, 1, 1);

/// What the file says of each account.
pub(super) struct ExpectedAccounts {
    accounts: HashMap<String, Vec<ExpectedRow>>,
    /// Minor units by which an account's balance is above what the file says.
    balance_drift: HashMap<String, i64>,
}

struct ExpectedRow {
    trans_id: String,
    date: Date,
    signed_minor: i64,
    balance_minor: i64,
    /// The injector removed it.
    is_removed: bool,
}

impl ExpectedAccounts {
    pub(super) fn from_rows(rows: &[PkddRow]) -> Self {
        let mut accounts: HashMap<String, Vec<ExpectedRow>> = HashMap::new();
        for row in rows {
            accounts
                .entry(row.account_id.to_string())
                .or_default()
                .push(ExpectedRow {
                    trans_id: row.trans_id.to_string(),
                    date: row.date,
                    signed_minor: apply_direction(row.amount.minor, row.direction),
                    balance_minor: row.balance_after.minor,
                    is_removed: false,
                });
        }
        Self {
            accounts,
            balance_drift: HashMap::new(),
        }
    }

    /// Takes into account what was injected.
    pub(super) fn apply_injected_changes(&mut self, injector: &Injector) {
        for row in self.accounts.values_mut().flatten() {
            row.is_removed = injector.removed_rows.contains(&row.trans_id);
        }
        self.balance_drift.clone_from(&injector.balance_drift);
    }
}

/// What the events announced.
struct Announcements {
    /// How often each transaction was announced as new.
    added_counts: HashMap<String, usize>,
    /// The numbers of each record's events.
    sequences: HashMap<String, Vec<u64>>,
}

impl Announcements {
    fn from_events(events: Vec<ReceivedEvent>) -> Self {
        let mut announcements = Self {
            added_counts: HashMap::new(),
            sequences: HashMap::new(),
        };
        for event in events {
            for id in event.added {
                *announcements.added_counts.entry(id).or_default() += 1;
            }
            announcements
                .sequences
                .entry(event.record)
                .or_default()
                .push(event.seq);
        }
        announcements
    }

    /// True where the record's events have the numbers from 1 to `last`, each once.
    fn are_complete(&self, record: RecordId, last: u64) -> bool {
        let mut numbers = self
            .sequences
            .get(&record.to_string())
            .cloned()
            .unwrap_or_default();
        numbers.sort_unstable();
        numbers.into_iter().eq(1..=last)
    }
}

/// Differences between injected and observed changes, counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeErrors {
    pub(super) missed: usize,
    pub(super) unexpected: usize,
}

/// What was found.
#[derive(Default)]
pub(super) struct ReplayVerdict {
    pub(super) feed_entries: u64,
    pub(super) problems: Vec<String>,
    /// Set where changes were injected.
    pub(super) change_errors: Option<ChangeErrors>,
}

/// Compares the table and the receiver's events with the file, up to and including the day `last_day`.
pub(super) async fn judge_replay(
    store: &Store,
    records: &HashMap<String, RecordId>,
    expected: &ExpectedAccounts,
    last_day: Date,
    events: Vec<ReceivedEvent>,
    injector: Option<&Injector>,
) -> anyhow::Result<ReplayVerdict> {
    let mut judge = Judge {
        store,
        announcements: Announcements::from_events(events),
        reads_changes: injector.is_some(),
        observed_changes: ChangesByDay::new(),
        verdict: ReplayVerdict::default(),
    };
    for (account, rows) in &expected.accounts {
        let rows: Vec<&ExpectedRow> = rows.iter().filter(|row| row.date <= last_day).collect();
        let drift = expected.balance_drift.get(account).copied().unwrap_or(0);
        if !rows.is_empty() {
            let record = records.get(account).copied();
            judge.judge_account(account, record, &rows, drift).await?;
        }
    }
    let mut verdict = judge.verdict;
    if let Some(injector) = injector {
        let observed = &judge.observed_changes;
        let differences = compare_changes(&injector.expected_changes, observed, last_day);
        verdict.change_errors = Some(ChangeErrors {
            missed: differences.missed.len(),
            unexpected: differences.unexpected.len(),
        });
        verdict.problems.extend(differences.missed);
        verdict.problems.extend(differences.unexpected);
    }
    Ok(verdict)
}

/// Judges one account after the other.
struct Judge<'a> {
    store: &'a Store,
    announcements: Announcements,
    /// Whether the feeds' changes are collected.
    reads_changes: bool,
    observed_changes: ChangesByDay,
    verdict: ReplayVerdict,
}

impl Judge<'_> {
    fn report_problem(&mut self, account: &str, problem: &str) {
        let problem = format!("account {account}: {problem}");
        self.verdict.problems.push(problem);
    }

    /// Judges an account that has these rows in the file, in its order; at least one.
    async fn judge_account(
        &mut self,
        account: &str,
        record: Option<RecordId>,
        rows: &[&ExpectedRow],
        drift: i64,
    ) -> anyhow::Result<()> {
        let Some(record) = record else {
            self.report_problem(account, "it was never linked");
            return Ok(());
        };
        self.judge_feed(account, record).await?;
        let consent = self.store.find_consent(record, Consistency::Strong).await?;
        let accounts = match &consent {
            Some(consent) => {
                self.store
                    .load_accounts_of_consent(consent, Consistency::Strong)
                    .await?
            }
            None => Vec::new(),
        };
        let Some(stored) = accounts.first() else {
            self.report_problem(account, "it is not stored");
            return Ok(());
        };
        let balance = stored
            .balance
            .and_then(|balance| balance.ledger.or(balance.available))
            .map(|money| money.minor);
        if balance != expected_balance(rows, drift) {
            self.report_problem(account, "the balance is not that of its last row");
        }
        let transactions = self
            .store
            .list_transactions(stored.id, BEFORE_ALL_ROWS, None, Consistency::Strong)
            .await?;
        let mut missing: BTreeMap<&str, &ExpectedRow> = rows
            .iter()
            .filter(|row| !row.is_removed)
            .map(|row| (row.trans_id.as_str(), *row))
            .collect();
        for row in transactions {
            let (id, facts) = (row.transaction.id.to_string(), row.transaction.facts);
            let bank_id = facts.bank_id.as_deref().unwrap_or("without an id");
            // Rows with injected texts exist in replays with an injector only.
            let is_expected = (self.reads_changes && is_injected(&facts.description))
                || missing.remove(bank_id).is_some_and(|expected| {
                    expected.date == facts.booking_date()
                        && expected.signed_minor == facts.signed_minor()
                });
            if !is_expected {
                self.report_problem(account, &format!("row {bank_id} is not the file's"));
            }
            let count = self.announcements.added_counts.get(&id).copied();
            if count != Some(1) {
                let count = count.unwrap_or(0);
                self.report_problem(
                    account,
                    &format!("row {bank_id} was announced {count} times"),
                );
            }
        }
        for bank_id in missing.into_keys() {
            self.report_problem(account, &format!("row {bank_id} is missing"));
        }
        Ok(())
    }

    /// Checks that each entry of the record's feed was announced once, and collects its changes.
    async fn judge_feed(&mut self, account: &str, record: RecordId) -> anyhow::Result<()> {
        let head = self.store.find_head(record, Consistency::Strong).await?;
        let last = head.map_or(0, |head| head.seq.0);
        self.verdict.feed_entries += last;
        if !self.announcements.are_complete(record, last) {
            self.report_problem(
                account,
                &format!("its events are not 1 to {last}, each once"),
            );
        }
        if !self.reads_changes {
            return Ok(());
        }
        let mut after = Seq::ZERO;
        loop {
            let page = self
                .store
                .read_feed(record, after, ENTRIES_PER_PAGE, Consistency::Strong)
                .await?;
            collect_observed_changes(account, &page, &mut self.observed_changes);
            match page.last() {
                Some(last) => after = last.seq,
                None => return Ok(()),
            }
        }
    }
}

/// The balance after the last row of the newest day, in the order of the file.
fn expected_balance(rows: &[&ExpectedRow], drift: i64) -> Option<i64> {
    let newest = rows.iter().map(|row| row.date).max()?;
    let last_row = rows.iter().rev().find(|row| row.date == newest)?;
    Some(last_row.balance_minor + drift)
}
