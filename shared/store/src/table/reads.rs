//! The calls that read: one item, a range, or many keys. Each is bounded and metered.

use std::{fmt::Display, str::FromStr};

use aws_sdk_dynamodb::types::{KeysAndAttributes, ReturnConsumedCapacity};

use super::{
    attributes::{Attributes, PK, PrimaryKey, SK, string_value},
    backoff::back_off,
    error::StoreError,
    item::ItemReader,
    key_range::{KeyRange, ReadLimit, SortOrder},
    store::{Consistency, Store},
};
use crate::key::Key;

/// Keys of one batch read; DynamoDB's limit.
const MAX_BATCH_KEYS: usize = 100;

/// Times a batch asks for what DynamoDB left unprocessed.
const MAX_BATCH_ROUNDS: u32 = 8;

impl Store {
    pub(crate) async fn get_item(
        &self,
        key: Key<'_>,
        consistency: Consistency,
    ) -> Result<Option<Attributes>, StoreError> {
        let response = self
            .client
            .get_item()
            .table_name(&*self.table)
            .set_key(Some(PrimaryKey::from(key).into_attributes()))
            .consistent_read(consistency.is_strong())
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| self.service_error("GetItem", error))?;
        self.capacity_meter
            .add_read_units(response.consumed_capacity());
        Ok(response.item)
    }

    /// The items of a range in the order of their keys. Follows pages; each holds at least one item,
    /// so that the limit bounds them too.
    pub(crate) fn query_range(
        &self,
        range: KeyRange,
        read_limit: ReadLimit,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Vec<Attributes>, StoreError>> + Send {
        self.query_ordered(range, read_limit, consistency, SortOrder::Ascending)
    }

    /// [`query_range`](Self::query_range) in either order of the keys.
    pub(crate) async fn query_ordered(
        &self,
        range: KeyRange,
        read_limit: ReadLimit,
        consistency: Consistency,
        sort_order: SortOrder,
    ) -> Result<Vec<Attributes>, StoreError> {
        let wanted = match read_limit {
            ReadLimit::First(count) => count,
            // One more shows that there are too many.
            ReadLimit::All { bound, .. } | ReadLimit::Capped { bound, .. } => bound + 1,
        };
        let mut items = Vec::new();
        let mut start = None;
        while items.len() < wanted {
            // A page is at most 1 MB: no limit above that of the type has an effect.
            let page_limit = i32::try_from(wanted - items.len()).unwrap_or(i32::MAX);
            let page = self
                .client
                .query()
                .table_name(&*self.table)
                .key_condition_expression("#k = :k AND #s BETWEEN :f AND :t")
                .expression_attribute_names("#k", PK)
                .expression_attribute_names("#s", SK)
                .expression_attribute_values(":k", string_value(range.pk.as_str()))
                .expression_attribute_values(":f", string_value(range.first.as_str()))
                .expression_attribute_values(":t", string_value(range.last.as_str()))
                .set_exclusive_start_key(start)
                .limit(page_limit)
                .scan_index_forward(sort_order == SortOrder::Ascending)
                .consistent_read(consistency.is_strong())
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| self.service_error("Query", error))?;
            self.capacity_meter.add_read_units(page.consumed_capacity());
            items.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                break;
            }
        }
        match read_limit {
            ReadLimit::All { bound, what } if items.len() > bound => {
                return Err(StoreError::BoundExceeded { what, bound });
            }
            ReadLimit::Capped { bound, what } if items.len() > bound => {
                tracing::error!(
                    what,
                    bound,
                    "A list is longer than its bound; the rest is left out"
                );
                items.truncate(bound);
            }
            _ => {}
        }
        Ok(items)
    }

    /// At most `limit` ids that link items of a partition point to, after `after`: what their sort
    /// keys hold after `prefix`.
    pub(crate) async fn list_linked_ids<T: FromStr + Display>(
        &self,
        pk: String,
        prefix: &str,
        after: Option<T>,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Vec<T>, StoreError> {
        let last = after.map(|id| id.to_string());
        let range = KeyRange::with_prefix_after(pk, prefix, last.as_deref());
        let links = self
            .query_range(range, ReadLimit::First(limit), consistency)
            .await?;
        links
            .iter()
            .map(|link| ItemReader::new("link", link).parse_sort_key_after(prefix))
            .collect()
    }

    /// The items that exist of these keys, in any order. No key may be there twice.
    pub(crate) async fn batch_get_items(
        &self,
        keys: impl Iterator<Item = Key<'_>> + Send,
        consistency: Consistency,
    ) -> Result<Vec<Attributes>, StoreError> {
        let keys: Vec<Attributes> = keys
            .map(|key| PrimaryKey::from(key).into_attributes())
            .collect();
        let mut items = Vec::with_capacity(keys.len());
        let mut keys = keys.into_iter().peekable();
        while keys.peek().is_some() {
            let batch = keys.by_ref().take(MAX_BATCH_KEYS).collect();
            self.read_batch(batch, consistency, &mut items).await?;
        }
        Ok(items)
    }

    /// Adds the items of one batch of keys; what DynamoDB leaves unprocessed is requested again.
    async fn read_batch(
        &self,
        mut keys: Vec<Attributes>,
        consistency: Consistency,
        items: &mut Vec<Attributes>,
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "BatchGetItem";
        for round in 0..MAX_BATCH_ROUNDS {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .consistent_read(consistency.is_strong())
                .build()
                .map_err(|error| StoreError::invalid_request(OPERATION, error))?;
            let response = self
                .client
                .batch_get_item()
                .request_items(&*self.table, request)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| self.service_error(OPERATION, error))?;
            self.capacity_meter
                .add_read_units(response.consumed_capacity());
            items.extend(
                response
                    .responses
                    .unwrap_or_default()
                    .into_values()
                    .flatten(),
            );
            keys = response
                .unprocessed_keys
                .unwrap_or_default()
                .into_values()
                .flat_map(|unprocessed| unprocessed.keys)
                .collect();
            if keys.is_empty() {
                return Ok(());
            }
            back_off(round).await;
        }
        Err(StoreError::Contended {
            operation: OPERATION,
        })
    }
}
