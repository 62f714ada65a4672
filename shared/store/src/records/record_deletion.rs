//! Deleting a record with everything that is stored of it: in pieces, so that a call is bounded, and with its head last,
//! so that a removal that was interrupted is found and continues. Until its webhooks are delivered, the record keeps its
//! head, its subscriptions, and the feed entry that says that it was removed, with that entry's deliveries.

use futures::{StreamExt, TryStreamExt, stream};
use okra_core::{
    model::{
        ids::{AccountId, AppId, CustomerId, EndpointId, Seq},
        snapshot::ByProduct,
    },
    sync::feed::FeedEntry,
};

use crate::{
    Consistency, Delivery, DeliveryKey, DeliveryState, RecordHead, RemovedCounts, Store,
    StoreError,
    key::{self, Key},
    limits::usage_limits::UsageCounter,
    records::heads,
    table::{
        item::ItemReader,
        key_range::{KeyRange, ReadLimit},
    },
};

/// Items that one call removes at most.
pub const MAX_REMOVED_PER_CALL: usize = 4000;

/// Items of one kind that are read at once.
const PAGE_ITEMS: usize = 500;

/// Items that are deleted at the same time.
const MAX_CONCURRENT_DELETES: usize = 16;

/// How many items the call may still remove. Each step removes at most that, so that it does not go below 0.
const fn remaining_budget(removed: &RemovedCounts) -> usize {
    MAX_REMOVED_PER_CALL.saturating_sub(removed.total_items())
}

impl Store {
    /// Deletes what is stored of a record but its head, its subscriptions and the entry that says that it was
    /// removed, [`MAX_REMOVED_PER_CALL`] items at most. True in the result where nothing else is left.
    /// Its schedule goes first, so that no tick finds it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what was removed stays removed, and the next call continues.
    pub async fn empty_record(
        &self,
        head: &RecordHead,
        accounts: &[AccountId],
    ) -> Result<(RemovedCounts, bool), StoreError> {
        if !head.due_keys().is_empty() {
            self.reschedule_record(head, ByProduct::default()).await?;
        }
        let mut removed = RemovedCounts::default();
        self.delete_accounts(accounts, &mut removed).await?;
        if remaining_budget(&removed) > 0 {
            self.delete_deliveries(head, &mut removed).await?;
        }
        if remaining_budget(&removed) > 0 {
            self.delete_entries(head, &mut removed).await?;
        }
        if remaining_budget(&removed) == 0 {
            return Ok((removed, false));
        }
        for link in heads::record_links(head) {
            self.delete_item(link).await?;
        }
        Ok((removed, true))
    }

    /// Deletes accounts, each after its transactions, while the budget lasts.
    async fn delete_accounts(
        &self,
        accounts: &[AccountId],
        removed: &mut RemovedCounts,
    ) -> Result<(), StoreError> {
        for &account in accounts {
            let budget = remaining_budget(removed);
            removed.transactions += self.delete_transactions(account, budget).await?;
            if remaining_budget(removed) == 0 {
                return Ok(());
            }
            let key = Key::Account(account);
            if self.get_item(key, Consistency::Strong).await?.is_some() {
                self.delete_item(key).await?;
                removed.accounts += 1;
            }
        }
        Ok(())
    }

    /// Deletes the deliveries of a record's events while the budget lasts, but not those of the entry that says that
    /// the record was removed: they are still to be made.
    async fn delete_deliveries(
        &self,
        head: &RecordHead,
        removed: &mut RemovedCounts,
    ) -> Result<(), StoreError> {
        let endpoints = self.find_event_endpoints(head).await?;
        let mut after = Seq::ZERO;
        while after < head.seq && !endpoints.is_empty() {
            let entries = self
                .read_feed(head.record, after, PAGE_ITEMS, Consistency::Strong)
                .await?;
            let Some(last) = entries.last() else {
                return Ok(());
            };
            after = last.seq;
            let keys: Vec<DeliveryKey> = entries
                .iter()
                .filter(|entry| entry.seq != head.state_seq)
                .flat_map(|entry| delivery_keys(entry, &endpoints))
                .collect();
            let deliveries = self.load_deliveries(&keys).await?;
            for delivery in deliveries.iter().take(remaining_budget(removed)) {
                self.delete_delivery(delivery).await?;
                removed.deliveries += 1;
            }
            if remaining_budget(removed) == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Deletes what lies in a record's partition while the budget lasts, but not its head, its subscriptions and the
    /// entry that says that it was removed.
    async fn delete_entries(
        &self,
        head: &RecordHead,
        removed: &mut RemovedCounts,
    ) -> Result<(), StoreError> {
        let range = KeyRange::whole_partition(key::record_partition(head.record));
        let last_entry = Key::FeedEntry {
            record: head.record,
            last_seq: head.state_seq,
        };
        let needed = [Key::RecordHead(head.record).sk(), last_entry.sk()];
        let budget = remaining_budget(removed);
        removed.entries += self
            .delete_range(range, budget, |sk| {
                !needed.iter().any(|needed| needed == sk)
                    && !sk.starts_with(key::SUBSCRIPTION_PREFIX)
            })
            .await?;
        Ok(())
    }

    /// Deletes what [`empty_record`](Self::empty_record) left of a record: its subscriptions, the entry
    /// that says that it was removed with its deliveries, and its head.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_emptied_record(
        &self,
        head: &RecordHead,
    ) -> Result<RemovedCounts, StoreError> {
        let mut removed = RemovedCounts::default();
        let deliveries = self.find_last_state_deliveries(head).await?;
        for delivery in deliveries.iter().flatten() {
            self.delete_delivery(delivery).await?;
            removed.deliveries += 1;
        }
        let head_key = Key::RecordHead(head.record);
        let head_sk = head_key.sk();
        let range = KeyRange::whole_partition(head_key.pk());
        removed.entries += self
            .delete_range(range, MAX_REMOVED_PER_CALL, |sk| sk != head_sk)
            .await?;
        self.delete_item(head_key).await?;
        removed.records += 1;
        Ok(removed)
    }

    /// The delivery of a record's last change of state to each endpoint that its events go to; `None` for an endpoint
    /// of which no delivery is stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_last_state_deliveries(
        &self,
        head: &RecordHead,
    ) -> Result<Vec<Option<Delivery>>, StoreError> {
        let endpoints = self.find_event_endpoints(head).await?;
        // A record without a change of state has no such entry.
        let before = Seq(head.state_seq.0.saturating_sub(1));
        let entries = self
            .read_feed(head.record, before, 1, Consistency::Strong)
            .await?;
        let entry = entries.first().filter(|entry| entry.seq == head.state_seq);
        let Some(entry) = entry else {
            return Ok(Vec::new());
        };
        let keys: Vec<DeliveryKey> = delivery_keys(entry, &endpoints).collect();
        let deliveries = self.load_deliveries(&keys).await?;
        Ok(keys
            .iter()
            .map(|key| {
                deliveries
                    .iter()
                    .find(|delivery| delivery.key == *key)
                    .cloned()
            })
            .collect())
    }

