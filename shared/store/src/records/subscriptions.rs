//! Subscriptions: data sync as an app asked for it.

use jiff::Timestamp;
use okra_core::model::{
    ids::{RecordId, SubscriptionId},
    interval::Interval,
    snapshot::Product,
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    records::heads,
    table::{
        call::{KeyRange, ReadLimit},
        item::{ItemReader, JSON_ATTRIBUTE, Key, json_item},
    },
};

/// Subscriptions of one record at most.
pub const MAX_SUBSCRIPTIONS_PER_RECORD: usize = 100;

const KIND: &str = "subscription";
const SUBSCRIPTION_PREFIX: &str = "SUB#";

/// Data sync asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// The record.
    pub record: RecordId,
    /// The products.
    pub products: Vec<Product>,
    /// How often.
    pub interval: Interval,
    /// Where its events go besides the app's endpoints.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub webhook_url: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// True for the key of a subscription.
pub(crate) fn is_subscription_key(key: &Key) -> bool {
    key.sk.starts_with(SUBSCRIPTION_PREFIX)
}

fn subscription_key(record: RecordId, id: SubscriptionId) -> Key {
    Key::new(
        heads::record_partition(record),
        format!("{SUBSCRIPTION_PREFIX}{id}"),
    )
}

impl Store {
    /// Stores a subscription in place of one with the same id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_subscription(&self, subscription: &Subscription) -> Result<(), StoreError> {
        let key = subscription_key(subscription.record, subscription.id);
        self.put_item(json_item(KIND, key, subscription)?).await
    }

    /// The subscriptions of a record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_SUBSCRIPTIONS_PER_RECORD`].
    pub async fn list_subscriptions(
        &self,
        record: RecordId,
    ) -> Result<Vec<Subscription>, StoreError> {
        let take = ReadLimit::All {
            bound: MAX_SUBSCRIPTIONS_PER_RECORD,
            what: "subscriptions of a record",
        };
        let range = KeyRange::with_prefix(heads::record_partition(record), SUBSCRIPTION_PREFIX);
        let items = self.query_range(range, take, Consistency::Eventual).await?;
        items
            .iter()
            .map(|item| ItemReader::new(KIND, item).read_json(JSON_ATTRIBUTE))
            .collect()
    }

    /// Deletes a subscription, where there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_subscription(
        &self,
        record: RecordId,
        id: SubscriptionId,
    ) -> Result<(), StoreError> {
        self.delete_item(subscription_key(record, id)).await
    }
}
