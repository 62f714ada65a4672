//! Deliveries: what became of telling an event to an endpoint.
//!
//! The rows of an endpoint are one partition in the order of their events' commits: its log is read
//! from them, and so are a replay's failed deliveries. The rows of an event are found by key, one for
//! each endpoint.

use jiff::Timestamp;
pub use okra_core::delivery::{
    attempt::LoggedAttempt,
    state_machine::{Delivery, DeliveryKey, DeliveryState, FifoPosition, MAX_LOGGED_ATTEMPTS},
};
use okra_core::model::ids::{EndpointId, Seq};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    table::{
        call::{KeyRange, ReadLimit, SortOrder},
        expression::Condition,
        item::{
            Attributes, ItemBuilder, ItemReader, JSON_ATTRIBUTE, Key, json_value, number_value,
        },
    },
};

/// Seconds that a delivery is kept after its last attempt.
const DELIVERY_RETENTION_S: i64 = 30 * 24 * 3600;

/// Deliveries that are read at once at most.
pub const MAX_DELIVERIES_PER_PAGE: usize = 1000;

/// Bytes of a failing answer that are kept at most.
pub const MAX_EXCERPT_BYTES: usize = 1024;

const KIND: &str = "delivery";

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

fn deliveries_partition(endpoint: EndpointId) -> String {
    format!("DLV#{endpoint}")
}

/// The sort key of deliveries and parked events: in the order of commits.
pub(crate) fn delivery_sort_key(key: &DeliveryKey) -> String {
    let DeliveryKey {
        committed_at: at,
        source,
        seq,
        ..
    } = key;
    format!("{}#{source}#{:012}", commit_time_prefix(*at), seq.0)
}

/// What sort keys of events that were committed at `at` begin with.
pub(crate) fn commit_time_prefix(at: Timestamp) -> String {
    format!("{:013}", at.as_millisecond().max(0))
}

pub(crate) fn parse_delivery_sort_key(endpoint: EndpointId, text: &str) -> Option<DeliveryKey> {
    let mut parts = text.split('#');
    let at = Timestamp::from_millisecond(parts.next()?.parse().ok()?).ok()?;
    let source = parts.next()?.parse().ok()?;
    let seq = Seq(parts.next()?.parse().ok()?);
    Some(DeliveryKey {
        endpoint,
        committed_at: at,
        source,
        seq,
    })
}

pub(crate) fn delivery_item_key(key: &DeliveryKey) -> Key {
    Key::new(deliveries_partition(key.endpoint), delivery_sort_key(key))
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
    Ok(ItemBuilder::new(delivery_item_key(&delivery.key))
        .with_attribute("n", number_value(delivery.attempt_count))
        .with_attribute("v", number_value(delivery.version))
        .with_attribute(JSON_ATTRIBUTE, json_value(KIND, &body)?)
        .with_expiry(now, DELIVERY_RETENTION_S)
        .build())
}

fn read_delivery(item: &Attributes) -> Result<Delivery, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let endpoint = reader.read_text("pk")?.strip_prefix("DLV#");
    let endpoint = endpoint.and_then(|endpoint| endpoint.parse().ok());
    let endpoint = endpoint.ok_or_else(|| reader.corrupt_error("pk"))?;
    let key = parse_delivery_sort_key(endpoint, reader.read_text("sk")?)
        .ok_or_else(|| reader.corrupt_error("sk"))?;
    let body: DeliveryBody = reader.read_json(JSON_ATTRIBUTE)?;
    Ok(Delivery {
        key,
        event_name: body.event_name,
        state: body.state,
        attempt_count: reader.read_number("n")?,
        attempt_log: body.attempt_log,
        response_excerpt: body.response_excerpt,
        next_attempt_at: body.next_attempt_at,
        is_redelivery: body.is_redelivery,
        fifo_position: body.fifo_position,
        version: reader.read_number("v")?,
    })
}

