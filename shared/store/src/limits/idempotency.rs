//! Answers that are kept so that a repeated call is answered alike, and not run again.

use jiff::{SignedDuration, Timestamp};
use okra_core::model::ids::AppId;

use crate::{
    Consistency, KeyHash, Store, StoreError,
    table::{
        expression::Condition,
        item::{
            ItemBuilder, ItemReader, Key, TTL_ATTRIBUTE, bytes_value, expiry_value, millis_value,
        },
    },
};

/// How long an answer is kept.
pub const RESPONSE_RETENTION: SignedDuration = SignedDuration::from_hours(24);

/// How long a call that was begun is taken to be running: longer than any call may take.
const CLAIM_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);

/// Bytes of a kept answer at most; DynamoDB takes items of 400 KB.
pub const MAX_CACHED_RESPONSE_BYTES: usize = 300 * 1024;

const KIND: &str = "reply";

/// A call that its app has named.
#[derive(Clone, Copy, Debug)]
pub struct IdempotentCall {
    /// The app.
    pub app: AppId,
    /// The hash of the name it gave.
    pub idempotency_key: KeyHash,
    /// The hash of what it asked for.
    pub request_hash: KeyHash,
}

/// What is known of a named call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdempotencyClaim {
    /// Nothing: it is the caller's to run, and others wait.
    Claimed,
    /// It is running.
    InProgress,
    /// It was answered; the answer as it was kept.
    Completed(Vec<u8>),
    /// Something else was asked for under that name.
    Conflict,
}

impl IdempotentCall {
    fn item_key(&self) -> Key {
        Key::new(
            format!("IDM#{}#{}", self.app, self.idempotency_key.to_hex()),
            "IDM",
        )
    }

    fn item_builder(&self, now: Timestamp, until: Timestamp) -> ItemBuilder {
        ItemBuilder::new(self.item_key())
            .with_attribute("f", bytes_value(self.request_hash.as_bytes().as_slice()))
            .with_attribute("u", millis_value(until))
            .with_attribute(
                TTL_ATTRIBUTE,
                expiry_value(now, RESPONSE_RETENTION.as_secs()),
            )
    }
}

fn timestamp_after(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

impl Store {
    /// Claims a named call for its caller, where it is neither running nor answered.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn claim_idempotent_call(
        &self,
        call: IdempotentCall,
        now: Timestamp,
    ) -> Result<IdempotencyClaim, StoreError> {
        let claim = call
            .item_builder(now, timestamp_after(now, CLAIM_TIMEOUT))
            .build();
        let free = Condition::AbsentOrBelow("u", millis_value(now));
        if self.put_item_if(claim, vec![free]).await? {
            return Ok(IdempotencyClaim::Claimed);
        }
        let Some(item) = self.get_item(call.item_key(), Consistency::Strong).await? else {
            // It was given back between the two.
            return Ok(IdempotencyClaim::InProgress);
        };
        let reader = ItemReader::new(KIND, &item);
        if reader.read_bytes("f")? != call.request_hash.as_bytes().as_slice() {
            return Ok(IdempotencyClaim::Conflict);
        }
        let reply = reader.read_optional("r", ItemReader::read_bytes)?;
        Ok(reply.map_or(IdempotencyClaim::InProgress, |reply| {
            IdempotencyClaim::Completed(reply.to_vec())
        }))
    }

    /// Keeps the answer of a claimed call.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_REPLY_BYTES`].
    pub async fn cache_response(
        &self,
        call: IdempotentCall,
        response: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if response.len() > MAX_CACHED_RESPONSE_BYTES {
            return Err(StoreError::BoundExceeded {
                what: "bytes of an answer",
                bound: MAX_CACHED_RESPONSE_BYTES,
            });
        }
        let kept = call
            .item_builder(now, timestamp_after(now, RESPONSE_RETENTION))
            .with_attribute("r", bytes_value(response));
        self.put_item(kept.build()).await
    }

    /// Gives a claimed call back: it changed nothing and may be run again.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn release_claim(&self, call: IdempotentCall) -> Result<(), StoreError> {
        self.delete_item(call.item_key()).await
    }
}
