//! The verdict: is what is stored what the file says, and was everything announced once?

use std::collections::{BTreeMap, HashMap};

use jiff::civil::{Date, date};
use okra_core::model::ids::{RecordId, Seq};
use okra_sandbox::pkdd::PkddRow;
use okra_store::{Consistency, Store};

use super::inject::{self, Injector};
use crate::receiver::WebhookReceiver;

/// Feed entries that are read at once.
const ENTRIES_PER_PAGE: usize = 1_000;

/// What the file says of each account.
pub(crate) struct ExpectedAccounts {
    accounts: HashMap<String, Vec<ExpectedRow>>,
    /// Minor units that an account's balance is above what the file says.
    balance_drift: HashMap<String, i64>,
}

struct ExpectedRow {
    trans_id: String,
    date: Date,
    signed_minor: i64,
    balance_minor: i64,
    /// The bank took it away.
    is_removed: bool,
}

impl ExpectedAccounts {
    pub(crate) fn from_rows(rows: &[PkddRow]) -> Self {
        let mut accounts: HashMap<String, Vec<ExpectedRow>> = HashMap::new();
        for row in rows {
            let sign = match row.direction {
                okra_core::model::snapshot::Direction::Credit => 1,
                okra_core::model::snapshot::Direction::Debit => -1,
            };
            accounts
                .entry(row.account_id.to_string())
                .or_default()
                .push(ExpectedRow {
                    trans_id: row.trans_id.to_string(),
                    date: row.date,
                    signed_minor: sign * row.amount.minor,
                    balance_minor: row.balance_after.minor,
                    is_removed: false,
                });
        }
        Self {
            accounts,
            balance_drift: HashMap::new(),
        }
    }

    /// Takes into account what was played on top of the file.
    pub(crate) fn apply_injected_changes(&mut self, injector: &Injector) {
        for rows in self.accounts.values_mut() {
            rows.iter_mut()
                .for_each(|row| row.is_removed = injector.removed_rows.contains(&row.trans_id));
        }
        self.balance_drift.clone_from(&injector.balance_drift);
    }
}

/// What was found.
pub(crate) struct ReplayVerdict {
    pub(crate) feed_entries: u64,
    pub(crate) problems: Vec<String>,
    /// Changes missed and changes that never were, where changes were injected.
    pub(crate) change_errors: Option<(usize, usize)>,
}

/// Compares the table and the receiver's ledger with the file, up to and including the day `last`.
pub(crate) async fn judge_replay(
    store: &Store,
    records: &HashMap<String, RecordId>,
    expected: &ExpectedAccounts,
    last_day: Date,
    receiver: &WebhookReceiver,
    injector: Option<&Injector>,
) -> anyhow::Result<ReplayVerdict> {
    let mut verdict = ReplayVerdict {
        feed_entries: 0,
        problems: Vec::new(),
        change_errors: None,
    };
    let mut observed = inject::ChangesByDay::new();
    let mut announced: HashMap<String, Vec<String>> = HashMap::new();
    let mut events: HashMap<String, Vec<u64>> = HashMap::new();
    for event in receiver.received_events() {
        for id in event.added {
            announced.entry(id).or_default().push(event.id.clone());
        }
        events.entry(event.record).or_default().push(event.seq);
    }
    for (account, rows) in &expected.accounts {
        let rows: Vec<&ExpectedRow> = rows.iter().filter(|row| row.date <= last_day).collect();
        let Some(newest) = rows.iter().map(|row| row.date).max() else {
            continue;
        };
        let Some(&record) = records.get(account) else {
            verdict
                .problems
                .push(format!("account {account} was never linked"));
            continue;
        };
        let problems = &mut verdict.problems;
        let head = store.find_head(record, Consistency::Strong).await?;
        let seq = head.map_or(0, |head| head.seq.0);
        verdict.feed_entries += seq;
        let mut numbers = events.remove(&record.to_string()).unwrap_or_default();
        numbers.sort_unstable();
        if numbers != (1..=seq).collect::<Vec<_>>() {
            problems.push(format!(
                "account {account}: events are not 1 to {seq}, each once"
            ));
        }
        if injector.is_some() {
            let mut after = Seq::ZERO;
            loop {
                let page = store
                    .read_feed(record, after, ENTRIES_PER_PAGE, Consistency::Strong)
                    .await?;
                inject::collect_observed_changes(account, &page, &mut observed);
                match page.last() {
                    Some(last) => after = last.seq,
                    None => break,
                }
            }
        }
        let consent = store.find_consent(record, Consistency::Strong).await?;
        let accounts = match &consent {
            Some(consent) => {
                store
                    .load_accounts_of_consent(consent, Consistency::Strong)
                    .await?
            }
            None => Vec::new(),
        };
        let Some(stored) = accounts.first() else {
            problems.push(format!("account {account} is not stored"));
            continue;
        };
        let last_row = rows.iter().rev().find(|row| row.date == newest);
        let balance = stored
            .balance
            .and_then(|it| it.ledger.or(it.available))
            .map(|it| it.minor);
        let drift = expected.balance_drift.get(account).copied().unwrap_or(0);
        if balance != last_row.map(|row| row.balance_minor + drift) {
            problems.push(format!(
                "account {account}: the balance is not that of its last row"
            ));
        }
        let from = date(1900, 1, 1);
        let mut left: BTreeMap<&str, &ExpectedRow> = rows
            .iter()
            .filter(|row| !row.is_removed)
            .map(|row| (row.trans_id.as_str(), *row))
            .collect();
        for row in store
            .list_transactions(stored.id, from, None, Consistency::Strong)
            .await?
        {
            let (id, facts) = (row.transaction.id.to_string(), row.transaction.facts);
            let bank_id = facts.bank_id.clone().unwrap_or_default();
            let injected = injector.is_some() && inject::is_injected(&facts.description);
            let same = injected
                || left.remove(bank_id.as_str()).is_some_and(|expected| {
                    expected.date == facts.booking_date()
                        && expected.signed_minor == facts.signed_minor()
                });
            if !same {
                problems.push(format!(
                    "account {account}: row {bank_id} is not the file's"
                ));
            }
            let times = announced.get(&id).map_or(0, Vec::len);
            if times != 1 {
                problems.push(format!(
                    "account {account}: row {bank_id} was announced {times} times"
                ));
            }
        }
        for missing in left.keys() {
            problems.push(format!("account {account}: row {missing} is missing"));
        }
    }
    if let Some(injector) = injector {
        let (missed, invented) =
            inject::compare_changes(&injector.expected_changes, &observed, last_day);
        verdict.change_errors = Some((missed.len(), invented.len()));
        verdict.problems.extend(missed.into_iter().chain(invented));
    }
    Ok(verdict)
}
