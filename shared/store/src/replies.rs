//! Answers that are kept so that a repeated call is answered alike, and not run again.

use jiff::{SignedDuration, Timestamp};
use okra_core::ids::AppId;

use crate::{
    Consistency, KeyHash, Store, StoreError,
    expression::When,
    item::{Draft, Key, Reader, TTL, bytes, millis, ttl},
};

/// How long an answer is kept.
pub const REPLY_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// How long a call that was begun is taken to be running: longer than any call may take.
const RUNNING: SignedDuration = SignedDuration::from_secs(60);

/// Bytes of a kept answer at most; DynamoDB takes items of 400 KB.
pub const MAX_REPLY_BYTES: usize = 300 * 1024;

const KIND: &str = "reply";

/// A call that its app has named.
#[derive(Clone, Copy, Debug)]
pub struct NamedCall {
    /// The app.
    pub app: AppId,
    /// The hash of the name it gave.
    pub name: KeyHash,
    /// The hash of what it asked for.
    pub asked: KeyHash,
}

/// What is known of a named call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: it is the caller's to run, and others wait.
    Ours,
    /// It is running.
    Running,
    /// It was answered; the answer as it was kept.
    Answered(Vec<u8>),
    /// Something else was asked for under that name.
    Mismatch,
}

impl NamedCall {
    fn key(&self) -> Key {
        Key::new(format!("IDM#{}#{}", self.app, self.name.to_hex()), "IDM")
    }

    fn draft(&self, now: Timestamp, until: Timestamp) -> Draft {
        Draft::new(self.key())
            .with("f", bytes(self.asked.as_bytes().as_slice()))
            .with("u", millis(until))
            .with(TTL, ttl(now, REPLY_KEPT.as_secs()))
    }
}

fn after(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

impl Store {
    /// Claims a named call for its caller, where it is neither running nor answered.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn claim_call(&self, call: NamedCall, now: Timestamp) -> Result<Claim, StoreError> {
        let claim = call.draft(now, after(now, RUNNING)).done();
        let free = When::AbsentOrBelow("u", millis(now));
        if self.put_when(claim, vec![free]).await? {
            return Ok(Claim::Ours);
        }
        let Some(item) = self.get(call.key(), Consistency::Strong).await? else {
            // It was given back between the two.
            return Ok(Claim::Running);
        };
        let reader = Reader::new(KIND, &item);
        if reader.bytes("f")? != call.asked.as_bytes().as_slice() {
            return Ok(Claim::Mismatch);
        }
        let reply = reader.optional("r", Reader::bytes)?;
        Ok(reply.map_or(Claim::Running, |reply| Claim::Answered(reply.to_vec())))
    }

    /// Keeps the answer of a claimed call.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_REPLY_BYTES`].
    pub async fn keep_reply(
        &self,
        call: NamedCall,
        reply: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if reply.len() > MAX_REPLY_BYTES {
            return Err(StoreError::Bound {
                what: "bytes of an answer",
                bound: MAX_REPLY_BYTES,
            });
        }
        let kept = call
            .draft(now, after(now, REPLY_KEPT))
            .with("r", bytes(reply));
        self.put(kept.done()).await
    }

    /// Gives a claimed call back: it changed nothing and may be run again.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn give_back(&self, call: NamedCall) -> Result<(), StoreError> {
        self.delete(call.key()).await
    }
}
