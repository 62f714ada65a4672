//! Deliveries: a [`Delivery`] is one event to one endpoint, with its state and its attempts. It is stored again with each
//! attempt, where nobody else stored it since it was read.
//!
//! The deliveries to an endpoint are one partition, in the order of their events' commits: the endpoint's log is read
//! from it, and so are the failed deliveries of a replay. The deliveries of an event are found by key, one for each
//! endpoint.

use std::ops::RangeInclusive;

use jiff::Timestamp;
pub use okra_core::delivery::{
    attempt::LoggedAttempt,
    state_machine::{Delivery, DeliveryKey, DeliveryState, FifoPosition, MAX_LOGGED_ATTEMPTS},
};
use okra_core::model::ids::EndpointId;
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    table::{
        attributes::{Attributes, HIGHEST_SORT_CHAR, JSON_ATTRIBUTE, number_value},
        expression::Condition,
        item::{ItemBuilder, ItemReader},
        key_range::{KeyRange, ReadLimit, SortOrder},
    },
};

/// Seconds that a delivery is stored after its last attempt: 30 days.
const DELIVERY_RETENTION_S: i64 = 30 * 24 * 3600;

/// Deliveries that are read at once at most.
pub const MAX_DELIVERIES_PER_PAGE: usize = 1000;

/// Bytes of a failing answer that are kept at most.
pub const MAX_EXCERPT_BYTES: usize = 1024;

const KIND: &str = "delivery";
const ATTEMPT_COUNT_ATTRIBUTE: &str = "n";
const VERSION_ATTRIBUTE: &str = "v";

/// What of a delivery is in its JSON.
#[derive(Serialize, Deserialize)]
struct DeliveryBody {
    #[serde(rename = "s")]
    state: DeliveryState,
    #[serde(rename = "e")]
    event_name: String,
    #[serde(rename = "l", skip_serializing_if = "Vec::is_empty", default)]
    attempt_log: Vec<LoggedAttempt>,
    #[serde(rename = "x", skip_serializing_if = "Option::is_none", default)]
    response_excerpt: Option<String>,
    #[serde(rename = "n", skip_serializing_if = "Option::is_none", default)]
    next_attempt_at: Option<Timestamp>,
    #[serde(rename = "r", skip_serializing_if = "std::ops::Not::not", default)]
    is_redelivery: bool,
    #[serde(
        rename = "o",
        skip_serializing_if = "FifoPosition::is_unordered",
        default
    )]
    fifo_position: FifoPosition,
}

pub(crate) fn write_delivery(
    delivery: &Delivery,
    now: Timestamp,
) -> Result<Attributes, StoreError> {
    let body = DeliveryBody {
        state: delivery.state,
        event_name: delivery.event_name.clone(),
        attempt_log: delivery.attempt_log.clone(),
        response_excerpt: delivery.response_excerpt.clone(),
        next_attempt_at: delivery.next_attempt_at,
        is_redelivery: delivery.is_redelivery,
        fifo_position: delivery.fifo_position,
    };
    Ok(ItemBuilder::new(Key::Delivery(delivery.key))
        .with_attribute(
            ATTEMPT_COUNT_ATTRIBUTE,
            number_value(delivery.attempt_count),
        )
        .with_attribute(VERSION_ATTRIBUTE, number_value(delivery.version))
        .with_json(KIND, &body)?
        .with_expiry(now, DELIVERY_RETENTION_S)
        .build())
}

fn read_delivery(item: &Attributes) -> Result<Delivery, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let body: DeliveryBody = reader.read_json(JSON_ATTRIBUTE)?;
    Ok(Delivery {
        key: reader.parse_key(key::parse_delivery_key)?,
        event_name: body.event_name,
        state: body.state,
        attempt_count: reader.read_number(ATTEMPT_COUNT_ATTRIBUTE)?,
        attempt_log: body.attempt_log,
        response_excerpt: body.response_excerpt,
        next_attempt_at: body.next_attempt_at,
        is_redelivery: body.is_redelivery,
        fifo_position: body.fifo_position,
        version: reader.read_number(VERSION_ATTRIBUTE)?,
    })
}

/// The condition that nobody stored the delivery since it was read.
pub(crate) fn unchanged_since_read(delivery: &Delivery) -> Condition {
    Condition::AbsentOrBelow(VERSION_ATTRIBUTE, number_value(delivery.version))
}

