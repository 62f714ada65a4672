//! The calls to DynamoDB: each metered, bounded, and with its errors typed.

use std::{fmt::Display, str::FromStr, time::Duration};

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        Delete, KeysAndAttributes, Put, ReturnConsumedCapacity, ReturnValue, TransactWriteItem,
        Update as UpdateAction,
    },
};

use crate::{
    Consistency, Store, StoreError,
    table::{
        expression::{Condition, ExpressionParameters, ItemUpdate},
        item::{Attributes, HIGHEST_SORT_CHAR, ItemReader, Key, PK, SK, string_value},
    },
};

/// Keys of one batch read; DynamoDB's limit.
const MAX_BATCH_KEYS: usize = 100;

/// Times a batch asks for what DynamoDB left unprocessed.
const MAX_BATCH_ROUNDS: u32 = 8;

/// Times a transaction is tried against others that write the same items.
const MAX_TRANSACTION_ATTEMPTS: u32 = 6;

/// Before the first repetition; doubled for each further one.
const INITIAL_BACKOFF: Duration = Duration::from_millis(20);

/// Begins a range of all sort keys: below every character used in them.
const LOWEST_SORT_KEY: &str = " ";

/// Sort keys of one partition, both ends included.
#[derive(Clone, Debug)]
pub(crate) struct KeyRange {
    pk: String,
    from: String,
    to: String,
}

impl KeyRange {
    pub(crate) fn between_keys(pk: impl Into<String>, from: impl Into<String>, to: String) -> Self {
        Self {
            pk: pk.into(),
            from: from.into(),
            to,
        }
    }

    /// All sort keys.
    pub(crate) fn whole_partition(pk: impl Into<String>) -> Self {
        Self::between_keys(pk, LOWEST_SORT_KEY, HIGHEST_SORT_CHAR.to_string())
    }

    /// All sort keys that begin with `prefix`.
    pub(crate) fn with_prefix(pk: impl Into<String>, prefix: &str) -> Self {
        Self::between_keys(pk, prefix, format!("{prefix}{HIGHEST_SORT_CHAR}"))
    }

    /// The rest of this range, after a sort key of it.
    pub(crate) fn after_key(mut self, sk: &str) -> Self {
        self.from = format!("{sk}{LOWEST_SORT_KEY}");
        self
    }

    /// The part of this range up to a sort key of it, which is in it.
    pub(crate) fn up_to_key(mut self, sk: &str) -> Self {
        sk.clone_into(&mut self.to);
        self
    }

    /// All sort keys that begin with `prefix` and come after `prefix` and `last`.
    pub(crate) fn with_prefix_after(
        pk: impl Into<String>,
        prefix: &str,
        last_suffix: Option<&str>,
    ) -> Self {
        match last_suffix {
            None => Self::with_prefix(pk, prefix),
            Some(last) => Self::between_keys(
                pk,
                format!("{prefix}{last}{HIGHEST_SORT_CHAR}"),
                format!("{prefix}{HIGHEST_SORT_CHAR}"),
            ),
        }
    }
}

/// How much of a range is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReadLimit {
    /// The first so many items.
    First(usize),
    /// All; more than the bound is [`StoreError::Bound`] of these.
    All { bound: usize, what: &'static str },
}

/// In which order a range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortOrder {
    /// By rising keys: oldest first.
    Ascending,
    /// By falling keys: newest first.
    Descending,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactWriteOutcome {
    Committed,
    /// A condition of this action, counted from 0, did not hold, and perhaps of later ones.
    ConditionFailed(usize),
}

/// Waits before the repetition that follows attempt `n`, counted from 0.
pub(crate) async fn back_off(attempt: u32) {
    tokio::time::sleep(INITIAL_BACKOFF * 2_u32.pow(attempt.min(6))).await;
}

