//! Small states of the system itself, by name: how far a sweep has come, an app's own signing secrets.

use crate::{
    Consistency, Store, StoreError,
    key::Key,
    table::item::{json_item, read_json_item},
};

const KIND: &str = "system state";

impl Store {
    /// Stores a state in place of the old one of this name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_system_state(
        &self,
        name: &str,
        state: &serde_json::Value,
    ) -> Result<(), StoreError> {
        let item = json_item(KIND, Key::SystemState { name }, state)?;
        self.put_item(item).await
    }

    /// The state of a name; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_system_state(
        &self,
        name: &str,
    ) -> Result<Option<serde_json::Value>, StoreError> {
        let item = self
            .get_item(Key::SystemState { name }, Consistency::Strong)
            .await?;
        item.as_ref()
            .map(|item| read_json_item(KIND, item))
            .transpose()
    }
}
