//! The calls that write: put, update, delete, and transactions of them. Each is metered; a condition that does not
//! hold is an outcome and no error.

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        Delete, Put, ReturnConsumedCapacity, ReturnValue, TransactWriteItem, Update as UpdateAction,
    },
};

use super::{
    attributes::{Attributes, PrimaryKey},
    backoff::back_off,
    error::StoreError,
    expression::{Condition, ExpressionParameters, ItemUpdate},
    store::Store,
};
use crate::key::Key;

/// The name of the call in errors.
const TRANSACTION: &str = "TransactWriteItems";

/// Times a transaction is tried against others that write the same items.
const MAX_TRANSACTION_ATTEMPTS: u32 = 6;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactWriteOutcome {
    Committed,
    /// A condition of this action, counted from 0, did not hold, and perhaps of later ones.
    ConditionFailed(usize),
}

impl Store {
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
        let result = self
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
        let written = self.allow_failed_condition("PutItem", result)?;
        self.capacity_meter.add_write_units(
            written
                .iter()
                .filter_map(|response| response.consumed_capacity()),
        );
        Ok(written.is_some())
    }

    /// False where the conditions do not hold.
    pub(crate) async fn update_item(&self, update: ItemUpdate) -> Result<bool, StoreError> {
        Ok(self
            .execute_update(update, ReturnValue::None)
            .await?
            .is_some())
    }

    /// [`update_item`](Self::update_item) that returns what was set or added to as it is now; `None` where the
    /// conditions do not hold.
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
        let result = self
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
        let written = self.allow_failed_condition("UpdateItem", result)?;
        self.capacity_meter.add_write_units(
            written
                .iter()
                .filter_map(|response| response.consumed_capacity()),
        );
        Ok(written.map(|response| response.attributes.unwrap_or_default()))
    }

    pub(crate) async fn delete_item(&self, key: Key<'_>) -> Result<(), StoreError> {
        self.delete_stored_item(key.into()).await
    }

    /// [`delete_item`](Self::delete_item) of a key as it was read.
    pub(crate) async fn delete_stored_item(&self, key: PrimaryKey) -> Result<(), StoreError> {
        let response = self
            .client
            .delete_item()
            .table_name(&*self.table)
            .set_key(Some(key.into_attributes()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| self.service_error("DeleteItem", error))?;
        self.capacity_meter
            .add_write_units(response.consumed_capacity());
        Ok(())
    }

    /// Writes all of these or none. A collision with another writer is tried again; a condition that does
    /// not hold is the outcome.
    pub(crate) async fn transact_write(
        &self,
        actions: Vec<TransactWriteItem>,
    ) -> Result<TransactWriteOutcome, StoreError> {
        for attempt in 0..MAX_TRANSACTION_ATTEMPTS {
            let result = self
                .client
                .transact_write_items()
                .set_transact_items(Some(actions.clone()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await;
            let error = match result {
                Ok(response) => {
                    self.capacity_meter
                        .add_write_units(response.consumed_capacity());
                    return Ok(TransactWriteOutcome::Committed);
                }
                Err(error) => error,
            };
            match CancellationCause::from_error(&error) {
                Some(CancellationCause::ConditionFailed(action)) => {
                    return Ok(TransactWriteOutcome::ConditionFailed(action));
                }
                Some(CancellationCause::WriteConflict) => back_off(attempt).await,
                None => return Err(self.service_error(TRANSACTION, error)),
            }
        }
        Err(StoreError::Contended {
            operation: TRANSACTION,
        })
    }

    pub(crate) fn put_action(
        &self,
        item: Attributes,
        conditions: Vec<Condition>,
    ) -> Result<TransactWriteItem, StoreError> {
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
            .map_err(|error| StoreError::invalid_request(TRANSACTION, error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    pub(crate) fn update_action(
        &self,
        update: ItemUpdate,
    ) -> Result<TransactWriteItem, StoreError> {
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
            .map_err(|error| StoreError::invalid_request(TRANSACTION, error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    pub(crate) fn delete_action(
        &self,
        key: Key<'_>,
        conditions: Vec<Condition>,
    ) -> Result<TransactWriteItem, StoreError> {
        let mut parameters = ExpressionParameters::default();
        let condition = parameters.render_conditions(conditions);
        let (names, values) = parameters.into_maps();
        let delete = Delete::builder()
            .table_name(&*self.table)
            .set_key(Some(PrimaryKey::from(key).into_attributes()))
            .set_condition_expression(condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .build()
            .map_err(|error| StoreError::invalid_request(TRANSACTION, error))?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }

    /// The response of a conditional write; `None` where its conditions do not hold.
    fn allow_failed_condition<T, E>(
        &self,
        operation: &'static str,
        result: Result<T, SdkError<E>>,
    ) -> Result<Option<T>, StoreError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match result {
            Ok(response) => Ok(Some(response)),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(None),
            Err(error) => Err(self.service_error(operation, error)),
        }
    }
}

/// Why a transaction was cancelled.
enum CancellationCause {
    /// The condition of this action did not hold.
    ConditionFailed(usize),
    /// Another writer was at the same items, or the table was throttled: the next attempt may succeed.
    WriteConflict,
}

impl CancellationCause {
    /// A condition that fails decides, whatever collides. `None` where it was neither.
    fn from_error(error: &SdkError<TransactWriteItemsError>) -> Option<Self> {
        match error.as_service_error()? {
            TransactWriteItemsError::TransactionCanceledException(cancelled) => {
                let reasons = cancelled.cancellation_reasons();
                let failed = reasons
                    .iter()
                    .position(|reason| reason.code() == Some("ConditionalCheckFailed"));
                let is_transient = reasons
                    .iter()
                    .filter_map(|reason| reason.code())
                    .any(is_transient_reason);
                failed
                    .map(Self::ConditionFailed)
                    .or_else(|| is_transient.then_some(Self::WriteConflict))
            }
            TransactWriteItemsError::TransactionInProgressException(_) => Some(Self::WriteConflict),
            _ => None,
        }
    }
}

fn is_transient_reason(code: &str) -> bool {
    matches!(
        code,
        "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded"
    )
}
