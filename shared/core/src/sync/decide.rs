//! What a snapshot changes. The cast: [`SnapshotDigests`], what a snapshot says of each product as a whole;
//! [`CommittedAccount`], what is committed; [`decide_changes`], which compares both; [`RefreshDecision`], the result.
//!
//! The rules: an account or product that failed changes nothing and delays nothing else, and a response is merged with
//! what is committed only as far as its missing rows are confirmed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{
    model::{
        fault::{BankFault, FaultClass},
        ids::{AccountId, Seq, TransactionId},
        snapshot::{
            BalanceFacts, ByProduct, Product, Snapshot, Transaction, TransactionWindow,
            UnreadableRow,
        },
    },
    sync::{
        diff::diff_transactions,
        digest::{Digest, digest_balances, digest_transactions},
        feed::{Change, FetchKind, MAX_CHANGES_PER_ENTRY, TransactionsDiff},
        pending_deletions::{MissingRows, PendingDeletions},
    },
};

/// How far one product of a record has come. In a due entry: what was dispatched. In the head: what was committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The digest of the last full response; `None` before the first.
    #[serde(rename = "d", skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// The sequence number of the product's last feed entry.
    #[serde(rename = "q", default)]
    pub seq: Seq,
}

/// What a snapshot says of each product as a whole.
#[derive(Clone, Debug, Default)]
pub struct SnapshotDigests {
    /// The digest of each product that was fetched of every account.
    pub digests: ByProduct<Digest>,
    /// What failed.
    pub faults: Vec<(AccountId, Product, BankFault)>,
}

/// Digests a snapshot, and gathers its faults. A product has a digest only where it was fetched of every account and
/// none failed.
pub fn digest_snapshot(snapshot: &Snapshot) -> SnapshotDigests {
    let mut faults = Vec::new();
    let mut balances = Some(Vec::with_capacity(snapshot.accounts.len()));
    let mut windows = Some(Vec::with_capacity(snapshot.accounts.len()));
    for account in &snapshot.accounts {
        match &account.balance {
            Some(Ok(facts)) => {
                if let Some(balances) = &mut balances {
                    balances.push((account.account, *facts));
                }
            }
            failed => {
                balances = None;
                if let Some(Err(fault)) = failed {
                    faults.push((account.account, Product::Balance, fault.clone()));
                }
            }
        }
        match &account.transactions {
            Some(Ok(window)) => {
                if let Some(windows) = &mut windows {
                    windows.push((account.account, window));
                }
            }
            failed => {
                windows = None;
                if let Some(Err(fault)) = failed {
                    faults.push((account.account, Product::Transactions, fault.clone()));
                }
            }
        }
    }
    let digests = ByProduct {
        balance: balances.map(|balances| digest_balances(&balances)),
        transactions: windows.map(|windows| digest_transactions(&windows)),
    };
    SnapshotDigests { digests, faults }
}

/// What is committed of one account.
#[derive(Clone, Debug, Default)]
pub struct CommittedAccount {
    /// The committed balance.
    pub balance: Option<BalanceFacts>,
    /// The committed transactions of the window and some days before it.
    pub transactions: Vec<Transaction>,
    /// True where the account's transactions were never fetched: the first fetch is a change even where it found
    /// nothing, because an app waits for it.
    pub is_first_fetch: bool,
    /// What earlier responses lacked.
    pub pending_deletions: Option<PendingDeletions>,
    /// The feed entry that wrote each transaction last, where it is known.
    pub last_written_seqs: BTreeMap<TransactionId, Seq>,
}

/// Rows of one account that a response lacks. A second request for their dates confirms whether they are deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletionCheck {
    /// The account.
    pub account: AccountId,
    /// The rows.
    pub rows: BTreeSet<TransactionId>,
    /// The earliest of their dates.
    pub from: Date,
    /// The latest.
    pub to: Date,
}

/// What a snapshot changes.
#[derive(Clone, Debug, Default)]
pub struct RefreshDecision {
    /// Changes in feed order: all balances, then all transactions, so that the entries of one
    /// product are consecutive.
    pub changes: Vec<(AccountId, Change)>,
    /// Faults of responses that were not taken, because most rows were missing.
    pub faults: Vec<(AccountId, Product, BankFault)>,
    /// Rows whose deletion is not confirmed. Where there are any, ask the bank for them once more
    /// ([`merge_second_response`]) and decide again.
    pub deletion_checks: Vec<DeletionCheck>,
    /// The pending deletions of each account whose pending deletions changed; `None` where they ended.
    pub pending_deletions: Vec<(AccountId, Option<PendingDeletions>)>,
    /// True where a deletion is pending. The snapshot must not become a digest that the next one could equal, because
    /// the next response decides.
    pub has_unconfirmed: bool,
}

