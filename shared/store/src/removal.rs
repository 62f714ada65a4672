//! Removing a record with everything that was kept of it: in pieces, so that a call is bounded, and
//! with its head last, so that a removal that was cut short is seen and goes on. How far it has come is
//! an item of its own, which in the end is the receipt.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use okra_core::{
    ids::{AccountId, AppId, BankId, CustomerId, EndpointId, ReceiptId, RecordId, Seq},
    model::ByProduct,
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Delivery, DeliveryKey, DeliveryState, Head, Store, StoreError, accounts, apps,
    call::{Range, Take},
    customers, deliveries, feed,
    item::{Attributes, JSON, Key, Reader, TTL, document, ttl},
    records, subscriptions, transactions,
};

const KIND: &str = "removal";
const RECEIPT: &str = "RCP#";

/// Seconds that a receipt is kept: 400 days.
const RECEIPT_KEPT_S: i64 = 400 * 24 * 3600;

/// Items that one call removes at most.
pub const MAX_REMOVED_AT_ONCE: usize = 4000;

/// Items of one kind that are read at once.
const PAGE: usize = 500;

/// Items that are deleted at the same time.
const CONCURRENCY: usize = 16;

/// What was removed of a record or a customer, in items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Records with their consents.
    pub records: usize,
    /// Accounts with their balances.
    pub accounts: usize,
    /// Transactions.
    pub transactions: usize,
    /// Feed entries, subscriptions and what else lay with a record.
    pub entries: usize,
    /// Deliveries of events.
    pub deliveries: usize,
}

impl Removed {
    /// All items.
    pub const fn items(&self) -> usize {
        self.records + self.accounts + self.transactions + self.entries + self.deliveries
    }

    /// The sum of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            accounts: self.accounts + other.accounts,
            transactions: self.transactions + other.transactions,
            entries: self.entries + other.entries,
            deliveries: self.deliveries + other.deliveries,
        }
    }
}

/// A removal that was asked for: how far it has come, and in the end the receipt of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Its id, which is the receipt's.
    pub receipt: ReceiptId,
    /// The app.
    pub app: AppId,
    /// The customer.
    pub customer: CustomerId,
    /// Whether the customer goes too.
    pub whole: bool,
    /// The records that are removed.
    pub records: Vec<RecordRemoval>,
    /// What was deleted so far. A run that was cut short may have deleted more than it counted.
    pub removed: Removed,
    /// When it was asked for.
    pub at: Timestamp,
    /// When everything was deleted but what tells of it.
    pub completed_at: Option<Timestamp>,
    /// When that was deleted as well, and nothing had come after it.
    pub ended_at: Option<Timestamp>,
}

/// How far a record's removal has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRemoval {
    /// The record.
    pub record: RecordId,
    /// Its bank.
    pub bank: BankId,
    /// Its accounts, which are known before anything is deleted.
    pub accounts: Vec<AccountId>,
    /// What became of its consent at the bank; absent where the bank was not asked yet.
    pub consent: Option<Revocation>,
    /// True where it was emptied: what tells of it may be left.
    pub emptied: bool,
}

/// What became of a consent at its bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// The bank took it back.
    Revoked,
    /// The bank has no way to take it back, or its id there is not known.
    NotPossible,
    /// The bank was asked and did not.
    Failed,
}

impl Revocation {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::NotPossible => "not_possible",
            Self::Failed => "failed",
        }
    }
}

fn receipt_key(app: AppId, receipt: ReceiptId) -> Key {
    Key::new(apps::partition(app), format!("{RECEIPT}{receipt}"))
}

fn key_of(item: &Attributes) -> Result<Key, StoreError> {
    let reader = Reader::new("item", item);
    Ok(Key::new(reader.text("pk")?, reader.text("sk")?))
}

impl Store {
    async fn delete_all(&self, keys: Vec<Key>) -> Result<usize, StoreError> {
        let count = keys.len();
        stream::iter(keys.into_iter().map(|key| self.delete(key)))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        Ok(count)
    }

