//! Places in the pace of an endpoint or of a bank, of all processes together: one small item each, which
//! is written for a block of places and never for a delivery or a scheduled refresh.

use jiff::Timestamp;
use okra_core::{
    delivery::permit_pool::{PermitBlock, PermitRequest},
    model::ids::EndpointId,
    resilience::rate_limiter::{RateLimiter, SendRate},
};

use crate::{
    Consistency, Store, StoreError,
    table::{
        call::back_off,
        expression::{Condition, ItemUpdate},
        item::{ItemReader, Key, TTL_ATTRIBUTE, expiry_value, number_value},
    },
};

pub(crate) const KIND: &str = "pace";
pub(crate) const IDLE_AT_ATTRIBUTE: &str = "i";

/// Times a place is taken against others that take one at the same moment; after that it counts as full.
const MAX_UPDATE_ATTEMPTS: u32 = 8;

/// Seconds that an item is kept after it was written: it says nothing once it is idle.
pub(crate) const LIMITER_RETENTION_S: i64 = 24 * 3600;

fn endpoint_limiter_key(endpoint: EndpointId) -> Key {
    Key::new(format!("PAC#{endpoint}"), "PAC")
}

impl Store {
    /// Takes a block of an endpoint's places: one write unit, none where there is none. `None` where
    /// others took some at the same moment each time. What is asked for is asked when the pace is read,
    /// so that those who came to wait meanwhile are in it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn acquire_permit_block(
        &self,
        endpoint: EndpointId,
        rate: SendRate,
        now: Timestamp,
        permit_request: impl Fn() -> PermitRequest,
    ) -> Result<Option<PermitBlock>, StoreError> {
        self.update_rate_limiter(endpoint_limiter_key(endpoint), now, |pace| {
            let block = PermitBlock::take_from(*pace, now.as_microsecond(), rate, permit_request());
            *pace = block.shared_limiter;
            (!block.permits.is_empty(), block)
        })
        .await
    }

    /// Changes a pace, where `change` says that it did; what it found, or `None` where others changed it
    /// at the same moment each time.
    async fn update_rate_limiter<T>(
        &self,
        key: Key,
        now: Timestamp,
        change: impl Fn(&mut RateLimiter) -> (bool, T),
    ) -> Result<Option<T>, StoreError> {
        for round in 0..MAX_UPDATE_ATTEMPTS {
            let before = self.find_rate_limiter(&key).await?;
            let mut pace = before.unwrap_or_default();
            let (changed, found) = change(&mut pace);
            if !changed {
                return Ok(Some(found));
            }
            let update = ItemUpdate::new(key.clone())
                .set_attribute(IDLE_AT_ATTRIBUTE, number_value(pace.idle_at_us()))
                .set_attribute(TTL_ATTRIBUTE, expiry_value(now, LIMITER_RETENTION_S))
                .with_condition(Condition::Equals(
                    IDLE_AT_ATTRIBUTE,
                    before.map(|it| number_value(it.idle_at_us())),
                ));
            if self.update_item(update).await? {
                return Ok(Some(found));
            }
            back_off(round).await;
        }
        Ok(None)
    }

    pub(crate) async fn find_rate_limiter(
        &self,
        key: &Key,
    ) -> Result<Option<RateLimiter>, StoreError> {
        let item = self.get_item(key.clone(), Consistency::Strong).await?;
        let idle_us = item.map(|item| ItemReader::new(KIND, &item).read_number(IDLE_AT_ATTRIBUTE));
        Ok(idle_us.transpose()?.map(RateLimiter::from_idle_at_us))
    }
}
