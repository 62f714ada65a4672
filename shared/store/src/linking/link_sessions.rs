//! Link sessions: a customer who is linking a bank in the widget. They last an hour; their state is sealed by the vault,
//! because it holds a bank's token for a moment.

use jiff::Timestamp;

use crate::{
    Consistency, KeyHash, Store, StoreError,
    key::Key,
    table::{
        attributes::{bytes_value, number_value},
        expression::Condition,
        item::{ItemBuilder, ItemReader},
    },
};

/// Seconds that a session is stored after it was last written.
pub const LINK_SESSION_RETENTION_S: i64 = 3600;

const KIND: &str = "link session";
const VERSION_ATTRIBUTE: &str = "n";
const SEALED_ATTRIBUTE: &str = "s";

/// A session as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkSession {
    /// Counts its writes, from 1.
    pub version: u64,
    /// Its state, as the vault sealed it.
    pub sealed_state: Vec<u8>,
}

impl Store {
    /// Stores a session under the hash of its token, where the stored one is of the version before;
    /// version 1 where there is none. False, and nothing stored, where another call wrote it meanwhile.
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
        let item = ItemBuilder::new(Key::LinkSession(token_hash))
            .with_attribute(VERSION_ATTRIBUTE, number_value(session.version))
            .with_attribute(
                SEALED_ATTRIBUTE,
                bytes_value(session.sealed_state.as_slice()),
            )
            .with_expiry(now, LINK_SESSION_RETENTION_S)
            .build();
        let previous = session
            .version
            .checked_sub(1)
            .filter(|version| *version > 0);
        let condition = Condition::Equals(VERSION_ATTRIBUTE, previous.map(number_value));
        self.put_item_if(item, vec![condition]).await
    }

    /// The session of a token's hash; read strongly. One that has ended may still be there: its sealed state says
    /// when it ends.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_link_session(
        &self,
        token_hash: KeyHash,
    ) -> Result<Option<LinkSession>, StoreError> {
        let Some(item) = self
            .get_item(Key::LinkSession(token_hash), Consistency::Strong)
            .await?
        else {
            return Ok(None);
        };
        let reader = ItemReader::new(KIND, &item);
        Ok(Some(LinkSession {
            version: reader.read_number(VERSION_ATTRIBUTE)?,
            sealed_state: reader.read_bytes(SEALED_ATTRIBUTE)?.to_vec(),
        }))
    }
}
