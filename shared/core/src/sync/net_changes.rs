//! Net changes: a range of a feed as a page shows it, each row once. The cast: [`NetChanges`], a page that takes entries;
//! [`NetTransaction`] and [`NetBalance`], what became of one row over the page.
//!
//! The rule: applying the pages one after the other gives what applying the entries gives, wherever the pages are cut.
//! Within a page the changes of one row are folded: added and then modified is added, added and then removed is nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    model::{
        ids::{AccountId, RecordId, TransactionId},
        snapshot::{BalanceFacts, TransactionFacts},
    },
    sync::{
        cursor::FeedPosition,
        feed::{Change, FeedEntry, MatchConfidence, TransactionsDiff},
    },
};

/// What became of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetTransaction {
    /// Its record.
    pub record: RecordId,
    /// Its account.
    pub account: AccountId,
    /// When the last of the changes was committed.
    pub committed_at: Timestamp,
    /// Before the page; `None` where the transaction did not exist.
    pub before: Option<TransactionFacts>,
    /// After the page; `None` where the transaction was removed.
    pub after: Option<TransactionFacts>,
    /// The least confident match among the changes.
    pub confidence: MatchConfidence,
}

/// What became of one balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetBalance {
    /// Its record.
    pub record: RecordId,
    /// When the last of the changes was committed.
    pub committed_at: Timestamp,
    /// Before the page; `None` where the bank had stated none.
    pub before: Option<BalanceFacts>,
    /// After the page.
    pub after: BalanceFacts,
}

/// A page of net changes.
#[derive(Clone, Debug, Default)]
pub struct NetChanges {
    transactions: BTreeMap<(AccountId, TransactionId), NetTransaction>,
    balances: BTreeMap<AccountId, NetBalance>,
    row_count: usize,
}

/// A net change of a transaction, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetChange<'a> {
    /// It is new.
    Added(&'a TransactionFacts),
    /// It changed from the first to the second.
    Modified(&'a TransactionFacts, &'a TransactionFacts),
    /// It was removed, and was this before.
    Removed(&'a TransactionFacts),
}

impl NetChanges {
    /// Rows of entries taken so far; a balance counts as one.
    pub const fn row_count(&self) -> usize {
        self.row_count
    }

    /// Takes what comes after `position` in the next entry of its feed, at most `max_rows` rows of it, and returns the
    /// position after that.
    pub fn take_entry(
        &mut self,
        entry: &FeedEntry,
        position: FeedPosition,
        max_rows: usize,
    ) -> FeedPosition {
        let mut next = position;
        let mut room = max_rows;
        for row in entry_rows(&entry.change).skip(usize::from(position.rows)) {
            if room == 0 {
                return next;
            }
            room -= 1;
            next.rows += 1;
            self.row_count += 1;
            // A change of a balance or of transactions always names its account.
            debug_assert!(
                entry.account.is_some(),
                "entry {} has no account",
                entry.seq
            );
            if let Some(account) = entry.account {
                self.fold_row(entry, account, row);
            }
        }
        FeedPosition {
            seq: entry.seq,
            rows: 0,
        }
    }

    fn fold_row(&mut self, entry: &FeedEntry, account: AccountId, row: EntryRow<'_>) {
        match row {
            EntryRow::Balance { before, after } => {
                let net = self.balances.entry(account).or_insert(NetBalance {
                    record: entry.record,
                    committed_at: entry.committed_at,
                    before,
                    after,
                });
                net.after = after;
                net.committed_at = entry.committed_at;
            }
            EntryRow::Transaction {
                id,
                before,
                after,
                confidence,
            } => {
                let net =
                    self.transactions
                        .entry((account, id))
                        .or_insert_with(|| NetTransaction {
                            record: entry.record,
                            account,
                            committed_at: entry.committed_at,
                            before: before.cloned(),
                            after: None,
                            confidence,
                        });
                net.after = after.cloned();
                net.committed_at = entry.committed_at;
                net.confidence = net.confidence.max(confidence);
            }
        }
    }

    /// The transactions that differ after the page from before it, by account and id.
    pub fn net_transactions(
        &self,
    ) -> impl Iterator<Item = (TransactionId, &NetTransaction, NetChange<'_>)> {
        self.transactions.iter().filter_map(|((_, id), row)| {
            let kind = match (&row.before, &row.after) {
                (None, Some(after)) => NetChange::Added(after),
                (Some(before), Some(after)) if before != after => {
                    NetChange::Modified(before, after)
                }
                (Some(before), None) => NetChange::Removed(before),
                (Some(_), Some(_)) | (None, None) => return None,
            };
            Some((*id, row, kind))
        })
    }

    /// The balances that differ after the page from before it, by account.
    pub fn net_balances(&self) -> impl Iterator<Item = (AccountId, &NetBalance)> {
        self.balances
            .iter()
            .filter(|(_, net)| net.before != Some(net.after))
            .map(|(account, net)| (*account, net))
    }
}

/// One row of a feed entry: a balance, or a transaction that came, changed or went.
#[derive(Clone, Copy)]
enum EntryRow<'a> {
    Balance {
        before: Option<BalanceFacts>,
        after: BalanceFacts,
    },
    Transaction {
        id: TransactionId,
        before: Option<&'a TransactionFacts>,
        after: Option<&'a TransactionFacts>,
        confidence: MatchConfidence,
    },
}

/// The rows of a change in their fixed order, which positions count: removed, modified, added.
fn entry_rows(change: &Change) -> impl Iterator<Item = EntryRow<'_>> {
    let balance = match change {
        Change::Balance { before, after } => Some(EntryRow::Balance {
            before: *before,
            after: *after,
        }),
        Change::Transactions(_) | Change::State(_) => None,
    };
    let diff = match change {
        Change::Transactions(diff) => Some(diff),
        Change::Balance { .. } | Change::State(_) => None,
    };
    balance
        .into_iter()
        .chain(diff.into_iter().flat_map(transaction_rows))
}

fn transaction_rows(diff: &TransactionsDiff) -> impl Iterator<Item = EntryRow<'_>> {
    let removed = diff.removed.iter().map(|row| EntryRow::Transaction {
        id: row.id,
        before: Some(&row.facts),
        after: None,
        confidence: MatchConfidence::Exact,
    });
    let modified = diff.modified.iter().map(|row| EntryRow::Transaction {
        id: row.after.id,
        before: Some(&row.before),
        after: Some(&row.after.facts),
        confidence: row.confidence,
    });
    let added = diff.added.iter().map(|row| EntryRow::Transaction {
        id: row.id,
        before: None,
        after: Some(&row.facts),
        confidence: MatchConfidence::Exact,
    });
    removed.chain(modified).chain(added)
}
