//! Due retries of deliveries, by the minute: the sweep reads those of each minute.

use futures::future::try_join_all;
use jiff::Timestamp;
use okra_core::model::{
    ids::{EndpointId, FeedSource, Seq},
    interval::LANES_PER_SLOT,
};

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    table::{
        attributes::{Attributes, number_value},
        item::{ItemBuilder, ItemReader},
        key_range::{KeyRange, ReadLimit},
    },
};

/// Retries of one lane of a minute that are read at most; the sweep deletes those it has enqueued and
/// reads again.
pub const MAX_RETRIES_PER_LANE: usize = 1000;

/// Seconds that a retry is stored beyond its minute, in case no sweep runs.
const RETRY_RETENTION_S: i64 = 30 * 24 * 3600;

const KIND: &str = "retry";
const ATTEMPT_ATTRIBUTE: &str = "n";

/// A delivery that is to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryEntry {
    /// The feed of the event.
    pub source: FeedSource,
    /// The feed entry of the event.
    pub seq: Seq,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Which attempt it will be, the first being 1.
    pub attempt: u32,
    /// The minute it is due in, since 1970.
    pub minute: u64,
}

impl RetryEntry {
    /// The minute of an instant, since 1970.
    pub fn minute_from(at: Timestamp) -> u64 {
        key::minute_since_epoch(at)
    }

    const fn item_key(&self) -> Key<'static> {
        Key::Retry {
            minute: self.minute,
            source: self.source,
            seq: self.seq,
            endpoint: self.endpoint,
        }
    }
}

fn write_retry(retry: &RetryEntry) -> Result<Attributes, StoreError> {
    let due_s = i64::try_from(retry.minute)
        .ok()
        .and_then(|minute| minute.checked_mul(60));
    let due = due_s.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let due = due.ok_or(StoreError::OutOfRange {
        what: "the minute of a retry",
    })?;
    Ok(ItemBuilder::new(retry.item_key())
        .with_attribute(ATTEMPT_ATTRIBUTE, number_value(retry.attempt))
        .with_expiry(due, RETRY_RETENTION_S)
        .build())
}

fn read_retry(minute: u64, item: &Attributes) -> Result<RetryEntry, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let (source, seq, endpoint) = reader.parse_key(|_, sk| key::parse_retry_sort_key(sk))?;
    Ok(RetryEntry {
        source,
        seq,
        endpoint,
        attempt: reader.read_number(ATTEMPT_ATTRIBUTE)?,
        minute,
    })
}

impl Store {
    /// Stores a retry in its minute.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_retry(&self, retry: &RetryEntry) -> Result<(), StoreError> {
        self.put_item(write_retry(retry)?).await
    }

    /// The retries of a minute, at most [`MAX_RETRIES_PER_LANE`] of each of its 16 lanes; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_due_retries(&self, minute: u64) -> Result<Vec<RetryEntry>, StoreError> {
        let lanes = (0..LANES_PER_SLOT).map(|lane| async move {
            let range = KeyRange::whole_partition(key::retry_partition(minute, lane));
            let limit = ReadLimit::First(MAX_RETRIES_PER_LANE);
            let items = self
                .query_range(range, limit, Consistency::Eventual)
                .await?;
            items
                .iter()
                .map(|item| read_retry(minute, item))
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(try_join_all(lanes).await?.into_iter().flatten().collect())
    }

    /// Deletes a retry from its minute.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_retry(&self, retry: &RetryEntry) -> Result<(), StoreError> {
        self.delete_item(retry.item_key()).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_retry_survives_its_item(
            record: [u8; 12],
            seq in 0..1_000_000_000_000_u64,
            endpoint: [u8; 12],
            attempt: u32,
            minute in 0..100_000_000_u64,
        ) {
            let retry = RetryEntry {
                source: okra_core::model::ids::RecordId::from_bytes(record).into(),
                seq: Seq(seq),
                endpoint: EndpointId::from_bytes(endpoint),
                attempt,
                minute,
            };
            prop_assert_eq!(read_retry(minute, &write_retry(&retry).unwrap()).unwrap(), retry);
        }
    }
}
