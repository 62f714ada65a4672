//! Link sessions: a customer on the way through the widget. They live an hour; what they hold is
//! sealed, because a bank's token is in it for a moment.

use jiff::Timestamp;

use crate::{
    Consistency, KeyHash, Store, StoreError,
    table::{
        expression::Condition,
        item::{ItemBuilder, ItemReader, Key, bytes_value, number_value},
    },
};

/// Seconds that a session is kept after it was last written.
pub const LINK_SESSION_RETENTION_S: i64 = 3600;

const KIND: &str = "link session";
const VERSION_ATTRIBUTE: &str = "n";

/// A session as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkSession {
    /// Counts its writes, from 1.
    pub version: u64,
    /// What it holds, as the vault sealed it.
    pub sealed_state: Vec<u8>,
}

fn link_session_key(token_hash: KeyHash) -> Key {
    Key::new(format!("LNK#{}", token_hash.to_hex()), "LNK")
}

impl Store {
    /// Stores a session under the hash of its token, where the stored one is of the version before;
    /// version 1 where there is none. False where another call wrote it meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_link_session(
        &self,
        token_hash: KeyHash,
        session: &LinkSession,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let item = ItemBuilder::new(link_session_key(token_hash))
            .with_attribute(VERSION_ATTRIBUTE, number_value(session.version))
            .with_attribute("s", bytes_value(session.sealed_state.as_slice()))
            .with_expiry(now, LINK_SESSION_RETENTION_S)
            .build();
        let unmoved = match session.version {
            0 | 1 => Condition::Absent,
            version => Condition::Equals(VERSION_ATTRIBUTE, Some(number_value(version - 1))),
        };
        self.put_item_if(item, vec![unmoved]).await
    }

    /// The session of a token's hash; read strongly. One that is over may still be there: what is
    /// sealed says when it ends.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_link_session(
        &self,
        token_hash: KeyHash,
    ) -> Result<Option<LinkSession>, StoreError> {
        let Some(item) = self
            .get_item(link_session_key(token_hash), Consistency::Strong)
            .await?
        else {
            return Ok(None);
        };
        let reader = ItemReader::new(KIND, &item);
        Ok(Some(LinkSession {
            version: reader.read_number(VERSION_ATTRIBUTE)?,
            sealed_state: reader.read_bytes("s")?.to_vec(),
        }))
    }
}