    /// The endpoints that a record's events go to. Deliveries to an endpoint that was deleted are not found so;
    /// they hold nothing of the bank's and expire after 30 days.
    async fn find_event_endpoints(&self, head: &RecordHead) -> Result<Vec<EndpointId>, StoreError> {
        let endpoints = self.list_endpoints(head.app).await?;
        let subscriptions = self.list_subscriptions(head.record).await?;
        let urls = subscriptions
            .iter()
            .filter_map(|subscription| subscription.webhook_url.as_deref());
        let mut ids: Vec<EndpointId> = endpoints
            .iter()
            .map(|endpoint| endpoint.id)
            .chain(urls.map(|url| EndpointId::for_url(head.app, url)))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Deletes the transactions of an account, `limit` at most; returns how many there were.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_transactions(
        &self,
        account: AccountId,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let range = KeyRange::with_prefix(
            key::transactions_partition(account.tag()),
            key::TRANSACTION_PREFIX,
        );
        // Two accounts may share a partition.
        let suffix = key::transaction_sort_suffix(account);
        self.delete_range(range, limit, |sk| sk.ends_with(&suffix))
            .await
    }

    /// Deletes a customer whose records are gone, and the link from its app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_customer(
        &self,
        app: AppId,
        customer: CustomerId,
    ) -> Result<(), StoreError> {
        self.delete_item(Key::CustomerLink { app, customer })
            .await?;
        let records = UsageCounter::RecordsOfCustomer(customer);
        self.delete_item(Key::UsageCounter(records)).await?;
        self.delete_item(Key::Customer(customer)).await
    }

    async fn delete_delivery(&self, delivery: &Delivery) -> Result<(), StoreError> {
        // What is parked first: a parked event without its delivery would not be found again.
        if delivery.state == DeliveryState::Parked {
            self.unpark_event(&delivery.key).await?;
        }
        self.delete_item(Key::Delivery(delivery.key)).await
    }

    /// Deletes the items of a range whose sort keys are selected, `limit` at most; returns how many there were.
    async fn delete_range(
        &self,
        mut range: KeyRange,
        limit: usize,
        is_selected: impl Fn(&str) -> bool,
    ) -> Result<usize, StoreError> {
        let mut deleted = 0;
        while deleted < limit {
            let read_limit = ReadLimit::First(PAGE_ITEMS.min(limit - deleted));
            let items = self
                .query_range(range.clone(), read_limit, Consistency::Strong)
                .await?;
            let mut keys = items
                .iter()
                .map(|item| ItemReader::new("item to be removed", item).read_primary_key())
                .collect::<Result<Vec<_>, _>>()?;
            let Some(last) = keys.last() else {
                break;
            };
            range = range.after_key(&last.sk);
            keys.retain(|key| is_selected(&key.sk));
            deleted += keys.len();
            stream::iter(keys.into_iter().map(|key| self.delete_stored_item(key)))
                .buffer_unordered(MAX_CONCURRENT_DELETES)
                .try_collect::<()>()
                .await?;
        }
        Ok(deleted)
    }
}

/// The deliveries of the event of a feed entry, one for each endpoint.
fn delivery_keys<'a>(
    entry: &'a FeedEntry,
    endpoints: &'a [EndpointId],
) -> impl Iterator<Item = DeliveryKey> + 'a {
    endpoints.iter().map(|&endpoint| DeliveryKey {
        endpoint,
        committed_at: entry.committed_at,
        source: entry.record.into(),
        seq: entry.seq,
    })
}
