//! Small state of the system itself: how far a replay has come, and the like.

use crate::{
    Consistency, Store, StoreError,
    item::{JSON, Key, Reader, document},
};

const KIND: &str = "state";

fn key(name: &str) -> Key {
    Key::new(format!("SYS#{name}"), "SYS")
}

impl Store {
    /// Stores a state in place of the old one of this name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_state(&self, name: &str, state: &serde_json::Value) -> Result<(), StoreError> {
        self.put(document(KIND, key(name), state)?).await
    }

    /// The state of a name; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn state(&self, name: &str) -> Result<Option<serde_json::Value>, StoreError> {
        let item = self.get(key(name), Consistency::Strong).await?;
        item.as_ref()
            .map(|item| Reader::new(KIND, item).json(JSON))
            .transpose()
    }
}
