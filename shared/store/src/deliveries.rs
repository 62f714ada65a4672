//! Deliveries: what became of telling an event to an endpoint.
//!
//! The rows of an endpoint are one partition in the order of their events' commits: its log is read
//! from them, and so are a replay's failed deliveries. The rows of an event are found by key, one for
//! each endpoint.

use jiff::Timestamp;
use okra_core::{
    ids::{EndpointId, EventId, Seq, Source},
    retry::holds_up,
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    call::{Direction, Range, Take},
    expression::When,
    item::{Attributes, Draft, JSON, Key, Reader, json, n},
};

/// Seconds that a delivery is kept after its last attempt.
const KEPT_S: i64 = 30 * 24 * 3600;

/// Deliveries that are read at once at most.
pub const MAX_DELIVERIES_PER_PAGE: usize = 1000;

/// Attempts that a delivery remembers at most; the oldest are forgotten first.
pub const MAX_ATTEMPTS_KEPT: usize = 12;

/// Bytes of a failing answer that are kept at most.
pub const MAX_EXCERPT_BYTES: usize = 1024;

const KIND: &str = "delivery";

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// The endpoint took it.
    Delivered,
    /// It is tried again at `next_at`.
    Retry,
    /// It waits until the endpoint takes events again.
    Parked,
    /// It is tried no more on its own.
    Exhausted,
    /// Nobody wants it any more: the endpoint was removed, or does not want such events.
    Cancelled,
}

impl DeliveryState {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Parked => "parked",
            Self::Exhausted => "exhausted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where an event stands in the line of its record's events, at an endpoint that is told them one after
/// another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Line {
    /// In none.
    #[default]
    #[serde(rename = "-")]
    None,
    /// In it: whoever settles it goes on with those behind it.
    #[serde(rename = "i")]
    In,
    /// It had its turn, and neither it nor any before it holds up those behind it any more.
    #[serde(rename = "p")]
    Past,
}

impl Line {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde passes it")]
    fn is_none(&self) -> bool {
        *self == Self::None
    }
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

/// Which event to which endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryKey {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// When the event's feed entry was committed; milliseconds count.
    pub at: Timestamp,
    /// The feed of the event.
    pub source: Source,
    /// Its place in it.
    pub seq: Seq,
}

/// One event to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which event to which endpoint.
    pub key: DeliveryKey,
    /// The event's name: `balance.success`.
    pub event: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts made, of those that the schedule allows. Probes and our own faults do not count.
    pub attempts: u32,
    /// The attempts, the last of them last; at most [`MAX_ATTEMPTS_KEPT`].
    pub log: Vec<AttemptResult>,
    /// The beginning of the last failing answer, at most [`MAX_EXCERPT_BYTES`].
    pub excerpt: Option<String>,
    /// When it is tried again, in state [`DeliveryState::Retry`].
    pub next_at: Option<Timestamp>,
    /// True from when somebody asked for it again.
    pub replayed: bool,
    /// Where it stands in the line of its record's events.
    pub line: Line,
    /// Counts the times this was stored. A new one has 1; who stores it again adds 1.
    pub version: u32,
}

impl Delivery {
    /// The id of the event.
    pub fn event_id(&self) -> EventId {
        EventId::of_source(self.key.source, self.key.seq)
    }

    /// The last attempt.
    pub fn last(&self) -> Option<&AttemptResult> {
        self.log.last()
    }

    /// True where no attempt is to be made any more.
    pub const fn is_over(&self) -> bool {
        matches!(
            self.state,
            DeliveryState::Delivered | DeliveryState::Exhausted | DeliveryState::Cancelled
        )
    }

    /// True where it holds up no event behind it in line: it is over, or was tried in vain for long
    /// enough.
    pub fn is_settled(&self) -> bool {
        let tried = self.log.first().zip(self.next_at);
        let in_vain = |(first, next): (&AttemptResult, _)| {
            self.state == DeliveryState::Retry && !holds_up(self.attempts, first.at, next)
        };
        self.is_over() || self.line == Line::Past || tried.is_some_and(in_vain)
    }

