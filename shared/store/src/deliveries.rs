//! Deliveries: what became of telling an event to an endpoint.

use jiff::Timestamp;
use okra_core::ids::{EndpointId, RecordId, Seq};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    call::{Range, Take},
    expression::When,
    item::{Attributes, Draft, JSON, Key, Reader, json, n},
};

/// Seconds that a delivery is kept after its last attempt.
const KEPT_S: i64 = 30 * 24 * 3600;

/// Deliveries of one event that are read at most.
const MAX_PER_EVENT: usize = 256;

const KIND: &str = "delivery";
const PREFIX: &str = "DLV#";

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// The endpoint took it.
    Delivered,
    /// It is tried again at `next_at`.
    Retry,
    /// It is tried no more on its own.
    Exhausted,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptResult {
    /// The HTTP status, where there was an answer.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// The class of the outcome; a stable name.
    #[serde(rename = "c")]
    pub class: String,
    /// When it was made.
    #[serde(rename = "a")]
    pub at: Timestamp,
    /// How long it took.
    #[serde(rename = "l")]
    pub latency_ms: u32,
}

/// One event to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The record of the event.
    pub record: RecordId,
    /// The feed entry of the event.
    pub seq: Seq,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: u32,
    /// The last of them.
    pub last: Option<AttemptResult>,
    /// When it is tried again, in state [`DeliveryState::Retry`].
    pub next_at: Option<Timestamp>,
    /// The URL it went to.
    pub url: String,
}

/// What of a delivery is in its JSON.
#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(rename = "s")]
    state: DeliveryState,
    #[serde(rename = "l", skip_serializing_if = "Option::is_none", default)]
    last: Option<AttemptResult>,
    #[serde(rename = "n", skip_serializing_if = "Option::is_none", default)]
    next_at: Option<Timestamp>,
    #[serde(rename = "u")]
    url: String,
}

pub(crate) fn partition(record: RecordId, seq: Seq) -> String {
    format!("EVT#{record}#{seq}")
}

fn key(record: RecordId, seq: Seq, endpoint: EndpointId) -> Key {
    Key::new(partition(record, seq), format!("{PREFIX}{endpoint}"))
}

fn write(delivery: &Delivery, now: Timestamp) -> Result<Attributes, StoreError> {
    let body = Body {
        state: delivery.state,
        last: delivery.last.clone(),
        next_at: delivery.next_at,
        url: delivery.url.clone(),
    };
    let key = key(delivery.record, delivery.seq, delivery.endpoint);
    Ok(Draft::new(key)
        .with("n", n(delivery.attempts))
        .with(JSON, json(KIND, &body)?)
        .expiring(now, KEPT_S)
        .done())
}

fn read(record: RecordId, seq: Seq, item: &Attributes) -> Result<Delivery, StoreError> {
    let reader = Reader::new(KIND, item);
    let endpoint = reader.after(PREFIX)?.parse();
    let body: Body = reader.json(JSON)?;
    Ok(Delivery {
        record,
        seq,
        endpoint: endpoint.map_err(|_| reader.corrupt("sk"))?,
        state: body.state,
        attempts: reader.number("n")?,
        last: body.last,
        next_at: body.next_at,
        url: body.url,
    })
}

impl Store {
    /// Stores a delivery where it has more attempts than the stored one; kept for 30 days after
    /// `now`. False where it has not: another process made the same attempt.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_delivery(
        &self,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let newer = When::AbsentOrBelow("n", n(delivery.attempts));
        self.put_when(write(delivery, now)?, vec![newer]).await
    }

    /// Records what came of the attempt that was claimed by storing it: replaces the delivery where
    /// its number of attempts is still that one. False where another process went on from it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn settle_delivery(
        &self,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let claimed = When::Is("n", Some(n(delivery.attempts)));
        self.put_when(write(delivery, now)?, vec![claimed]).await
    }

    /// The delivery of an event to an endpoint; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delivery(
        &self,
        record: RecordId,
        seq: Seq,
        endpoint: EndpointId,
    ) -> Result<Option<Delivery>, StoreError> {
        let item = self
            .get(key(record, seq, endpoint), Consistency::Strong)
            .await?;
        item.as_ref()
            .map(|item| read(record, seq, item))
            .transpose()
    }

    /// The deliveries of an event; read strongly, so that a redelivered dispatch sees what was
    /// done.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than 256.
    pub async fn deliveries(
        &self,
        record: RecordId,
        seq: Seq,
    ) -> Result<Vec<Delivery>, StoreError> {
        let take = Take::All {
            bound: MAX_PER_EVENT,
            what: "deliveries of an event",
        };
        let range = Range::prefix(partition(record, seq), PREFIX);
        let items = self.query(range, take, Consistency::Strong).await?;
        items.iter().map(|item| read(record, seq, item)).collect()
    }
}