impl Store {
    pub(crate) async fn get_item(
        &self,
        key: Key,
        consistency: Consistency,
    ) -> Result<Option<Attributes>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&*self.table)
            .set_key(Some(key.into_attributes()))
            .consistent_read(consistency.is_strong())
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::from_service("GetItem", error))?;
        self.capacity_meter
            .add_read_units(answer.consumed_capacity());
        Ok(answer.item)
    }

    pub(crate) async fn put_item(&self, item: Attributes) -> Result<(), StoreError> {
        self.put_item_if(item, vec![]).await.map(drop)
    }

    /// False where the conditions do not hold.
    pub(crate) async fn put_item_if(
        &self,
        item: Attributes,
        conditions: Vec<Condition>,
    ) -> Result<bool, StoreError> {
        let mut parameters = ExpressionParameters::default();
        let condition = parameters.render_conditions(conditions);
        let (names, values) = parameters.into_maps();
        let answer = self
            .client
            .put_item()
            .table_name(&*self.table)
            .set_item(Some(item))
            .set_condition_expression(condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        let done = allow_failed_condition("PutItem", answer)?;
        self.capacity_meter
            .add_write_units(done.iter().filter_map(|answer| answer.consumed_capacity()));
        Ok(done.is_some())
    }

    /// False where the conditions do not hold.
    pub(crate) async fn update_item(&self, update: ItemUpdate) -> Result<bool, StoreError> {
        Ok(self
            .execute_update(update, ReturnValue::None)
            .await?
            .is_some())
    }

    /// The same, and what was set or added to as it is now.
    pub(crate) async fn update_and_return(
        &self,
        update: ItemUpdate,
    ) -> Result<Option<Attributes>, StoreError> {
        self.execute_update(update, ReturnValue::UpdatedNew).await
    }

    async fn execute_update(
        &self,
        update: ItemUpdate,
        return_values: ReturnValue,
    ) -> Result<Option<Attributes>, StoreError> {
        let rendered = update.render_expressions();
        let (names, values) = rendered.parameters.into_maps();
        let answer = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(rendered.key))
            .update_expression(rendered.update_expression)
            .set_condition_expression(rendered.condition_expression)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .return_values(return_values)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        let done = allow_failed_condition("UpdateItem", answer)?;
        self.capacity_meter
            .add_write_units(done.iter().filter_map(|answer| answer.consumed_capacity()));
        Ok(done.map(|answer| answer.attributes.unwrap_or_default()))
    }

    pub(crate) async fn delete_item(&self, key: Key) -> Result<(), StoreError> {
        let answer = self
            .client
            .delete_item()
            .table_name(&*self.table)
            .set_key(Some(key.into_attributes()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::from_service("DeleteItem", error))?;
        self.capacity_meter
            .add_write_units(answer.consumed_capacity());
        Ok(())
    }

    /// The items of a range in the order of their keys. Follows pages; each holds at least one item,
    /// so that [`Take`] bounds them too.
    pub(crate) fn query_range(
        &self,
        range: KeyRange,
        read_limit: ReadLimit,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Vec<Attributes>, StoreError>> + Send {
        self.query_ordered(range, read_limit, consistency, SortOrder::Ascending)
    }

    /// The same in either order of the keys.
    pub(crate) async fn query_ordered(
        &self,
        range: KeyRange,
        read_limit: ReadLimit,
        consistency: Consistency,
        sort_order: SortOrder,
    ) -> Result<Vec<Attributes>, StoreError> {
        let wanted = match read_limit {
            ReadLimit::First(count) => count,
            ReadLimit::All { bound, .. } => bound.saturating_add(1),
        };
        let mut items = Vec::new();
        let mut start = None;
        while items.len() < wanted {
            let limit = i32::try_from(wanted - items.len()).unwrap_or(i32::MAX);
            let answer = self
                .client
                .query()
                .table_name(&*self.table)
                .key_condition_expression("#k = :k AND #s BETWEEN :f AND :t")
                .expression_attribute_names("#k", PK)
                .expression_attribute_names("#s", SK)
                .expression_attribute_values(":k", string_value(range.pk.as_str()))
                .expression_attribute_values(":f", string_value(range.from.as_str()))
                .expression_attribute_values(":t", string_value(range.to.as_str()))
                .set_exclusive_start_key(start)
                .limit(limit)
                .scan_index_forward(sort_order == SortOrder::Ascending)
                .consistent_read(consistency.is_strong())
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| StoreError::from_service("Query", error))?;
            self.capacity_meter
                .add_read_units(answer.consumed_capacity());
            items.extend(answer.items.unwrap_or_default());
            start = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                break;
            }
        }
        if let ReadLimit::All { bound, what } = read_limit
            && items.len() > bound
        {
            return Err(StoreError::BoundExceeded { what, bound });
        }
        Ok(items)
    }

    /// At most `limit` ids that link items of a partition point to, after `after`: what their sort
    /// keys hold after `prefix`.
    pub(crate) async fn linked_ids<T: FromStr + Display>(
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
            .map(|link| {
                let reader = ItemReader::new("link", link);
                let id = reader.sort_key_after(prefix)?.parse();
                id.map_err(|_| reader.corrupt_error(SK))
            })
            .collect()
    }

    /// The items that exist of these keys, in any order. No key may be there twice.
    pub(crate) async fn batch_get_items(
        &self,
        keys: Vec<Key>,
        consistency: Consistency,
    ) -> Result<Vec<Attributes>, StoreError> {
        let mut items = Vec::with_capacity(keys.len());
        let mut keys = keys.into_iter().map(Key::into_attributes).peekable();
        while keys.peek().is_some() {
            let batch = keys.by_ref().take(MAX_BATCH_KEYS).collect();
            self.read_batch(batch, consistency, &mut items).await?;
        }
        Ok(items)
    }

    async fn read_batch(
        &self,
        mut keys: Vec<Attributes>,
        consistency: Consistency,
        items: &mut Vec<Attributes>,
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "BatchGetItem";
        for round in 0..MAX_BATCH_ROUNDS {
            let asked = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .consistent_read(consistency.is_strong())
                .build()
                .map_err(|error| {
                    StoreError::from_service::<std::convert::Infallible>(
                        OPERATION,
                        SdkError::construction_failure(error),
                    )
                })?;
            let answer = self
                .client
                .batch_get_item()
                .request_items(&*self.table, asked)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| StoreError::from_service(OPERATION, error))?;
            self.capacity_meter
                .add_read_units(answer.consumed_capacity());
            items.extend(answer.responses.unwrap_or_default().into_values().flatten());
            keys = answer
                .unprocessed_keys
                .unwrap_or_default()
                .into_values()
                .flat_map(|left| left.keys)
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

    /// Writes all of these or none. Collisions with other writers are repeated; a condition that does
    /// not hold is the answer.
    pub(crate) async fn transact_write(
        &self,
        actions: Vec<TransactWriteItem>,
    ) -> Result<TransactWriteOutcome, StoreError> {
        for attempt in 0..MAX_TRANSACTION_ATTEMPTS {
            let answer = self
                .client
                .transact_write_items()
                .set_transact_items(Some(actions.clone()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await;
            let error = match answer {
                Ok(answer) => {
                    self.capacity_meter
                        .add_write_units(answer.consumed_capacity());
                    return Ok(TransactWriteOutcome::Committed);
                }
                Err(error) => error,
            };
            match CancellationCause::from_error(&error) {
                Some(CancellationCause::ConditionFailed(action)) => {
                    return Ok(TransactWriteOutcome::ConditionFailed(action));
                }
                Some(CancellationCause::WriteConflict) => back_off(attempt).await,
                None => return Err(StoreError::from_service("TransactWriteItems", error)),
            }
        }
        Err(StoreError::Contended {
            operation: "TransactWriteItems",
        })
    }

    // An action's builder fails only where table, key or item is missing, and here none is.

    pub(crate) fn put_action(
        &self,
        item: Attributes,
        conditions: Vec<Condition>,
    ) -> TransactWriteItem {
        let mut parameters = ExpressionParameters::default();
        let condition = parameters.render_conditions(conditions);
        let (names, values) = parameters.into_maps();
        let put = Put::builder()
            .table_name(&*self.table)
            .set_item(Some(item))
            .set_condition_expression(condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .build()
            .ok();
        TransactWriteItem::builder().set_put(put).build()
    }

    pub(crate) fn update_action(&self, update: ItemUpdate) -> TransactWriteItem {
        let rendered = update.render_expressions();
        let (names, values) = rendered.parameters.into_maps();
        let update = UpdateAction::builder()
            .table_name(&*self.table)
            .set_key(Some(rendered.key))
            .update_expression(rendered.update_expression)
            .set_condition_expression(rendered.condition_expression)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .build()
            .ok();
        TransactWriteItem::builder().set_update(update).build()
    }

    pub(crate) fn delete_action(&self, key: Key, conditions: Vec<Condition>) -> TransactWriteItem {
        let mut parameters = ExpressionParameters::default();
        let condition = parameters.render_conditions(conditions);
        let (names, values) = parameters.into_maps();
        let delete = Delete::builder()
            .table_name(&*self.table)
            .set_key(Some(key.into_attributes()))
            .set_condition_expression(condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .build()
            .ok();
        TransactWriteItem::builder().set_delete(delete).build()
    }
}

/// The answer of a conditional write; `None` where its conditions do not hold.
fn allow_failed_condition<T, E>(
    operation: &'static str,
    result: Result<T, SdkError<E>>,
) -> Result<Option<T>, StoreError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(None),
        Err(error) => Err(StoreError::from_service(operation, error)),
    }
}

/// Why a transaction was cancelled.
enum CancellationCause {
    ConditionFailed(usize),
    WriteConflict,
}

impl CancellationCause {
    /// A condition that fails decides; else a collision, which the next attempt may not meet.
    fn from_error(error: &SdkError<TransactWriteItemsError>) -> Option<Self> {
        match error.as_service_error()? {
            TransactWriteItemsError::TransactionCanceledException(cancelled) => {
                let reasons = cancelled.cancellation_reasons();
                let refused = reasons
                    .iter()
                    .position(|reason| reason.code() == Some("ConditionalCheckFailed"));
                let collided = reasons
                    .iter()
                    .filter_map(|reason| reason.code())
                    .any(|code| {
                        matches!(
                            code,
                            "TransactionConflict"
                                | "ThrottlingError"
                                | "ProvisionedThroughputExceeded"
                        )
                    });
                refused
                    .map(Self::ConditionFailed)
                    .or_else(|| collided.then_some(Self::WriteConflict))
            }
            TransactWriteItemsError::TransactionInProgressException(_) => Some(Self::WriteConflict),
            _ => None,
        }
    }
}
