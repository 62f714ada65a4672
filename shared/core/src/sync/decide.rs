//! Deciding what a snapshot changes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{
    model::{
        fault::{BankFault, FaultClass},
        ids::{AccountId, Seq, TransactionId},
        snapshot::{BalanceFacts, ByProduct, Product, Snapshot, Transaction, TransactionWindow},
    },
    sync::{
        diff::diff_transactions,
        digest::{Digest, digest_balances, digest_transactions},
        feed::{Change, FetchKind, MAX_CHANGES_PER_ENTRY, ModifiedRow, TransactionsDiff},
        pending_deletions::{MissingRows, PendingDeletions},
    },
};

/// How far one product of a record has come. In a due entry: what was dispatched. In the head: what
/// was committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The digest of what the bank said; `None` before the first full answer.
    #[serde(rename = "d", skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// The sequence number of the product's last feed entry.
    #[serde(rename = "q", default)]
    pub seq: Seq,
}

/// What a snapshot says of each product as a whole.
#[derive(Clone, Debug, Default)]
pub struct SnapshotDigests {
    /// The digest of each product that every account answered for.
    pub digests: ByProduct<Digest>,
    /// What failed.
    pub faults: Vec<(AccountId, Product, BankFault)>,
}

/// Digests a snapshot, and gathers its faults. A product has a digest only where it was asked of
/// every account and none failed.
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

/// What is known of one account.
#[derive(Clone, Debug, Default)]
pub struct CommittedAccount {
    /// The committed balance.
    pub balance: Option<BalanceFacts>,
    /// The committed transactions of the window and some days before it.
    pub transactions: Vec<Transaction>,
    /// True where the account's transactions were never pulled: the first pull is told even where
    /// it found nothing, because an app waits for it.
    pub is_first_fetch: bool,
    /// What earlier answers lacked.
    pub pending_deletions: Option<PendingDeletions>,
    /// The feed entry that wrote each transaction last, where it is known.
    pub last_written_seqs: BTreeMap<TransactionId, Seq>,
}

/// Rows of one account that an answer lacks and that a second one should be asked for.
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
    /// Answers that were not believed.
    pub faults: Vec<(AccountId, Product, BankFault)>,
    /// Rows that are missing and held. Where there are any, ask the bank for them once more
    /// ([`merge`]) and decide again.
    pub deletion_checks: Vec<DeletionCheck>,
    /// The doubt of each account where it is another than before.
    pub pending_deletions: Vec<(AccountId, Option<PendingDeletions>)>,
    /// True where rows are held or an answer was not believed: it must not become a digest that the
    /// next answer could equal, because the next answer decides.
    pub has_unconfirmed: bool,
}

/// Puts what a second, narrower answer said of the dates from `from` to `to` in the place of what the
/// first said of them.
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
    let asked = second_response.rows.into_iter();
    window
        .rows
        .extend(asked.filter(|row| dates.contains(&row.booking_date())));
}