    /// Remembers an attempt.
    pub fn remember(&mut self, attempt: AttemptResult) {
        if self.log.len() >= MAX_ATTEMPTS_KEPT {
            self.log.remove(0);
        }
        self.log.push(attempt);
    }
}

/// What of a delivery is in its JSON.
#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(rename = "s")]
    state: DeliveryState,
    #[serde(rename = "e")]
    event: String,
    #[serde(rename = "l", skip_serializing_if = "Vec::is_empty", default)]
    log: Vec<AttemptResult>,
    #[serde(rename = "x", skip_serializing_if = "Option::is_none", default)]
    excerpt: Option<String>,
    #[serde(rename = "n", skip_serializing_if = "Option::is_none", default)]
    next_at: Option<Timestamp>,
    #[serde(rename = "r", skip_serializing_if = "std::ops::Not::not", default)]
    replayed: bool,
    #[serde(rename = "o", skip_serializing_if = "Line::is_none", default)]
    line: Line,
}

fn partition(endpoint: EndpointId) -> String {
    format!("DLV#{endpoint}")
}

/// The sort key of deliveries and parked events: in the order of commits.
pub(crate) fn sort_key(key: &DeliveryKey) -> String {
    let DeliveryKey {
        at, source, seq, ..
    } = key;
    format!("{}#{source}#{:012}", from(*at), seq.0)
}

/// What sort keys of events that were committed at `at` begin with.
pub(crate) fn from(at: Timestamp) -> String {
    format!("{:013}", at.as_millisecond().max(0))
}

pub(crate) fn parse_sort_key(endpoint: EndpointId, text: &str) -> Option<DeliveryKey> {
    let mut parts = text.split('#');
    let at = Timestamp::from_millisecond(parts.next()?.parse().ok()?).ok()?;
    let source = parts.next()?.parse().ok()?;
    let seq = Seq(parts.next()?.parse().ok()?);
    Some(DeliveryKey {
        endpoint,
        at,
        source,
        seq,
    })
}

pub(crate) fn key(key: &DeliveryKey) -> Key {
    Key::new(partition(key.endpoint), sort_key(key))
}

pub(crate) fn write(delivery: &Delivery, now: Timestamp) -> Result<Attributes, StoreError> {
    let body = Body {
        state: delivery.state,
        event: delivery.event.clone(),
        log: delivery.log.clone(),
        excerpt: delivery.excerpt.clone(),
        next_at: delivery.next_at,
        replayed: delivery.replayed,
        line: delivery.line,
    };
    Ok(Draft::new(key(&delivery.key))
        .with("n", n(delivery.attempts))
        .with("v", n(delivery.version))
        .with(JSON, json(KIND, &body)?)
        .expiring(now, KEPT_S)
        .done())
}

fn read(item: &Attributes) -> Result<Delivery, StoreError> {
    let reader = Reader::new(KIND, item);
    let endpoint = reader.text("pk")?.strip_prefix("DLV#");
    let endpoint = endpoint.and_then(|endpoint| endpoint.parse().ok());
    let endpoint = endpoint.ok_or_else(|| reader.corrupt("pk"))?;
    let key = parse_sort_key(endpoint, reader.text("sk")?).ok_or_else(|| reader.corrupt("sk"))?;
    let body: Body = reader.json(JSON)?;
    Ok(Delivery {
        key,
        event: body.event,
        state: body.state,
        attempts: reader.number("n")?,
        log: body.log,
        excerpt: body.excerpt,
        next_at: body.next_at,
        replayed: body.replayed,
        line: body.line,
        version: reader.number("v")?,
    })
}

