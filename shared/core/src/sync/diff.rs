//! The diff between what is stored and what the bank says, and its inverse. The cast: [`diff_transactions`];
//! [`ProjectedAccount`], to which changes are applied.
//!
//! The rule: applying a diff to what it was made from gives what the bank said.

use std::collections::BTreeMap;

use crate::{
    model::{
        ids::{AccountId, TransactionId},
        snapshot::{BalanceFacts, Transaction, TransactionFacts, TransactionWindow},
    },
    sync::{
        feed::{Change, FetchKind, ModifiedRow, TransactionsDiff},
        identity::{TransactionIdMinter, match_rows},
    },
};

/// What changed among an account's transactions.
///
/// `stored` are the stored transactions of the window and of some days before it, because a row may have moved into the
/// window. A stored transaction without a row is removed where its date is in the window; one from before has only slid
/// out of it.
pub fn diff_transactions(
    account: AccountId,
    stored: &[Transaction],
    window: &TransactionWindow,
    fetch_kind: FetchKind,
) -> TransactionsDiff {
    let matching = match_rows(stored, &window.rows);
    let mut minter = TransactionIdMinter::new(account, stored);
    let added = matching
        .new
        .iter()
        .map(|&row| {
            let facts = window.rows[row].clone();
            Transaction {
                id: minter.mint_id(&facts),
                facts,
            }
        })
        .collect();
    let modified = matching
        .matched
        .iter()
        .filter(|&&(before, row, _)| stored[before].facts != window.rows[row])
        .map(|&(before, row, confidence)| ModifiedRow {
            before: stored[before].facts.clone(),
            after: Transaction {
                id: stored[before].id,
                facts: window.rows[row].clone(),
            },
            confidence,
        })
        .collect();
    let removed = matching
        .missing
        .iter()
        .map(|&index| &stored[index])
        .filter(|transaction| transaction.facts.booking_date() >= window.from)
        .cloned()
        .collect();
    TransactionsDiff {
        fetch_kind,
        added,
        modified,
        removed,
        previous_seqs: BTreeMap::new(),
    }
}

/// An account after its feed entries have been applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectedAccount {
    /// The balance.
    pub balance: Option<BalanceFacts>,
    /// The transactions by id.
    pub transactions: BTreeMap<TransactionId, TransactionFacts>,
}

impl ProjectedAccount {
    /// Applies a change of this account. A change of state changes neither balance nor transactions.
    pub fn apply_change(&mut self, change: &Change) {
        match change {
            Change::State(_) => {}
            Change::Balance { after, .. } => self.balance = Some(*after),
            Change::Transactions(diff) => {
                for transaction in &diff.removed {
                    self.transactions.remove(&transaction.id);
                }
                let modified = diff.modified.iter().map(|modified| &modified.after);
                for transaction in diff.added.iter().chain(modified) {
                    self.transactions
                        .insert(transaction.id, transaction.facts.clone());
                }
            }
        }
    }
}