impl Store {
    /// Stores a delivery where its version is above that of the stored one; it expires 30 days after
    /// `now`. False, and nothing stored, where another process stored it since it was read.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_delivery(
        &self,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.put_item_if(
            write_delivery(delivery, now)?,
            vec![unchanged_since_read(delivery)],
        )
        .await
    }

    /// The delivery of an event to an endpoint; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_delivery(
        &self,
        delivery_key: &DeliveryKey,
    ) -> Result<Option<Delivery>, StoreError> {
        let item = self
            .get_item(Key::Delivery(*delivery_key), Consistency::Strong)
            .await?;
        item.as_ref().map(read_delivery).transpose()
    }

    /// The deliveries of these keys that exist, in any order; read strongly, so that a redelivered
    /// dispatch sees what was done. No key may be there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_deliveries(
        &self,
        delivery_keys: &[DeliveryKey],
    ) -> Result<Vec<Delivery>, StoreError> {
        let items = match delivery_keys {
            [] => return Ok(Vec::new()),
            [one] => return Ok(self.find_delivery(one).await?.into_iter().collect()),
            several => {
                let keys = several.iter().copied().map(Key::Delivery);
                self.batch_get_items(keys, Consistency::Strong).await?
            }
        };
        items.iter().map(read_delivery).collect()
    }

    /// At most `limit` and [`MAX_DELIVERIES_PER_PAGE`] of an endpoint's deliveries whose events were
    /// committed in this time, oldest or newest first; beyond `after`, where it is given. Read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_deliveries(
        &self,
        endpoint: EndpointId,
        committed: RangeInclusive<Timestamp>,
        after: Option<&DeliveryKey>,
        sort_order: SortOrder,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        let range = commit_time_range(endpoint, &committed, after, sort_order);
        let read_limit = ReadLimit::First(limit.min(MAX_DELIVERIES_PER_PAGE));
        let items = self
            .query_ordered(range, read_limit, Consistency::Eventual, sort_order)
            .await?;
        items.iter().map(read_delivery).collect()
    }
}

/// The sort keys of the events that were committed in a time, or of those what lies beyond `after`.
fn commit_time_range(
    endpoint: EndpointId,
    committed: &RangeInclusive<Timestamp>,
    after: Option<&DeliveryKey>,
    sort_order: SortOrder,
) -> KeyRange {
    let last = key::commit_time_prefix(*committed.end());
    let range = KeyRange::between_keys(
        key::deliveries_partition(endpoint),
        key::commit_time_prefix(*committed.start()),
        format!("{last}{HIGHEST_SORT_CHAR}"),
    );
    match (after, sort_order) {
        (None, _) => range,
        (Some(after), SortOrder::Ascending) => range.after_key(&key::delivery_sort_key(after)),
        // The key itself is left out.
        (Some(after), SortOrder::Descending) => range.up_to_key(key::highest_key_below(after)),
    }
}

#[cfg(test)]
mod tests {
    use okra_core::model::ids::{RecordId, Seq};

    use super::*;
    use crate::table::attributes::item_size;

    fn sample_delivery(log: usize) -> Delivery {
        let at = Timestamp::from_second(1_774_828_800).unwrap();
        let attempt = LoggedAttempt {
            status: Some(503),
            outcome_class: "throttled".to_owned(),
            attempted_at: at,
            latency_ms: 15_000,
        };
        Delivery {
            key: DeliveryKey {
                endpoint: EndpointId::from_bytes([7; 12]),
                committed_at: at,
                source: RecordId::from_bytes([8; 12]).into(),
                seq: Seq(123_456),
            },
            event_name: "transaction.success".to_owned(),
            state: DeliveryState::Retry,
            attempt_count: 10,
            attempt_log: vec![attempt; log],
            response_excerpt: None,
            next_attempt_at: Some(at),
            is_redelivery: true,
            fifo_position: FifoPosition::Released,
            version: 20,
        }
    }

    #[test]
    fn a_delivery_is_one_write_unit_with_all_its_attempts() {
        let now = Timestamp::from_second(1_774_828_805).unwrap();
        let item = write_delivery(&sample_delivery(10), now).unwrap();
        assert!(item_size(&item) <= 1024, "{} bytes", item_size(&item));
        assert_eq!(read_delivery(&item).unwrap(), sample_delivery(10));
    }
}
