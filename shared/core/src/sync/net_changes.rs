//! Net changes: a stretch of a feed as a page shows it, each row once.
//!
//! A page of the change feed is cut from entries that never change. Within it the changes of one row
//! are folded: added and then modified is added, added and then removed is nothing. Applying the pages
//! one after the other gives what applying the entries gives, wherever they are cut.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    model::{
        ids::{AccountId, RecordId, TransactionId},
        snapshot::{BalanceFacts, TransactionFacts},
    },
    sync::{
        cursor::FeedPosition,
        feed::{Change, FeedEntry, MatchConfidence},
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
    /// As it was before; `None` where it was not there.
    pub before: Option<TransactionFacts>,
    /// As it is after; `None` where it is gone.
    pub after: Option<TransactionFacts>,
    /// The least that any of the changes was sure of.
    pub confidence: MatchConfidence,
}

/// What became of one balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetBalance {
    /// Its record.
    pub record: RecordId,
    /// When the last of the changes was committed.
    pub committed_at: Timestamp,
    /// As it was before; `None` where it was not stated.
    pub before: Option<BalanceFacts>,
    /// As it is after.
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
    /// It was not there.
    Added(&'a TransactionFacts),
    /// It read otherwise.
    Modified(&'a TransactionFacts, &'a TransactionFacts),
    /// It is gone, and was this.
    Removed(&'a TransactionFacts),
}

impl NetChanges {
    /// Rows of entries taken so far; a balance counts as one.
    pub const fn row_count(&self) -> usize {
        self.row_count
    }

    /// Takes what comes after `position` in the next entry of its feed, at most `room` rows of it, and
    /// returns the position after that.
    pub fn take_entry(
        &mut self,
        entry: &FeedEntry,
        position: FeedPosition,
        room: usize,
    ) -> FeedPosition {
        let (mut skipped, mut rows) = (0, 0_usize);
        let done = FeedPosition {
            seq: entry.seq,
            rows: 0,
        };
        let mut step = |net: &mut Self, apply: &mut dyn FnMut(&mut Self)| {
            if skipped < usize::from(position.rows) {
                skipped += 1;
                return true;
            }
            if rows == room {
                return false;
            }
            rows += 1;
            net.row_count += 1;
            apply(net);
            true
        };
        let mut whole = true;
        match &entry.change {
            Change::Balance { before, after } => {
                whole = step(self, &mut |net| {
                    if let Some(account) = entry.account {
                        net.fold_balance(entry, account, *before, *after);
                    }
                });
            }
            Change::Transactions(diff) => {
                let Some(account) = entry.account else {
                    return done;
                };
                for row in &diff.removed {
                    whole = whole
                        && step(self, &mut |net| {
                            let before = Some(row.facts.clone());
                            net.fold_transaction(
                                entry,
                                account,
                                row.id,
                                before,
                                None,
                                MatchConfidence::Exact,
                            );
                        });
                }
                for row in &diff.modified {
                    whole = whole
                        && step(self, &mut |net| {
                            let (before, after) = (row.before.clone(), row.after.facts.clone());
                            let (before, after) = (Some(before), Some(after));
                            net.fold_transaction(
                                entry,
                                account,
                                row.after.id,
                                before,
                                after,
                                row.confidence,
                            );
                        });
                }
                for row in &diff.added {
                    whole = whole
                        && step(self, &mut |net| {
                            let after = Some(row.facts.clone());
                            net.fold_transaction(
                                entry,
                                account,
                                row.id,
                                None,
                                after,
                                MatchConfidence::Exact,
                            );
                        });
                }
            }
            Change::State(_) => {}
        }
        if whole {
            return done;
        }
        FeedPosition {
            seq: position.seq,
            rows: position
                .rows
                .saturating_add(u16::try_from(rows).unwrap_or(u16::MAX)),
        }
    }

    fn fold_balance(
        &mut self,
        entry: &FeedEntry,
        account: AccountId,
        before: Option<BalanceFacts>,
        after: BalanceFacts,
    ) {
        let net = self.balances.entry(account).or_insert(NetBalance {
            record: entry.record,
            committed_at: entry.committed_at,
            before,
            after,
        });
        net.after = after;
        net.committed_at = entry.committed_at;
    }

    fn fold_transaction(
        &mut self,
        entry: &FeedEntry,
        account: AccountId,
        id: TransactionId,
        before: Option<TransactionFacts>,
        after: Option<TransactionFacts>,
        confidence: MatchConfidence,
    ) {
        let net = self
            .transactions
            .entry((account, id))
            .or_insert(NetTransaction {
                record: entry.record,
                account,
                committed_at: entry.committed_at,
                before,
                after: None,
                confidence,
            });
        net.after = after;
        net.committed_at = entry.committed_at;
        net.confidence = net.confidence.max(confidence);
    }

    /// The transactions that read otherwise after the page than before it, by account and id.
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

    /// The balances that are others after the page than before it, by account.
    pub fn net_balances(&self) -> impl Iterator<Item = (AccountId, &NetBalance)> {
        self.balances
            .iter()
            .filter(|(_, net)| net.before != Some(net.after))
            .map(|(account, net)| (*account, net))
    }
}
