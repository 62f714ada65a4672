//! Removing a record with everything that was kept of it: in pieces, so that a call is bounded, and
//! with its head last, so that a removal that was cut short is seen and goes on. How far it has come is
//! an item of its own, which in the end is the receipt.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use okra_core::model::{
    ids::{AccountId, AppId, BankId, CustomerId, EndpointId, ReceiptId, RecordId, Seq},
    snapshot::ByProduct,
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Delivery, DeliveryKey, DeliveryState, RecordHead, Store, StoreError,
    delivery::deliveries,
    records::{accounts, customers, feed, heads, subscriptions, transactions},
    table::{
        call::{KeyRange, ReadLimit},
        item::{
            Attributes, ItemReader, JSON_ATTRIBUTE, Key, TTL_ATTRIBUTE, expiry_value, json_item,
        },
    },
    tenants::apps,
};

const KIND: &str = "removal";
const RECEIPT_PREFIX: &str = "RCP#";

/// Seconds that a receipt is kept: 400 days.
const RECEIPT_RETENTION_S: i64 = 400 * 24 * 3600;

/// Items that one call removes at most.
pub const MAX_REMOVED_PER_CALL: usize = 4000;

/// Items of one kind that are read at once.
const PAGE_ITEMS: usize = 500;

/// Items that are deleted at the same time.
const MAX_CONCURRENT_DELETES: usize = 16;

/// What was removed of a record or a customer, in items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedCounts {
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

impl RemovedCounts {
    /// All items.
    pub const fn total_items(&self) -> usize {
        self.records + self.accounts + self.transactions + self.entries + self.deliveries
    }

    /// The sum of both.
    #[must_use]
    pub const fn add_counts(self, other: Self) -> Self {
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
    #[serde(rename = "whole")]
    pub removes_customer: bool,
    /// The records that are removed.
    pub records: Vec<RecordRemoval>,
    /// What was deleted so far. A run that was cut short may have deleted more than it counted.
    #[serde(rename = "removed")]
    pub removed_counts: RemovedCounts,
    /// When it was asked for.
    #[serde(rename = "at")]
    pub requested_at: Timestamp,
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
    #[serde(rename = "consent")]
    pub revocation: Option<RevocationOutcome>,
    /// True where it was emptied: what tells of it may be left.
    #[serde(rename = "emptied")]
    pub is_emptied: bool,
}

/// What became of a consent at its bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationOutcome {
    /// The bank took it back.
    Revoked,
    /// The bank has no way to take it back, or its id there is not known.
    NotPossible,
    /// The bank was asked and did not.
    Failed,
}

impl RevocationOutcome {
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
    Key::new(
        apps::app_partition(app),
        format!("{RECEIPT_PREFIX}{receipt}"),
    )
}

fn read_item_key(item: &Attributes) -> Result<Key, StoreError> {
    let reader = ItemReader::new("item", item);
    Ok(Key::new(reader.read_text("pk")?, reader.read_text("sk")?))
}

impl Store {
    async fn delete_items(&self, keys: Vec<Key>) -> Result<usize, StoreError> {
        let count = keys.len();
        stream::iter(keys.into_iter().map(|key| self.delete_item(key)))
            .buffer_unordered(MAX_CONCURRENT_DELETES)
            .try_collect::<()>()
            .await?;
        Ok(count)
    }

    /// Deletes the items of a range that `is` picks, `most` at most.
    async fn delete_range(
        &self,
        range: KeyRange,
        limit: usize,
        is_selected: impl Fn(&Key) -> bool,
    ) -> Result<usize, StoreError> {
        let (mut deleted, mut range) = (0, range);
        while deleted < limit {
            let take = ReadLimit::First(PAGE_ITEMS.min(limit - deleted));
            let items = self
                .query_range(range.clone(), take, Consistency::Strong)
                .await?;
            let keys = items
                .iter()
                .map(read_item_key)
                .collect::<Result<Vec<_>, _>>()?;
            let Some(last) = keys.last() else {
                break;
            };
            range = range.after_key(&last.sk);
            let picked: Vec<Key> = keys.into_iter().filter(|key| is_selected(key)).collect();
            deleted += self.delete_items(picked).await?;
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
        let mut item = json_item(KIND, key, removal)?;
        item.insert(
            TTL_ATTRIBUTE.to_owned(),
            expiry_value(removal.requested_at, RECEIPT_RETENTION_S),
        );
        self.put_item(item).await
    }

    /// A removal of an app; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_removal(
        &self,
        app: AppId,
        receipt: ReceiptId,
    ) -> Result<Option<Removal>, StoreError> {
        let item = self
            .get_item(receipt_key(app, receipt), Consistency::Strong)
            .await?;
        item.as_ref()
            .map(|item| ItemReader::new(KIND, item).read_json(JSON_ATTRIBUTE))
            .transpose()
    }

