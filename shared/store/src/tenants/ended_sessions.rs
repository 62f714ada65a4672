//! Sessions of the dashboard that ended before their time. A session lies in the browser's cookie; what was signed out
//! must not be of use to whoever copied the cookie.

use jiff::Timestamp;

use crate::{Consistency, KeyHash, Store, StoreError, key::Key, table::item::ItemBuilder};

impl Store {
    /// Stores that a session has ended, until it would have ended by itself.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn end_session(
        &self,
        session: KeyHash,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let item = ItemBuilder::new(Key::EndedSession(session)).with_expiry(expires_at, 0);
        self.put_item(item.build()).await
    }

    /// True where a session was ended; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn is_session_ended(&self, session: KeyHash) -> Result<bool, StoreError> {
        let key = Key::EndedSession(session);
        Ok(self.get_item(key, Consistency::Strong).await?.is_some())
    }
}
