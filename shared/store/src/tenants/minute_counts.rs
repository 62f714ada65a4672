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
    table::{
        call::{KeyRange, ReadLimit},
        expression::ItemUpdate,
        item::{Attributes, Key, PK, SK, TTL_ATTRIBUTE, expiry_value, number_value},
    },
};

/// Seconds that a minute is kept.
const COUNT_RETENTION_S: i64 = 3 * 24 * 3600;

/// Minutes that are read at once at most.
pub const MAX_COUNTED_MINUTES: usize = 24 * 60;

const KIND: &str = "counts";
const MINUTES_PER_HOUR: u64 = 60;

/// What was counted in one minute, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinuteCounts {
    /// Minutes since 1970.
    pub minute: u64,
    /// Numbers by their names.
    pub by_name: BTreeMap<String, u64>,
}

fn counts_partition(app: AppId, minute: u64) -> String {
    format!("CNT#{app}#{}", minute / MINUTES_PER_HOUR)
}

fn minute_sort_key(minute: u64) -> String {
    format!("{:02}", minute % MINUTES_PER_HOUR)
}

fn read_counts(hour: u64, item: &Attributes) -> Result<MinuteCounts, StoreError> {
    let corrupt = |attribute| StoreError::Corrupt {
        kind: KIND,
        attribute,
    };
    let minute = match item.get(SK) {
        Some(AttributeValue::S(text)) => text.parse::<u64>().map_err(|_| corrupt(SK))?,
        _ => return Err(corrupt(SK)),
    };
    let mut by_name = BTreeMap::new();
    for (name, value) in item {
        if let AttributeValue::N(number) = value
            && name != TTL_ATTRIBUTE
        {
            let number = number.parse().map_err(|_| corrupt("a count"))?;
            by_name.insert(name.clone(), number);
        }
    }
    Ok(MinuteCounts {
        minute: hour * MINUTES_PER_HOUR + minute,
        by_name,
    })
}

impl Store {
    /// Adds numbers to those of an app in the minute of `now`: one write, whatever their number.
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
        let minute = u64::try_from(now.as_second().div_euclid(60)).unwrap_or(0);
        let key = Key::new(counts_partition(app, minute), minute_sort_key(minute));
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
    /// minutes in which nothing was are left out. At most [`MAX_COUNTED_MINUTES`], the last ones.
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
        let most = u64::try_from(MAX_COUNTED_MINUTES).unwrap_or(u64::MAX);
        let from = from.max(to.saturating_sub(most - 1));
        let hours = from / MINUTES_PER_HOUR..=to / MINUTES_PER_HOUR;
        let hours = hours.map(|hour| async move {
            let take = ReadLimit::First(usize::try_from(MINUTES_PER_HOUR).unwrap_or(60));
            let first = from.max(hour * MINUTES_PER_HOUR);
            let last = to.min(hour * MINUTES_PER_HOUR + MINUTES_PER_HOUR - 1);
            let range = KeyRange::between_keys(
                counts_partition(app, first),
                minute_sort_key(first),
                minute_sort_key(last),
            );
            let items = self.query_range(range, take, Consistency::Eventual).await?;
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
