//! Due retries of deliveries, by the minute: what the sweep looks through.

use futures::future::try_join_all;
use jiff::Timestamp;
use okra_core::model::{
    ids::{EndpointId, FeedSource, Seq},
    interval::LANES_PER_SLOT,
};

use crate::{
    Consistency, Store, StoreError,
    table::{
        call::{KeyRange, ReadLimit},
        item::{Attributes, ItemBuilder, ItemReader, Key, number_value},
    },
};

/// Retries of one lane of a minute that are read at most; the sweep deletes what it has worked off and
/// reads again.
pub const MAX_RETRIES_PER_LANE: usize = 1000;

/// Seconds that a retry is kept beyond its minute, should no sweep come.
const RETRY_RETENTION_S: i64 = 30 * 24 * 3600;

const KIND: &str = "retry";

/// A delivery to be tried again.
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
        u64::try_from(at.as_second().div_euclid(60)).unwrap_or(0)
    }

    const fn retry_lane(&self) -> u8 {
        match self.source {
            FeedSource::Record(record) => record.as_bytes()[7] % LANES_PER_SLOT,
            FeedSource::App(app) => app.as_bytes()[7] % LANES_PER_SLOT,
        }
    }

    fn item_key(&self) -> Key {
        Key::new(
            retry_partition(self.minute, self.retry_lane()),
            format!("{}#{:012}#{}", self.source, self.seq.0, self.endpoint),
        )
    }
}

fn retry_partition(minute: u64, lane: u8) -> String {
    format!("RTY#{minute}#{lane:02}")
}

fn parse_retry_sort_key(text: &str) -> Option<(FeedSource, Seq, EndpointId)> {
    let mut parts = text.split('#');
    let source = parts.next()?.parse().ok()?;
    let seq = parts.next()?.parse().ok()?;
    let endpoint = parts.next()?.parse().ok()?;
    Some((source, Seq(seq), endpoint))
}

fn write_retry(retry: &RetryEntry) -> Attributes {
    let due = Timestamp::from_second(i64::try_from(retry.minute).unwrap_or(0).saturating_mul(60));
    ItemBuilder::new(retry.item_key())
        .with_attribute("n", number_value(retry.attempt))
        .with_expiry(due.unwrap_or(Timestamp::MAX), RETRY_RETENTION_S)
        .build()
}

fn read_retry(minute: u64, item: &Attributes) -> Result<RetryEntry, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let (source, seq, endpoint) =
        parse_retry_sort_key(reader.read_text("sk")?).ok_or_else(|| reader.corrupt_error("sk"))?;
    Ok(RetryEntry {
        source,
        seq,
        endpoint,
        attempt: reader.read_number("n")?,
        minute,
    })
}

impl Store {
    /// Puts a retry into its minute.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_retry(&self, retry: &RetryEntry) -> Result<(), StoreError> {
        self.put_item(write_retry(retry)).await
    }

    /// The retries of a minute, at most [`MAX_RETRIES_PER_LANE`] of each of its 16 lanes.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_due_retries(&self, minute: u64) -> Result<Vec<RetryEntry>, StoreError> {
        let lanes = (0..LANES_PER_SLOT).map(|lane| async move {
            let range = KeyRange::whole_partition(retry_partition(minute, lane));
            let take = ReadLimit::First(MAX_RETRIES_PER_LANE);
            let items = self.query_range(range, take, Consistency::Eventual).await?;
            items
                .iter()
                .map(|item| read_retry(minute, item))
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(try_join_all(lanes).await?.into_iter().flatten().collect())
    }

    /// Takes a retry out of its minute.
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
            prop_assert_eq!(read_retry(minute, &write_retry(&retry)).unwrap(), retry);
        }
    }
}
