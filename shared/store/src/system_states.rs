//! Small state of the system itself: how far a replay has come, and the like.

use crate::{
    Consistency, Store, StoreError,
    table::item::{ItemReader, JSON_ATTRIBUTE, Key, json_item},
};

const KIND: &str = "state";

fn state_key(name: &str) -> Key {
    Key::new(format!("SYS#{name}"), "SYS")
}

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
        self.put_item(json_item(KIND, state_key(name), state)?)
            .await
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
        let item = self.get_item(state_key(name), Consistency::Strong).await?;
        item.as_ref()
            .map(|item| ItemReader::new(KIND, item).read_json(JSON_ATTRIBUTE))
            .transpose()
    }
}