    /// Deletes the items of a range that `is` picks, `most` at most.
    async fn delete_range(
        &self,
        range: Range,
        most: usize,
        is: impl Fn(&Key) -> bool,
    ) -> Result<usize, StoreError> {
        let (mut deleted, mut range) = (0, range);
        while deleted < most {
            let take = Take::First(PAGE.min(most - deleted));
            let items = self.query(range.clone(), take, Consistency::Strong).await?;
            let keys = items.iter().map(key_of).collect::<Result<Vec<_>, _>>()?;
            let Some(last) = keys.last() else {
                break;
            };
            range = range.after(&last.sk);
            let picked: Vec<Key> = keys.into_iter().filter(|key| is(key)).collect();
            deleted += self.delete_all(picked).await?;
        }
        Ok(deleted)
    }

    /// Stores a removal in place of what was stored of it, with its receipt.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_removal(&self, removal: &Removal) -> Result<(), StoreError> {
        let key = receipt_key(removal.app, removal.receipt);
        let mut item = document(KIND, key, removal)?;
        item.insert(TTL.to_owned(), ttl(removal.at, RECEIPT_KEPT_S));
        self.put(item).await
    }

    /// A removal of an app; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn removal(
        &self,
        app: AppId,
        receipt: ReceiptId,
    ) -> Result<Option<Removal>, StoreError> {
        let item = self
            .get(receipt_key(app, receipt), Consistency::Strong)
            .await?;
        item.as_ref()
            .map(|item| Reader::new(KIND, item).json(JSON))
            .transpose()
    }

    /// At most `limit` removals of an app with receipts after `after`, in the order of their ids; read
    /// eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn removals(
        &self,
        app: AppId,
        after: Option<ReceiptId>,
        limit: usize,
    ) -> Result<Vec<Removal>, StoreError> {
        let last = after.map(|id| id.to_string());
        let range = Range::prefix_after(apps::partition(app), RECEIPT, last.as_deref());
        let items = self
            .query(range, Take::First(limit), Consistency::Eventual)
            .await?;
        let read = |item| Reader::new(KIND, item).json(JSON);
        items.iter().map(read).collect()
    }

    /// Deletes what is kept of a record but its head, its subscriptions and the entry that tells of the
    /// removal, [`MAX_REMOVED_AT_ONCE`] items at most; true in the answer where nothing else is left.
    /// Its schedule goes first, so that no tick finds it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what was removed stays removed, and the next call goes on.
    pub async fn empty_record(
        &self,
        head: &Head,
        accounts: &[AccountId],
    ) -> Result<(Removed, bool), StoreError> {
        let record = head.record;
        if !head.due_keys().is_empty() {
            self.reschedule(head, ByProduct::default()).await?;
        }
        let mut removed = Removed::default();
        let left = |removed: &Removed| MAX_REMOVED_AT_ONCE.saturating_sub(removed.items());
        for &account in accounts {
            removed.transactions += self.delete_rows(account, left(&removed)).await?;
            if left(&removed) == 0 {
                return Ok((removed, false));
            }
            let key = accounts::key(account);
            if self.get(key.clone(), Consistency::Strong).await?.is_some() {
                removed.accounts += self.delete_all(vec![key]).await?;
            }
        }
        let (told, mut after) = (self.told(head).await?, Seq::ZERO);
        while after < head.seq && !told.is_empty() {
            let entries = self.feed(record, after, PAGE, Consistency::Strong).await?;
            let Some(last) = entries.last() else {
                break;
            };
            after = last.seq;
            // What was delivered of the entry that tells of the removal stays until it is told.
            let keys: Vec<DeliveryKey> = entries
                .iter()
                .filter(|entry| entry.seq != head.state)
                .flat_map(|entry| {
                    told.iter().map(|&endpoint| DeliveryKey {
                        endpoint,
                        at: entry.at,
                        source: record.into(),
                        seq: entry.seq,
                    })
                })
                .collect();
            let rows = self.deliveries(&keys).await?;
            for row in rows.iter().take(left(&removed)) {
                removed.deliveries += self.delete_delivery(&row.key, row.state).await?;
            }
            if left(&removed) == 0 {
                return Ok((removed, false));
            }
        }
        let entries = Range::all(records::partition(record));
        let kept = [records::key(record), feed::key(record, head.state)];
        let rest = |key: &Key| !kept.contains(key) && !subscriptions::is_key(key);
        removed.entries += self.delete_range(entries, left(&removed), rest).await?;
        if left(&removed) == 0 {
            return Ok((removed, false));
        }
        for link in records::links(head) {
            self.delete(link).await?;
        }
        Ok((removed, true))
    }

    /// Deletes what [`empty_record`](Self::empty_record) left of a record: its subscriptions, the entry
    /// that told of the removal with its deliveries, and its head.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn end_record(&self, head: &Head) -> Result<Removed, StoreError> {
        let mut removed = Removed::default();
        for row in self.last_told(head).await?.into_iter().flatten() {
            removed.deliveries += self.delete_delivery(&row.key, row.state).await?;
        }
        let head_key = records::key(head.record);
        let rest = |key: &Key| *key != head_key;
        let range = Range::all(records::partition(head.record));
        removed.entries += self.delete_range(range, MAX_REMOVED_AT_ONCE, rest).await?;
        self.delete(head_key.clone()).await?;
        removed.records += 1;
        Ok(removed)
    }

    /// What became of a record's last change of state at each endpoint that its events go to; `None` at one of
    /// which nothing is known.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn last_told(&self, head: &Head) -> Result<Vec<Option<Delivery>>, StoreError> {
        let told = self.told(head).await?;
        let before = Seq(head.state.0.saturating_sub(1));
        let entries = self
            .feed(head.record, before, 1, Consistency::Strong)
            .await?;
        let entry = entries.first().filter(|entry| entry.seq == head.state);
        let Some(entry) = entry else {
            return Ok(Vec::new());
        };
        let keys: Vec<DeliveryKey> = told
            .iter()
            .map(|&endpoint| DeliveryKey {
                endpoint,
                at: entry.at,
                source: head.record.into(),
                seq: entry.seq,
            })
            .collect();
        let rows = self.deliveries(&keys).await?;
        let of = |key: &DeliveryKey| rows.iter().find(|row| row.key == *key).cloned();
        Ok(keys.iter().map(of).collect())
    }

    async fn delete_delivery(
        &self,
        key: &DeliveryKey,
        state: DeliveryState,
    ) -> Result<usize, StoreError> {
        // What is parked first: a row without its parked event would never be found again.
        if state == DeliveryState::Parked {
            self.unpark(key).await?;
        }
        self.delete_all(vec![deliveries::key(key)]).await
    }

    /// Deletes the transactions of an account, `most` at most.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_rows(&self, account: AccountId, most: usize) -> Result<usize, StoreError> {
        // Two accounts may share a tag: a row is this one's where its key ends in the rest of the id.
        let rest = account
            .to_string()
            .split_off(2 * okra_core::ids::ACCOUNT_TAG_BYTES);
        let rows = Range::prefix(transactions::partition(account.tag()), "T#");
        let of_account = |key: &Key| key.sk.ends_with(&rest);
        self.delete_range(rows, most, of_account).await
    }

    /// The endpoints that a record's events go to. Deliveries to one that was removed are not found so;
    /// they hold nothing of the bank's and are gone after 30 days.
    async fn told(&self, head: &Head) -> Result<Vec<EndpointId>, StoreError> {
        let endpoints = self.endpoints(head.app).await?;
        let subscriptions = self.subscriptions(head.record).await?;
        let urls = subscriptions
            .iter()
            .filter_map(|it| it.webhook_url.as_deref());
        let mut told: Vec<EndpointId> = endpoints
            .iter()
            .map(|it| it.id)
            .chain(urls.map(|url| EndpointId::of_url(head.app, url)))
            .collect();
        told.sort_unstable();
        told.dedup();
        Ok(told)
    }

    /// Removes a customer whose records are gone, and the link from its app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn remove_customer(
        &self,
        app: AppId,
        customer: CustomerId,
    ) -> Result<(), StoreError> {
        let link = customers::link(customer);
        self.delete(Key::new(apps::partition(app), link)).await?;
        self.delete(customers::key(customer)).await
    }
}