/// Replaces the rows of the dates from `from` to `to`, both inclusive, by those of a second, narrower response.
pub fn merge_second_response(
    window: &mut TransactionWindow,
    second_response: TransactionWindow,
    from: Date,
    to: Date,
) {
    let dates = from..=to;
    window
        .rows
        .retain(|row| !dates.contains(&row.booking_date()));
    let rows = second_response.rows.into_iter();
    window
        .rows
        .extend(rows.filter(|row| dates.contains(&row.booking_date())));
    window
        .unreadable
        .retain(|row| !is_unreadable_within(row, &dates));
    let unreadable = second_response.unreadable.into_iter();
    window
        .unreadable
        .extend(unreadable.filter(|row| is_unreadable_within(row, &dates)));
}

fn is_unreadable_within(row: &UnreadableRow, dates: &RangeInclusive<Date>) -> bool {
    row.day.is_some_and(|day| dates.contains(&day))
}

/// Compares a snapshot with what is committed of its accounts. An account or product that failed changes nothing and
/// delays nothing else. `confirmed_deletions` are rows that another response of this refresh lacked too (see
/// [`crate::sync::pending_deletions`]).
pub fn decide_changes(
    snapshot: &Snapshot,
    committed: &BTreeMap<AccountId, CommittedAccount>,
    confirmed_deletions: &BTreeSet<TransactionId>,
    now: Timestamp,
) -> RefreshDecision {
    let mut decision = RefreshDecision::default();
    let nothing = CommittedAccount::default();
    for account in &snapshot.accounts {
        let state = committed.get(&account.account).unwrap_or(&nothing);
        if let Some(Ok(after)) = account.balance
            && state.balance != Some(after)
        {
            let before = state.balance;
            let change = Change::Balance { before, after };
            decision.changes.push((account.account, change));
        }
    }
    for account in &snapshot.accounts {
        let state = committed.get(&account.account).unwrap_or(&nothing);
        if let Some(Ok(window)) = &account.transactions {
            decision.decide_transactions(account.account, window, state, confirmed_deletions, now);
        }
    }
    decision
}

impl RefreshDecision {
    /// Decides what a window changes of one account's transactions.
    fn decide_transactions(
        &mut self,
        account: AccountId,
        window: &TransactionWindow,
        state: &CommittedAccount,
        confirmed_deletions: &BTreeSet<TransactionId>,
        now: Timestamp,
    ) {
        let fetch_kind = match state.is_first_fetch {
            true => FetchKind::Initial,
            false => FetchKind::Periodic,
        };
        let mut diff = diff_transactions(account, &state.transactions, window, fetch_kind);
        // A row that cannot be read now is not missing.
        diff.removed.retain(|row| {
            !window
                .unreadable
                .iter()
                .any(|unreadable| unreadable.may_be(&row.facts))
        });
        // Which of the missing rows are deleted, and which wait for a second response.
        let before = state.pending_deletions.as_ref();
        let stored_in_window = state
            .transactions
            .iter()
            .filter(|row| row.facts.booking_date() >= window.from)
            .count();
        let shown = window.rows.len() + window.unreadable.len();
        let missing = MissingRows::classify_missing(&diff.removed, stored_in_window, shown);
        let pending = match missing {
            MissingRows::Most if !PendingDeletions::is_most_confirmed(before, now) => {
                self.reject_response(account, diff.removed.len(), stored_in_window);
                diff = empty_diff(fetch_kind);
                Some(PendingDeletions::for_most_rows(before, now))
            }
            MissingRows::Few => {
                let (removed, unconfirmed): (_, Vec<_>) =
                    diff.removed.into_iter().partition(|row| {
                        confirmed_deletions.contains(&row.id)
                            || PendingDeletions::is_row_confirmed(before, row.id, now)
                    });
                diff.removed = removed;
                let rows = self.request_deletion_check(account, &unconfirmed);
                PendingDeletions::for_rows(before, &rows, now)
            }
            MissingRows::Most | MissingRows::None => None,
        };
        self.has_unconfirmed |= pending.is_some();
        if pending.as_ref() != before {
            self.pending_deletions.push((account, pending));
        }
        // What is left of the diff becomes feed entries.
        if !diff.is_empty() || state.is_first_fetch {
            for mut part in split_diff(&diff) {
                part.previous_seqs = find_previous_seqs(&part, &state.last_written_seqs);
                self.changes.push((account, Change::Transactions(part)));
            }
        }
    }

