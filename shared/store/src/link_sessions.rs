//! Link sessions: a customer on the way through the widget. They live an hour; what they hold is
//! sealed, because a bank's token is in it for a moment.

use jiff::Timestamp;

use crate::{
    Consistency, KeyHash, Store, StoreError,
    expression::When,
    item::{Draft, Key, Reader, bytes, n},
};

/// Seconds that a session is kept after it was last written.
pub const LINK_SESSION_KEPT_S: i64 = 3600;

const KIND: &str = "link session";
const VERSION: &str = "n";

/// A session as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkSession {
    /// Counts its writes, from 1.
    pub version: u64,
    /// What it holds, as the vault sealed it.
    pub sealed: Vec<u8>,
}

fn key(of: KeyHash) -> Key {
    Key::new(format!("LNK#{}", of.to_hex()), "LNK")
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
        of: KeyHash,
        session: &LinkSession,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let item = Draft::new(key(of))
            .with(VERSION, n(session.version))
            .with("s", bytes(session.sealed.as_slice()))
            .expiring(now, LINK_SESSION_KEPT_S)
            .done();
        let unmoved = match session.version {
            0 | 1 => When::Absent,
            version => When::Is(VERSION, Some(n(version - 1))),
        };
        self.put_when(item, vec![unmoved]).await
    }

    /// The session of a token's hash; read strongly. One that is over may still be there: what is
    /// sealed says when it ends.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn link_session(&self, of: KeyHash) -> Result<Option<LinkSession>, StoreError> {
        let Some(item) = self.get(key(of), Consistency::Strong).await? else {
            return Ok(None);
        };
        let reader = Reader::new(KIND, &item);
        Ok(Some(LinkSession {
            version: reader.number(VERSION)?,
            sealed: reader.bytes("s")?.to_vec(),
        }))
    }
}
