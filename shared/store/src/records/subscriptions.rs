//! Subscriptions: the data sync of a record that an app requested.

use jiff::Timestamp;
use okra_core::model::{
    ids::{RecordId, SubscriptionId},
    interval::Interval,
    snapshot::Product,
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    table::{
        item::{json_item, read_json_item},
        key_range::{KeyRange, READ_MARGIN, ReadLimit},
    },
};

/// Subscriptions of one record at most.
pub const MAX_SUBSCRIPTIONS_PER_RECORD: usize = 100;

const KIND: &str = "subscription";

/// Data sync of a record: which products, how often, and where their events go.
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
    /// When it was requested.
    pub created_at: Timestamp,
}

impl Store {
    /// Stores a subscription in place of one with the same id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_subscription(&self, subscription: &Subscription) -> Result<(), StoreError> {
        let key = Key::Subscription {
            record: subscription.record,
            subscription: subscription.id,
        };
        self.put_item(json_item(KIND, key, subscription)?).await
    }

    /// The subscriptions of a record, in the order of their ids; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_subscriptions(
        &self,
        record: RecordId,
    ) -> Result<Vec<Subscription>, StoreError> {
        let limit = ReadLimit::Capped {
            bound: MAX_SUBSCRIPTIONS_PER_RECORD * READ_MARGIN,
            what: "subscriptions of a record",
        };
        let range = KeyRange::with_prefix(key::record_partition(record), key::SUBSCRIPTION_PREFIX);
        let items = self
            .query_range(range, limit, Consistency::Eventual)
            .await?;
        items
            .iter()
            .map(|item| read_json_item(KIND, item))
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
        subscription: SubscriptionId,
    ) -> Result<(), StoreError> {
        self.delete_item(Key::Subscription {
            record,
            subscription,
        })
        .await
    }
}
