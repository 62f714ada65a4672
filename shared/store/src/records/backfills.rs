//! Backfills: how far the backfill of a record has come. Each step takes the place of the one before it.

use okra_core::{backfill::progress::Backfill, model::ids::RecordId};

use crate::{
    Consistency, Store, StoreError,
    key::Key,
    table::{
        attributes::{Attributes, number_value},
        expression::Condition,
        item::{ItemBuilder, read_json_item},
    },
};

const KIND: &str = "backfill";

/// The attribute of the step that it is at, counted from 0.
const STEP_ATTRIBUTE: &str = "n";

/// The item, and the condition under which it takes the place of the one before.
pub(crate) fn write_backfill(
    record: RecordId,
    backfill: &Backfill,
) -> Result<(Attributes, Vec<Condition>), StoreError> {
    let item = ItemBuilder::new(Key::Backfill(record))
        .with_attribute(STEP_ATTRIBUTE, number_value(backfill.step))
        .with_json(KIND, backfill)?
        .build();
    let previous_step = backfill.step.checked_sub(1).map(number_value);
    let condition = Condition::Equals(STEP_ATTRIBUTE, previous_step);
    Ok((item, vec![condition]))
}

impl Store {
    /// The backfill of a record.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_backfill(
        &self,
        record: RecordId,
        consistency: Consistency,
    ) -> Result<Option<Backfill>, StoreError> {
        let item = self.get_item(Key::Backfill(record), consistency).await?;
        item.as_ref()
            .map(|item| read_json_item(KIND, item))
            .transpose()
    }

    /// Stores a backfill in place of the one that was a step behind it; step 0 where there is none.
    /// False, and nothing stored, where another step came first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_backfill(
        &self,
        record: RecordId,
        backfill: &Backfill,
    ) -> Result<bool, StoreError> {
        let (item, conditions) = write_backfill(record, backfill)?;
        self.put_item_if(item, conditions).await
    }
}