/// True where nobody stored the delivery since it was read.
pub(crate) fn unmoved(delivery: &Delivery) -> When {
    When::AbsentOrBelow("v", n(delivery.version))
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
        self.put_when(write(delivery, now)?, vec![unmoved(delivery)])
            .await
    }

    /// The delivery of an event to an endpoint; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delivery(&self, of: &DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        let item = self.get(key(of), Consistency::Strong).await?;
        item.as_ref().map(read).transpose()
    }

    /// Those of these deliveries that there are, in any order; read strongly, so that a redelivered
    /// dispatch sees what was done. No key may be there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn deliveries(&self, of: &[DeliveryKey]) -> Result<Vec<Delivery>, StoreError> {
        let items = match of {
            [] => return Ok(Vec::new()),
            [one] => return Ok(self.delivery(one).await?.into_iter().collect()),
            of => {
                self.batch_get(of.iter().map(key).collect(), Consistency::Strong)
                    .await?
            }
        };
        items.iter().map(read).collect()
    }

    /// At most `limit` and [`MAX_DELIVERIES_PER_PAGE`] of an endpoint's deliveries whose events were
    /// committed from `since` to `until`, oldest or newest first; beyond `after`, where it is given.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn deliveries_of(
        &self,
        endpoint: EndpointId,
        (since, until): (Timestamp, Timestamp),
        after: Option<&DeliveryKey>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        let range = time_range(partition(endpoint), since, until, after, direction);
        let take = Take::First(limit.min(MAX_DELIVERIES_PER_PAGE));
        let items = self
            .query_to(range, take, Consistency::Eventual, direction)
            .await?;
        items.iter().map(read).collect()
    }
}

/// The events committed from `since` to `until`, or of those what lies beyond `after`.
pub(crate) fn time_range(
    pk: String,
    since: Timestamp,
    until: Timestamp,
    after: Option<&DeliveryKey>,
    direction: Direction,
) -> Range {
    let (mut low, mut high) = (from(since), format!("{}~", from(until)));
    if let Some(after) = after {
        match direction {
            Direction::Forward => low = format!("{} ", sort_key(after)),
            // The sort key itself is left out: nothing sorts between it and its last digit lowered.
            Direction::Backward => high = before(&sort_key(after)),
        }
    }
    Range::between(pk, low, high)
}

/// A text that sorts right before another that ends in a digit, with nothing of the kind between.
fn before(text: &str) -> String {
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
    use okra_core::ids::{AppId, RecordId};
    use proptest::prelude::*;

    use super::*;
    use crate::item::size;

    fn delivery(log: usize) -> Delivery {
        let at = Timestamp::from_second(1_774_828_800).unwrap();
        let attempt = AttemptResult {
            status: Some(503),
            class: "throttled".to_owned(),
            at,
            latency_ms: 15_000,
        };
        Delivery {
            key: DeliveryKey {
                endpoint: EndpointId::from_bytes([7; 12]),
                at,
                source: RecordId::from_bytes([8; 12]).into(),
                seq: Seq(123_456),
            },
            event: "transaction.success".to_owned(),
            state: DeliveryState::Retry,
            attempts: 10,
            log: vec![attempt; log],
            excerpt: None,
            next_at: Some(at),
            replayed: true,
            line: Line::Past,
            version: 20,
        }
    }

    #[test]
    fn a_delivery_is_one_write_unit_with_all_its_attempts() {
        let now = Timestamp::from_second(1_774_828_805).unwrap();
        let item = write(&delivery(10), now).unwrap();
        assert!(size(&item) <= 1024, "{} bytes", size(&item));
        assert_eq!(read(&item).unwrap(), delivery(10));
    }

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_commits(a in 0..2_000_000_000_000_i64, b in 0..2_000_000_000_000_i64, app: bool, seq in 0..1_000_000_u64) {
            let source = match app {
                true => Source::App(AppId::from_bytes([9; 12])),
                false => RecordId::from_bytes([9; 12]).into(),
            };
            let key = |ms| DeliveryKey {
                endpoint: EndpointId::from_bytes([1; 12]),
                at: Timestamp::from_millisecond(ms).unwrap(),
                source,
                seq: Seq(seq),
            };
            prop_assert_eq!(sort_key(&key(a)).cmp(&sort_key(&key(b))), a.cmp(&b));
            prop_assert_eq!(parse_sort_key(key(a).endpoint, &sort_key(&key(a))), Some(key(a)));
            let text = sort_key(&key(a));
            prop_assert!(before(&text) < text);
            let next = format!("{text} ");
            prop_assert!(next > text);
        }
    }
}
