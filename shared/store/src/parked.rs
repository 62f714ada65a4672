//! Parked events: what waits for an endpoint, oldest first.

use jiff::Timestamp;
use okra_core::{health::PARKED_DAYS, ids::EndpointId};

use crate::{
    Consistency, DeliveryKey, Store, StoreError,
    call::{Range, Take},
    deliveries::{parse_sort_key, sort_key},
    item::{Draft, Key, Reader},
};

const KIND: &str = "parked event";

/// Seconds that a parked event is kept: beyond its time, so that it is exhausted and not forgotten.
const KEPT_S: i64 = (PARKED_DAYS + 16) * 24 * 3600;

fn partition(endpoint: EndpointId) -> String {
    format!("PRK#{endpoint}")
}

fn key(of: &DeliveryKey) -> Key {
    Key::new(partition(of.endpoint), sort_key(of))
}

impl Store {
    /// Parks an event for an endpoint; again is no harm.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn park(&self, of: &DeliveryKey, now: Timestamp) -> Result<(), StoreError> {
        self.put(Draft::new(key(of)).expiring(now, KEPT_S).done())
            .await
    }

    /// Takes an event out of those that are parked.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn unpark(&self, of: &DeliveryKey) -> Result<(), StoreError> {
        self.delete(key(of)).await
    }

    /// At most `limit` of the events parked for an endpoint, oldest first; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn parked(
        &self,
        endpoint: EndpointId,
        limit: usize,
    ) -> Result<Vec<DeliveryKey>, StoreError> {
        self.parked_after(endpoint, None, limit).await
    }

    /// The same beyond `after`, where it is given.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn parked_after(
        &self,
        endpoint: EndpointId,
        after: Option<&DeliveryKey>,
        limit: usize,
    ) -> Result<Vec<DeliveryKey>, StoreError> {
        let all = Range::all(partition(endpoint));
        let range = match after {
            Some(after) => all.after(&sort_key(after)),
            None => all,
        };
        let items = self
            .query(range, Take::First(limit), Consistency::Strong)
            .await?;
        items
            .iter()
            .map(|item| {
                let reader = Reader::new(KIND, item);
                parse_sort_key(endpoint, reader.text("sk")?).ok_or_else(|| reader.corrupt("sk"))
            })
            .collect()
    }
}
