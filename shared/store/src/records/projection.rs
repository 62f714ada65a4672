//! Balances and transactions as a projection of the feed.
//!
//! Each account's balance and each transaction is a register that holds the number of the feed entry
//! it was written by, and takes only what a later entry says. A removed transaction leaves a
//! tombstone, which keeps its number as well. So the projection of a set of entries is the same in
//! whatever order, however often and by however many at once they are projected: a refresh that was
//! interrupted is completed by projecting again, and one that is late does no harm.
//!
//! DynamoDB deletes a tombstone 15 days after the removal was committed. An entry projected later
//! than that could bring a removed row back, but no message lives that long, and whoever projects a
//! feed from further back does so in order and up to its head, so that again the last change of
//! each row is the one that stays.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use okra_core::{
    model::{
        ids::{AccountId, TransactionId},
        snapshot::{BalanceFacts, Product, TransactionFacts},
    },
    sync::{
        feed::{Change, FeedEntry},
        state::{ProductChange, StateChange},
    },
};

use crate::{
    Store, StoreError,
    records::{accounts, transactions},
    table::expression::ItemUpdate,
};

/// Writes in flight at most.
const MAX_CONCURRENT_WRITES: usize = 16;

/// The last change that some entries make to each register.
#[derive(Default)]
struct Projection<'a> {
    balances: BTreeMap<AccountId, (&'a FeedEntry, &'a BalanceFacts)>,
    states: BTreeMap<(AccountId, Product), (&'a FeedEntry, &'a ProductChange)>,
    drifts: BTreeMap<AccountId, (&'a FeedEntry, bool)>,
    /// `None`: removed.
    transactions:
        BTreeMap<(AccountId, TransactionId), (&'a FeedEntry, Option<&'a TransactionFacts>)>,
}

impl<'a> Projection<'a> {
    fn from_entries(entries: &'a [FeedEntry]) -> Self {
        let mut ordered: Vec<&FeedEntry> = entries.iter().collect();
        ordered.sort_by_key(|entry| entry.seq);
        let mut projection = Self::default();
        for entry in ordered {
            projection.apply_entry(entry);
        }
        projection
    }

    /// Within an entry a row that is both removed and added is added.
    fn apply_entry(&mut self, entry: &'a FeedEntry) {
        let Some(account) = entry.account else {
            return;
        };
        match &entry.change {
            Change::State(StateChange::Product(change)) => {
                self.states
                    .insert((account, change.product), (entry, change));
            }
            Change::State(StateChange::Drift { drift }) => {
                self.drifts.insert(account, (entry, drift.is_some()));
            }
            Change::State(_) => {}
            Change::Balance { after, .. } => {
                self.balances.insert(account, (entry, after));
            }
            Change::Transactions(diff) => {
                let removed = diff.removed.iter().map(|row| (row.id, None));
                let modified = diff.modified.iter().map(|row| &row.after);
                let present = modified
                    .chain(&diff.added)
                    .map(|row| (row.id, Some(&row.facts)));
                for (id, facts) in removed.chain(present) {
                    self.transactions.insert((account, id), (entry, facts));
                }
            }
        }
    }

    fn into_updates(self) -> impl Iterator<Item = Result<ItemUpdate, StoreError>> {
        let balances = self.balances.into_iter().map(|(account, (entry, facts))| {
            accounts::balance_update(account, entry.seq, entry.committed_at, facts)
        });
        let transactions = self
            .transactions
            .into_iter()
            .map(|((account, id), (entry, facts))| {
                transactions::transaction_update(account, id, entry, facts)
            });
        let states = self
            .states
            .into_iter()
            .map(|((account, _), (entry, change))| {
                accounts::product_state_update(account, entry.seq, entry.committed_at, change)
            });
        let drifts = self
            .drifts
            .into_iter()
            .map(|(account, (entry, is_reported))| {
                Ok(accounts::drift_update(account, entry.seq, is_reported))
            });
        balances.chain(transactions).chain(states).chain(drifts)
    }
}

impl Store {
    /// Writes the changes of entries of a record's feed into its balances and transactions; see the module's
    /// rule. One write unit for each balance and each transaction of up to 1 KB.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then some of them may be written, and projecting again writes the rest.
    pub async fn project_entries(&self, entries: &[FeedEntry]) -> Result<(), StoreError> {
        let updates = Projection::from_entries(entries)
            .into_updates()
            .collect::<Result<Vec<_>, _>>()?;
        stream::iter(updates)
            .map(|update| self.update_item(update))
            .buffer_unordered(MAX_CONCURRENT_WRITES)
            .try_for_each(async |_newer_or_not| Ok(()))
            .await
    }
}
