//! Parked events: those that wait until their endpoint accepts events again, oldest first.

use jiff::Timestamp;
use okra_core::{delivery::endpoint_health::MAX_PARKED_DAYS, model::ids::EndpointId};

use crate::{
    Consistency, DeliveryKey, Store, StoreError,
    key::{self, Key},
    table::{
        item::{ItemBuilder, ItemReader},
        key_range::{KeyRange, ReadLimit},
    },
};

const KIND: &str = "parked event";

/// Seconds that a parked event is stored: longer than it is parked, so that it is exhausted and not lost.
const PARKED_RETENTION_S: i64 = (MAX_PARKED_DAYS + 16) * 24 * 3600;

impl Store {
    /// Parks an event for an endpoint; parking it twice does no harm.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn park_event(
        &self,
        delivery_key: &DeliveryKey,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let item = ItemBuilder::new(Key::ParkedEvent(*delivery_key))
            .with_expiry(now, PARKED_RETENTION_S)
            .build();
        self.put_item(item).await
    }

    /// Removes an event from those that are parked.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn unpark_event(&self, delivery_key: &DeliveryKey) -> Result<(), StoreError> {
        self.delete_item(Key::ParkedEvent(*delivery_key)).await
    }

    /// At most `limit` of the events parked for an endpoint, oldest first; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_parked_events(
        &self,
        endpoint: EndpointId,
        limit: usize,
    ) -> Result<Vec<DeliveryKey>, StoreError> {
        self.list_parked_events_after(endpoint, None, limit).await
    }

    /// [`list_parked_events`](Self::list_parked_events) beyond `after`, where it is given.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_parked_events_after(
        &self,
        endpoint: EndpointId,
        after: Option<&DeliveryKey>,
        limit: usize,
    ) -> Result<Vec<DeliveryKey>, StoreError> {
        let all = KeyRange::whole_partition(key::parked_partition(endpoint));
        let range = match after {
            Some(after) => all.after_key(&key::delivery_sort_key(after)),
            None => all,
        };
        let items = self
            .query_range(range, ReadLimit::First(limit), Consistency::Strong)
            .await?;
        items
            .iter()
            .map(|item| ItemReader::new(KIND, item).parse_key(key::parse_delivery_key))
            .collect()
    }
}