    /// Notes that a response lacks so many rows that none of it is taken.
    fn reject_response(&mut self, account: AccountId, missing: usize, stored_in_window: usize) {
        let detail = format!(
            "Data.Transaction: {missing} of {stored_in_window} transactions that the bank had shown are missing"
        );
        let fault = BankFault::new(FaultClass::MalformedResponse, detail);
        self.faults.push((account, Product::Transactions, fault));
    }

    /// Notes that the bank should be asked once more for these rows, and returns their ids.
    fn request_deletion_check(
        &mut self,
        account: AccountId,
        unconfirmed: &[Transaction],
    ) -> BTreeSet<TransactionId> {
        let rows: BTreeSet<TransactionId> = unconfirmed.iter().map(|row| row.id).collect();
        let dates = unconfirmed.iter().map(|row| row.facts.booking_date());
        if let (Some(from), Some(to)) = (dates.clone().min(), dates.max()) {
            self.deletion_checks.push(DeletionCheck {
                account,
                rows: rows.clone(),
                from,
                to,
            });
        }
        rows
    }
}

/// The entry that wrote each modified or removed row before, where it is known.
fn find_previous_seqs(
    diff: &TransactionsDiff,
    last_written_seqs: &BTreeMap<TransactionId, Seq>,
) -> BTreeMap<TransactionId, Seq> {
    let modified = diff.modified.iter().map(|row| row.after.id);
    modified
        .chain(diff.removed.iter().map(|row| row.id))
        .filter_map(|id| Some((id, *last_written_seqs.get(&id)?)))
        .collect()
}

const fn empty_diff(fetch_kind: FetchKind) -> TransactionsDiff {
    TransactionsDiff {
        fetch_kind,
        added: Vec::new(),
        modified: Vec::new(),
        removed: Vec::new(),
        previous_seqs: BTreeMap::new(),
    }
}

/// Cuts a diff into diffs of at most [`MAX_CHANGES_PER_ENTRY`] rows; at least one. Removals come in diffs of their own:
/// Okra's receivers know them by a code of their own.
fn split_diff(diff: &TransactionsDiff) -> Vec<TransactionsDiff> {
    let chunks = diff.removed.chunks(MAX_CHANGES_PER_ENTRY);
    let mut parts: Vec<_> = chunks
        .map(|removed| TransactionsDiff {
            removed: removed.to_vec(),
            ..empty_diff(diff.fetch_kind)
        })
        .collect();
    let (mut modified, mut added) = (diff.modified.as_slice(), diff.added.as_slice());
    while !(modified.is_empty() && added.is_empty()) {
        let (edits, later) = modified.split_at(modified.len().min(MAX_CHANGES_PER_ENTRY));
        let room = MAX_CHANGES_PER_ENTRY - edits.len();
        let (rows, rest) = added.split_at(added.len().min(room));
        parts.push(TransactionsDiff {
            modified: edits.to_vec(),
            added: rows.to_vec(),
            ..empty_diff(diff.fetch_kind)
        });
        (modified, added) = (later, rest);
    }
    if parts.is_empty() {
        parts.push(empty_diff(diff.fetch_kind));
    }
    parts
}

/// Days that a window reaches back at least. Okra's `INITIAL` fetch is of 30; with one more, no day lies between the
/// windows of one month and the next, whenever in them they were requested.
const MIN_WINDOW_DAYS: i32 = 31;

/// The first date that a bank is asked for: the first of the month that was 31 days ago, so that the window is 31 to 61
/// days long and slides once a month. A window that slid each day would give every record another digest each day, and a
/// write, although nothing changed.
pub fn window_start(today: Date) -> Date {
    today
        .saturating_sub(jiff::Span::new().days(MIN_WINDOW_DAYS))
        .first_of_month()
}

/// The earliest date on which a window that begins at `window_start` is requested.
pub fn earliest_window_end(window_start: Date) -> Date {
    window_start.saturating_add(jiff::Span::new().days(MIN_WINDOW_DAYS))
}
