//! Histories: how far the pull of a record's history has come.

use okra_core::{history::History, ids::RecordId};

use crate::{
    Consistency, Store, StoreError,
    expression::When,
    item::{Attributes, Draft, JSON, Key, Reader, json, n},
    records,
};

const KIND: &str = "history";

/// The attribute that says which step it is at.
const STEP: &str = "n";

fn key(record: RecordId) -> Key {
    Key::new(records::partition(record), "HIST")
}

/// The item, and the condition under which it takes the place of the one before.
pub(crate) fn write(
    record: RecordId,
    history: &History,
) -> Result<(Attributes, Vec<When>), StoreError> {
    let item = Draft::new(key(record))
        .with(STEP, n(history.step))
        .with(JSON, json(KIND, history)?)
        .done();
    let before = match history.step.checked_sub(1) {
        None => When::Absent,
        Some(before) => When::Is(STEP, Some(n(before))),
    };
    Ok((item, vec![before]))
}

impl Store {
    /// The history of a record.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn history(
        &self,
        record: RecordId,
        consistency: Consistency,
    ) -> Result<Option<History>, StoreError> {
        let item = self.get(key(record), consistency).await?;
        item.as_ref()
            .map(|item| Reader::new(KIND, item).json(JSON))
            .transpose()
    }

    /// Stores a history in place of the one that was a step behind it; step 0 where there is none.
    /// False where somebody else did.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_history(
        &self,
        record: RecordId,
        history: &History,
    ) -> Result<bool, StoreError> {
        let (item, conditions) = write(record, history)?;
        self.put_when(item, conditions).await
    }
}
