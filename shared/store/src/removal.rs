//! Removing a record with everything that was kept of it: in pieces, so that a call is bounded, and
//! with its head last, so that a removal that was cut short is seen and goes on.

use futures::{StreamExt, TryStreamExt, stream};
use okra_core::{
    ids::{AppId, CustomerId, EndpointId, RecordId, Seq},
    model::ByProduct,
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, DeliveryKey, DeliveryState, Head, Store, StoreError, accounts, apps,
    call::{Range, Take},
    customers, deliveries,
    item::{Attributes, Key, Reader},
    records, transactions,
};

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

    /// Removes a record, [`MAX_REMOVED_AT_ONCE`] items at most; true in the answer where nothing of it
    /// is left. Its schedule goes first, so that no tick finds it, and its head last.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what was removed stays removed, and the next call goes on.
    pub async fn remove_record(&self, head: &Head) -> Result<(Removed, bool), StoreError> {
        let record = head.record;
        if !head.due_keys().is_empty() {
            self.reschedule(head, ByProduct::default()).await?;
        }
        let mut removed = Removed::default();
        let left = |removed: &Removed| MAX_REMOVED_AT_ONCE.saturating_sub(removed.items());
        let consent = self.consent(record, Consistency::Strong).await?;
        for account in consent.iter().flat_map(|consent| &consent.accounts) {
            let partition = transactions::partition(account.id.tag());
            // Two accounts may share a tag: a row is this one's where its key ends in the rest of the id.
            let rest = account
                .id
                .to_string()
                .split_off(2 * okra_core::ids::ACCOUNT_TAG_BYTES);
            let rows = Range::prefix(partition, "T#");
            let of_account = |key: &Key| key.sk.ends_with(&rest);
            removed.transactions += self.delete_range(rows, left(&removed), of_account).await?;
            if left(&removed) == 0 {
                return Ok((removed, false));
            }
            let only = vec![accounts::key(account.id)];
            removed.accounts += self.delete_all(only).await?;
        }
        let (told, mut after) = (self.told(head).await?, Seq::ZERO);
        while after < head.seq && !told.is_empty() {
            let entries = self.feed(record, after, PAGE, Consistency::Strong).await?;
            let Some(last) = entries.last() else {
                break;
            };
            after = last.seq;
            let keys: Vec<DeliveryKey> = entries
                .iter()
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
                // What is parked first: a row without its parked event would never be found again.
                if row.state == DeliveryState::Parked {
                    self.unpark(&row.key).await?;
                }
                removed.deliveries += self.delete_all(vec![deliveries::key(&row.key)]).await?;
            }
            if left(&removed) == 0 {
                return Ok((removed, false));
            }
        }
        let entries = Range::all(records::partition(record));
        let head_key = records::key(record);
        let rest = |key: &Key| *key != head_key;
        removed.entries += self.delete_range(entries, left(&removed), rest).await?;
        if left(&removed) == 0 {
            return Ok((removed, false));
        }
        for link in records::links(head) {
            self.delete(link).await?;
        }
        self.delete(head_key.clone()).await?;
        removed.records += 1;
        Ok((removed, true))
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

    /// Keeps the receipt of a removal under its app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_receipt(
        &self,
        app: AppId,
        id: &str,
        receipt: &serde_json::Value,
    ) -> Result<(), StoreError> {
        let key = Key::new(apps::partition(app), format!("RCP#{id}"));
        self.put(crate::item::document("receipt", key, receipt)?)
            .await
    }

    /// The receipt of a removal.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn receipt(
        &self,
        app: AppId,
        id: RecordId,
    ) -> Result<Option<serde_json::Value>, StoreError> {
        let key = Key::new(apps::partition(app), format!("RCP#{id}"));
        let item = self.get(key, Consistency::Strong).await?;
        item.as_ref()
            .map(|item| Reader::new("receipt", item).json(crate::item::JSON))
            .transpose()
    }
}