    /// At most `limit` removals of an app with receipts after `after`, in the order of their ids; read
    /// eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_removals(
        &self,
        app: AppId,
        after: Option<ReceiptId>,
        limit: usize,
    ) -> Result<Vec<Removal>, StoreError> {
        let last = after.map(|id| id.to_string());
        let range =
            KeyRange::with_prefix_after(apps::app_partition(app), RECEIPT_PREFIX, last.as_deref());
        let items = self
            .query_range(range, ReadLimit::First(limit), Consistency::Eventual)
            .await?;
        let read = |item| ItemReader::new(KIND, item).read_json(JSON_ATTRIBUTE);
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
        head: &RecordHead,
        accounts: &[AccountId],
    ) -> Result<(RemovedCounts, bool), StoreError> {
        let record = head.record;
        if !head.due_keys().is_empty() {
            self.reschedule_record(head, ByProduct::default()).await?;
        }
        let mut removed = RemovedCounts::default();
        let left =
            |removed: &RemovedCounts| MAX_REMOVED_PER_CALL.saturating_sub(removed.total_items());
        for &account in accounts {
            removed.transactions += self.delete_transactions(account, left(&removed)).await?;
            if left(&removed) == 0 {
                return Ok((removed, false));
            }
            let key = accounts::account_key(account);
            if self
                .get_item(key.clone(), Consistency::Strong)
                .await?
                .is_some()
            {
                removed.accounts += self.delete_items(vec![key]).await?;
            }
        }
        let (told, mut after) = (self.find_event_endpoints(head).await?, Seq::ZERO);
        while after < head.seq && !told.is_empty() {
            let entries = self
                .read_feed(record, after, PAGE_ITEMS, Consistency::Strong)
                .await?;
            let Some(last) = entries.last() else {
                break;
            };
            after = last.seq;
            // What was delivered of the entry that tells of the removal stays until it is told.
            let keys: Vec<DeliveryKey> = entries
                .iter()
                .filter(|entry| entry.seq != head.state_seq)
                .flat_map(|entry| {
                    told.iter().map(|&endpoint| DeliveryKey {
                        endpoint,
                        committed_at: entry.committed_at,
                        source: record.into(),
                        seq: entry.seq,
                    })
                })
                .collect();
            let rows = self.load_deliveries(&keys).await?;
            for row in rows.iter().take(left(&removed)) {
                removed.deliveries += self.delete_delivery(&row.key, row.state).await?;
            }
            if left(&removed) == 0 {
                return Ok((removed, false));
            }
        }
        let entries = KeyRange::whole_partition(heads::record_partition(record));
        let kept = [
            heads::head_key(record),
            feed::feed_key(record, head.state_seq),
        ];
        let rest = |key: &Key| !kept.contains(key) && !subscriptions::is_subscription_key(key);
        removed.entries += self.delete_range(entries, left(&removed), rest).await?;
        if left(&removed) == 0 {
            return Ok((removed, false));
        }
        for link in heads::record_links(head) {
            self.delete_item(link).await?;
        }
        Ok((removed, true))
    }

    /// Deletes what [`empty_record`](Self::empty_record) left of a record: its subscriptions, the entry
    /// that told of the removal with its deliveries, and its head.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_emptied_record(
        &self,
        head: &RecordHead,
    ) -> Result<RemovedCounts, StoreError> {
        let mut removed = RemovedCounts::default();
        for row in self
            .find_last_state_deliveries(head)
            .await?
            .into_iter()
            .flatten()
        {
            removed.deliveries += self.delete_delivery(&row.key, row.state).await?;
        }
        let head_key = heads::head_key(head.record);
        let rest = |key: &Key| *key != head_key;
        let range = KeyRange::whole_partition(heads::record_partition(head.record));
        removed.entries += self.delete_range(range, MAX_REMOVED_PER_CALL, rest).await?;
        self.delete_item(head_key.clone()).await?;
        removed.records += 1;
        Ok(removed)
    }

    /// What became of a record's last change of state at each endpoint that its events go to; `None` at one of
    /// which nothing is known.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_last_state_deliveries(
        &self,
        head: &RecordHead,
    ) -> Result<Vec<Option<Delivery>>, StoreError> {
        let told = self.find_event_endpoints(head).await?;
        let before = Seq(head.state_seq.0.saturating_sub(1));
        let entries = self
            .read_feed(head.record, before, 1, Consistency::Strong)
            .await?;
        let entry = entries.first().filter(|entry| entry.seq == head.state_seq);
        let Some(entry) = entry else {
            return Ok(Vec::new());
        };
        let keys: Vec<DeliveryKey> = told
            .iter()
            .map(|&endpoint| DeliveryKey {
                endpoint,
                committed_at: entry.committed_at,
                source: head.record.into(),
                seq: entry.seq,
            })
            .collect();
        let rows = self.load_deliveries(&keys).await?;
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
            self.unpark_event(key).await?;
        }
        self.delete_items(vec![deliveries::delivery_item_key(key)])
            .await
    }

    /// Deletes the transactions of an account, `most` at most.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_transactions(
        &self,
        account: AccountId,
        limit: usize,
    ) -> Result<usize, StoreError> {
        // Two accounts may share a tag: a row is this one's where its key ends in the rest of the id.
        let rest = account
            .to_string()
            .split_off(2 * okra_core::model::ids::ACCOUNT_TAG_BYTES);
        let rows = KeyRange::with_prefix(transactions::transactions_partition(account.tag()), "T#");
        let of_account = |key: &Key| key.sk.ends_with(&rest);
        self.delete_range(rows, limit, of_account).await
    }

    /// The endpoints that a record's events go to. Deliveries to one that was removed are not found so;
    /// they hold nothing of the bank's and are gone after 30 days.
    async fn find_event_endpoints(&self, head: &RecordHead) -> Result<Vec<EndpointId>, StoreError> {
        let endpoints = self.list_endpoints(head.app).await?;
        let subscriptions = self.list_subscriptions(head.record).await?;
        let urls = subscriptions
            .iter()
            .filter_map(|it| it.webhook_url.as_deref());
        let mut told: Vec<EndpointId> = endpoints
            .iter()
            .map(|it| it.id)
            .chain(urls.map(|url| EndpointId::for_url(head.app, url)))
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
        let link = customers::customer_sort_key(customer);
        self.delete_item(Key::new(apps::app_partition(app), link))
            .await?;
        self.delete_item(customers::customer_key(customer)).await
    }
}
