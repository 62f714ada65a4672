//! Idempotency: the response of a call that its app gave an idempotency key is cached, so that a repeated call gets the
//! same response and is not run again. A call is claimed before it runs, so that two at the same time run once.

use jiff::{SignedDuration, Timestamp};
use okra_core::model::ids::AppId;

use crate::{
    Consistency, KeyHash, Store, StoreError,
    key::Key,
    table::{
        attributes::{bytes_value, millis_value},
        expression::Condition,
        item::{ItemBuilder, ItemReader},
    },
};

/// How long a response is cached.
pub const RESPONSE_RETENTION: SignedDuration = SignedDuration::from_hours(24);

/// How long a claimed call counts as running: longer than any call may take.
const CLAIM_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);

/// Bytes of a cached response at most; DynamoDB takes items of 400 KB.
pub const MAX_CACHED_RESPONSE_BYTES: usize = 300 * 1024;

const KIND: &str = "cached response";
const REQUEST_HASH_ATTRIBUTE: &str = "f";
/// Until when the claim or the cached response lasts.
const UNTIL_ATTRIBUTE: &str = "u";
const RESPONSE_ATTRIBUTE: &str = "r";

/// A call to which its app gave an idempotency key.
#[derive(Clone, Copy, Debug)]
pub struct IdempotentCall {
    /// The app.
    pub app: AppId,
    /// The hash of the idempotency key.
    pub idempotency_key: KeyHash,
    /// The hash of the request.
    pub request_hash: KeyHash,
}

/// What is known of a call with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdempotencyClaim {
    /// It was not made before: the caller runs it, and others wait.
    Claimed,
    /// It is running.
    InProgress,
    /// It was made; the response as it was cached.
    Completed(Vec<u8>),
    /// Another request was made with the same key.
    Conflict,
}

impl IdempotentCall {
    const fn item_key(&self) -> Key<'static> {
        Key::IdempotentCall {
            app: self.app,
            key_hash: self.idempotency_key,
        }
    }

    /// The item of the call, which is void `duration` after `now`.
    fn item_builder(
        &self,
        now: Timestamp,
        duration: SignedDuration,
    ) -> Result<ItemBuilder, StoreError> {
        let until = now
            .checked_add(duration)
            .map_err(|_| StoreError::OutOfRange {
                what: "the time of a call",
            })?;
        let request_hash = self.request_hash.as_bytes().as_slice();
        Ok(ItemBuilder::new(self.item_key())
            .with_attribute(REQUEST_HASH_ATTRIBUTE, bytes_value(request_hash))
            .with_attribute(UNTIL_ATTRIBUTE, millis_value(until))
            .with_expiry(now, RESPONSE_RETENTION.as_secs()))
    }
}

impl Store {
    /// Claims a call for its caller, where it is neither running nor made already.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn claim_idempotent_call(
        &self,
        call: IdempotentCall,
        now: Timestamp,
    ) -> Result<IdempotencyClaim, StoreError> {
        let claim = call.item_builder(now, CLAIM_TIMEOUT)?.build();
        let is_free = Condition::AbsentOrBelow(UNTIL_ATTRIBUTE, millis_value(now));
        if self.put_item_if(claim, vec![is_free]).await? {
            return Ok(IdempotencyClaim::Claimed);
        }
        let Some(item) = self.get_item(call.item_key(), Consistency::Strong).await? else {
            // The claim was released between the two calls.
            return Ok(IdempotencyClaim::InProgress);
        };
        let reader = ItemReader::new(KIND, &item);
        if reader.read_bytes(REQUEST_HASH_ATTRIBUTE)? != call.request_hash.as_bytes().as_slice() {
            return Ok(IdempotencyClaim::Conflict);
        }
        let response = reader.read_optional(RESPONSE_ATTRIBUTE, ItemReader::read_bytes)?;
        Ok(response.map_or(IdempotencyClaim::InProgress, |response| {
            IdempotencyClaim::Completed(response.to_vec())
        }))
    }

    /// Caches the response of a claimed call.
    ///
    /// # Errors
    ///
    /// [`StoreError::BoundExceeded`] for more than [`MAX_CACHED_RESPONSE_BYTES`].
    pub async fn cache_response(
        &self,
        call: IdempotentCall,
        response: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if response.len() > MAX_CACHED_RESPONSE_BYTES {
            return Err(StoreError::BoundExceeded {
                what: "bytes of a response",
                bound: MAX_CACHED_RESPONSE_BYTES,
            });
        }
        let item = call
            .item_builder(now, RESPONSE_RETENTION)?
            .with_attribute(RESPONSE_ATTRIBUTE, bytes_value(response));
        self.put_item(item.build()).await
    }

    /// Releases the claim of a call that changed nothing and may be run again.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn release_claim(&self, call: IdempotentCall) -> Result<(), StoreError> {
        self.delete_item(call.item_key()).await
    }
}