/// True where nobody stored the delivery since it was read.
pub(crate) fn unchanged_since_read(delivery: &Delivery) -> Condition {
    Condition::AbsentOrBelow("v", number_value(delivery.version))
}

impl Store {
    /// Stores a delivery where its version is above that of the stored one; kept for 30 days after
    /// `now`. False where it is not: another process went on from what was read.
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
            .get_item(delivery_item_key(delivery_key), Consistency::Strong)
            .await?;
        item.as_ref().map(read_delivery).transpose()
    }

    /// Those of these deliveries that there are, in any order; read strongly, so that a redelivered
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
            of => {
                self.batch_get_items(
                    of.iter().map(delivery_item_key).collect(),
                    Consistency::Strong,
                )
                .await?
            }
        };
        items.iter().map(read_delivery).collect()
    }

    /// At most `limit` and [`MAX_DELIVERIES_PER_PAGE`] of an endpoint's deliveries whose events were
    /// committed from `since` to `until`, oldest or newest first; beyond `after`, where it is given.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_deliveries(
        &self,
        endpoint: EndpointId,
        (since, until): (Timestamp, Timestamp),
        after: Option<&DeliveryKey>,
        sort_order: SortOrder,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        let range = commit_time_range(
            deliveries_partition(endpoint),
            since,
            until,
            after,
            sort_order,
        );
        let take = ReadLimit::First(limit.min(MAX_DELIVERIES_PER_PAGE));
        let items = self
            .query_ordered(range, take, Consistency::Eventual, sort_order)
            .await?;
        items.iter().map(read_delivery).collect()
    }
}

/// The events committed from `since` to `until`, or of those what lies beyond `after`.
pub(crate) fn commit_time_range(
    pk: String,
    since: Timestamp,
    until: Timestamp,
    after: Option<&DeliveryKey>,
    sort_order: SortOrder,
) -> KeyRange {
    let (mut low, mut high) = (
        commit_time_prefix(since),
        format!("{}~", commit_time_prefix(until)),
    );
    if let Some(after) = after {
        match sort_order {
            SortOrder::Ascending => low = format!("{} ", delivery_sort_key(after)),
            // The sort key itself is left out: nothing sorts between it and its last digit lowered.
            SortOrder::Descending => high = highest_text_below(&delivery_sort_key(after)),
        }
    }
    KeyRange::between_keys(pk, low, high)
}

/// A text that sorts right before another that ends in a digit, with nothing of the kind between.
fn highest_text_below(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last = last.saturating_sub(1);
    }
    let mut lowered = String::from_utf8(bytes).unwrap_or_default();
    lowered.push('~');
    lowered
}

#[cfg(test)]
mod tests {
    use okra_core::model::ids::{AppId, FeedSource, RecordId};
    use proptest::prelude::*;

    use super::*;
    use crate::table::item::item_size;

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

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_commits(a in 0..2_000_000_000_000_i64, b in 0..2_000_000_000_000_i64, app: bool, seq in 0..1_000_000_u64) {
            let source = match app {
                true => FeedSource::App(AppId::from_bytes([9; 12])),
                false => RecordId::from_bytes([9; 12]).into(),
            };
            let key = |ms| DeliveryKey {
                endpoint: EndpointId::from_bytes([1; 12]),
                committed_at: Timestamp::from_millisecond(ms).unwrap(),
                source,
                seq: Seq(seq),
            };
            prop_assert_eq!(delivery_sort_key(&key(a)).cmp(&delivery_sort_key(&key(b))), a.cmp(&b));
            prop_assert_eq!(parse_delivery_sort_key(key(a).endpoint, &delivery_sort_key(&key(a))), Some(key(a)));
            let text = delivery_sort_key(&key(a));
            prop_assert!(highest_text_below(&text) < text);
            let next = format!("{text} ");
            prop_assert!(next > text);
        }
    }
}
