//! Counts by the minute, for each app: what its overview's charts are drawn from.
//!
//! A process adds what it counted in one write for each app, never one for each refresh. An item is one
//! minute of one app, and well below 1 KB.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use okra_core::model::ids::AppId;

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    table::{
        attributes::{Attributes, PK, SK, TTL_ATTRIBUTE, expiry_value, number_value},
        expression::ItemUpdate,
        item::ItemReader,
        key_range::{KeyRange, ReadLimit},
    },
};

/// Seconds that the counts of a minute are kept: three days.
const COUNT_RETENTION_S: i64 = 3 * 24 * 3600;

/// Minutes that are read at once at most.
pub const MAX_COUNTED_MINUTES: usize = 24 * 60;

const KIND: &str = "count of a minute";
const HOUR: u64 = key::MINUTES_PER_HOUR as u64;

/// What was counted in one minute, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinuteCounts {
    /// Minutes since 1970.
    pub minute: u64,
    /// Numbers by their names.
    pub by_name: BTreeMap<String, u64>,
}

fn read_counts(hour: u64, item: &Attributes) -> Result<MinuteCounts, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let minute: u64 = reader.read_parsed(SK)?;
    let mut by_name = BTreeMap::new();
    for (name, value) in item {
        if let AttributeValue::N(number) = value
            && name != TTL_ATTRIBUTE
        {
            let number = number
                .parse()
                .map_err(|_| reader.corrupt_error("a count"))?;
            by_name.insert(name.clone(), number);
        }
    }
    Ok(MinuteCounts {
        minute: hour * HOUR + minute,
        by_name,
    })
}

impl Store {
    /// Adds numbers to those of an app in the minute of `now`: one write, however many numbers they are.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn add_counts(
        &self,
        app: AppId,
        now: Timestamp,
        numbers: &[(&str, u64)],
    ) -> Result<(), StoreError> {
        let minute = key::minute_since_epoch(now);
        let key = Key::MinuteCounts { app, minute };
        let update =
            ItemUpdate::new(key).set_attribute(TTL_ATTRIBUTE, expiry_value(now, COUNT_RETENTION_S));
        let update = numbers
            .iter()
            .filter(|(name, number)| *number > 0 && ![PK, SK, TTL_ATTRIBUTE].contains(name))
            .fold(update, |update, (name, number)| {
                update.add_to_number(name, number_value(number))
            });
        self.update_item(update).await.map(drop)
    }

    /// What was counted of an app in the minutes from `from` to `to` (both inclusive, since 1970), in order;
    /// minutes in which nothing was counted are left out. At most [`MAX_COUNTED_MINUTES`], the last ones; read
    /// eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_counts(
        &self,
        app: AppId,
        from: u64,
        to: u64,
    ) -> Result<Vec<MinuteCounts>, StoreError> {
        // Before minute 0 nothing is counted.
        let from = from.max(to.saturating_sub(MAX_COUNTED_MINUTES as u64 - 1));
        let hours = from / HOUR..=to / HOUR;
        let hours = hours.map(|hour| async move {
            let minute = from.max(hour * HOUR);
            let last = to.min(hour * HOUR + HOUR - 1);
            let first = Key::MinuteCounts { app, minute };
            let range = KeyRange::between_keys(first.pk(), first.sk(), key::minute_sort_key(last));
            let limit = ReadLimit::First(usize::from(key::MINUTES_PER_HOUR));
            let items = self
                .query_range(range, limit, Consistency::Eventual)
                .await?;
            items
                .iter()
                .map(|item| read_counts(hour, item))
                .collect::<Result<Vec<_>, _>>()
        });
        let counts = futures::future::try_join_all(hours)
            .await?
            .into_iter()
            .flatten()
            .collect();
        Ok(counts)
    }
}
