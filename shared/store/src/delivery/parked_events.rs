//! Parked events: what waits for an endpoint, oldest first.

use jiff::Timestamp;
use okra_core::{delivery::endpoint_health::MAX_PARKED_DAYS, model::ids::EndpointId};

use crate::{
    Consistency, DeliveryKey, Store, StoreError,
    delivery::deliveries::{delivery_sort_key, parse_delivery_sort_key},
    table::{
        call::{KeyRange, ReadLimit},
        item::{ItemBuilder, ItemReader, Key},
    },
};

const KIND: &str = "parked event";

/// Seconds that a parked event is kept: beyond its time, so that it is exhausted and not forgotten.
const PARKED_RETENTION_S: i64 = (MAX_PARKED_DAYS + 16) * 24 * 3600;

fn parked_partition(endpoint: EndpointId) -> String {
    format!("PRK#{endpoint}")
}

fn parked_event_key(delivery_key: &DeliveryKey) -> Key {
    Key::new(
        parked_partition(delivery_key.endpoint),
        delivery_sort_key(delivery_key),
    )
}

impl Store {
    /// Parks an event for an endpoint; again is no harm.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn park_event(
        &self,
        delivery_key: &DeliveryKey,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.put_item(
            ItemBuilder::new(parked_event_key(delivery_key))
                .with_expiry(now, PARKED_RETENTION_S)
                .build(),
        )
        .await
    }

    /// Takes an event out of those that are parked.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn unpark_event(&self, delivery_key: &DeliveryKey) -> Result<(), StoreError> {
        self.delete_item(parked_event_key(delivery_key)).await
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

    /// The same beyond `after`, where it is given.
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
        let all = KeyRange::whole_partition(parked_partition(endpoint));
        let range = match after {
            Some(after) => all.after_key(&delivery_sort_key(after)),
            None => all,
        };
        let items = self
            .query_range(range, ReadLimit::First(limit), Consistency::Strong)
            .await?;
        items
            .iter()
            .map(|item| {
                let reader = ItemReader::new(KIND, item);
                parse_delivery_sort_key(endpoint, reader.read_text("sk")?)
                    .ok_or_else(|| reader.corrupt_error("sk"))
            })
            .collect()
    }
}
