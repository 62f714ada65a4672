//! Histories: how far the pull of a record's history has come.

use okra_core::{backfill::progress::Backfill, model::ids::RecordId};

use crate::{
    Consistency, Store, StoreError,
    records::heads,
    table::{
        expression::Condition,
        item::{
            Attributes, ItemBuilder, ItemReader, JSON_ATTRIBUTE, Key, json_value, number_value,
        },
    },
};

const KIND: &str = "history";

/// The attribute that says which step it is at.
const STEP_ATTRIBUTE: &str = "n";

fn backfill_key(record: RecordId) -> Key {
    Key::new(heads::record_partition(record), "HIST")
}

/// The item, and the condition under which it takes the place of the one before.
pub(crate) fn write_backfill(
    record: RecordId,
    backfill: &Backfill,
) -> Result<(Attributes, Vec<Condition>), StoreError> {
    let item = ItemBuilder::new(backfill_key(record))
        .with_attribute(STEP_ATTRIBUTE, number_value(backfill.step))
        .with_attribute(JSON_ATTRIBUTE, json_value(KIND, backfill)?)
        .build();
    let before = match backfill.step.checked_sub(1) {
        None => Condition::Absent,
        Some(before) => Condition::Equals(STEP_ATTRIBUTE, Some(number_value(before))),
    };
    Ok((item, vec![before]))
}

impl Store {
    /// The history of a record.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_backfill(
        &self,
        record: RecordId,
        consistency: Consistency,
    ) -> Result<Option<Backfill>, StoreError> {
        let item = self.get_item(backfill_key(record), consistency).await?;
        item.as_ref()
            .map(|item| ItemReader::new(KIND, item).read_json(JSON_ATTRIBUTE))
            .transpose()
    }

    /// Stores a history in place of the one that was a step behind it; step 0 where there is none.
    /// False where somebody else did.
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