/// Compares a snapshot with what is known. `known` is asked for each account of the snapshot. An
/// account or product that failed changes nothing and holds nothing else up. `missed` are rows that
/// another answer of this refresh lacked too (see [`crate::sync::pending_deletions`]).
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
            let change = Change::Balance {
                before: state.balance,
                after,
            };
            decision.changes.push((account.account, change));
        }
    }
    for account in &snapshot.accounts {
        let Some(Ok(window)) = &account.transactions else {
            continue;
        };
        let state = committed.get(&account.account).unwrap_or(&nothing);
        let pull = if state.is_first_fetch {
            FetchKind::Initial
        } else {
            FetchKind::Periodic
        };
        let mut diff = diff_transactions(account.account, &state.transactions, window, pull);
        let inside = |row: &&Transaction| row.facts.booking_date() >= window.from;
        let inside = state.transactions.iter().filter(inside).count();
        let old = state.pending_deletions.as_ref();
        let loss = MissingRows::classify_missing(&diff.removed, inside, window.rows.len());
        let doubt = if loss == MissingRows::Most && !PendingDeletions::is_most_confirmed(old, now) {
            let detail = format!(
                "Data.Transaction: {} of {inside} transactions that the bank had shown are missing",
                diff.removed.len()
            );
            let fault = BankFault::new(FaultClass::MalformedResponse, detail);
            decision
                .faults
                .push((account.account, Product::Transactions, fault));
            diff = empty_diff(pull);
            Some(PendingDeletions::for_most_rows(old, now))
        } else if loss == MissingRows::Few {
            let gone = |row: &Transaction| {
                confirmed_deletions.contains(&row.id)
                    || PendingDeletions::is_row_confirmed(old, row.id, now)
            };
            let (removed, held): (Vec<_>, Vec<_>) = diff.removed.into_iter().partition(gone);
            diff.removed = removed;
            let rows: BTreeSet<TransactionId> = held.iter().map(|row| row.id).collect();
            let dates = || held.iter().map(|row| row.facts.booking_date());
            if let (Some(from), Some(to)) = (dates().min(), dates().max()) {
                decision.deletion_checks.push(DeletionCheck {
                    account: account.account,
                    rows: rows.clone(),
                    from,
                    to,
                });
            }
            PendingDeletions::for_rows(old, &rows, now)
        } else {
            None
        };
        decision.has_unconfirmed |= doubt.is_some();
        if doubt.as_ref() != old {
            decision.pending_deletions.push((account.account, doubt));
        }
        if !diff.is_empty() || state.is_first_fetch {
            for mut part in split_diff(&diff) {
                let modified = part.modified.iter().map(|row| row.after.id);
                let rows = modified.chain(part.removed.iter().map(|row| row.id));
                part.previous_seqs = rows
                    .filter_map(|id| Some((id, *state.last_written_seqs.get(&id)?)))
                    .collect();
                decision
                    .changes
                    .push((account.account, Change::Transactions(part)));
            }
        }
    }
    decision
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

/// Cuts a diff into diffs of at most [`MAX_CHANGES_PER_ENTRY`] rows; at least one. Removals come in diffs of
/// their own: Okra's receivers know them by a code that is theirs alone.
fn split_diff(diff: &TransactionsDiff) -> Vec<TransactionsDiff> {
    let pull = diff.fetch_kind;
    let part = |removed: &[Transaction], modified: &[ModifiedRow], added: &[Transaction]| {
        TransactionsDiff {
            removed: removed.to_vec(),
            modified: modified.to_vec(),
            added: added.to_vec(),
            ..empty_diff(pull)
        }
    };
    let chunks = diff.removed.chunks(MAX_CHANGES_PER_ENTRY);
    let mut parts: Vec<_> = chunks.map(|removed| part(removed, &[], &[])).collect();
    let (mut modified, mut added) = (diff.modified.as_slice(), diff.added.as_slice());
    while !(modified.is_empty() && added.is_empty()) {
        let (edits, later) = modified.split_at(modified.len().min(MAX_CHANGES_PER_ENTRY));
        let room = MAX_CHANGES_PER_ENTRY - edits.len();
        let (rows, rest) = added.split_at(added.len().min(room));
        parts.push(part(&[], edits, rows));
        (modified, added) = (later, rest);
    }
    if parts.is_empty() {
        parts.push(empty_diff(pull));
    }
    parts
}

/// Days that a window reaches back at least. Okra's `INITIAL` pull is of 30; one more, and no day lies
/// between the windows of one month and the next, whenever in them they were asked for.
const MIN_WINDOW_DAYS: i32 = 31;

/// The first date a bank is asked for: the first of the month that was 31 days ago, so that the window
/// is 31 to 61 days long and slides once a month. A window that slid with each day would give every
/// record another digest each day, and a write, although nothing changed.
pub fn window_start(today: Date) -> Date {
    today
        .saturating_sub(jiff::Span::new().days(MIN_WINDOW_DAYS))
        .first_of_month()
}

/// The date through which an answer for the window that begins at `start` was given at the least: before
/// it nobody asks for that window.
pub fn earliest_window_end(window_start: Date) -> Date {
    window_start.saturating_add(jiff::Span::new().days(MIN_WINDOW_DAYS))
}
