//! The rate limiter of an endpoint, which all processes share: one small item, written for a block of permits and never
//! for a single delivery. [`super::bank_ad_hoc_budgets`] stores a bank's in the same form.

use jiff::Timestamp;
use okra_core::{
    delivery::permit_pool::{PermitBlock, PermitRequest},
    model::ids::EndpointId,
    resilience::rate_limiter::{RateLimiter, SendRate},
};

use crate::{
    Consistency, Store, StoreError,
    key::Key,
    table::{
        attributes::{Attributes, TTL_ATTRIBUTE, expiry_value, number_value},
        backoff::back_off,
        expression::{Condition, ItemUpdate},
        item::ItemReader,
    },
};

/// When the limiter is idle again, in microseconds since 1970.
pub(crate) const IDLE_AT_ATTRIBUTE: &str = "i";

/// Seconds that an item is stored after it was written: it says nothing once the limiter is idle.
pub(crate) const LIMITER_RETENTION_S: i64 = 24 * 3600;

const KIND: &str = "rate limiter";

/// Times permits are taken against others that take some at the same moment.
const MAX_UPDATE_ATTEMPTS: u32 = 8;

/// The limiter of an item.
pub(crate) fn read_rate_limiter(item: &Attributes) -> Result<RateLimiter, StoreError> {
    let idle_at_us = ItemReader::new(KIND, item).read_number(IDLE_AT_ATTRIBUTE)?;
    Ok(RateLimiter::from_idle_at_us(idle_at_us))
}

impl Store {
    /// Takes a block of an endpoint's permits: one write unit, none where no permit is free. `None` where
    /// others took some at the same moment each time. The request is made when the limiter is read,
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
        let key = Key::EndpointRateLimiter(endpoint);
        for attempt in 0..MAX_UPDATE_ATTEMPTS {
            let stored = self.find_rate_limiter(key).await?;
            let block = PermitBlock::take_from(
                stored.unwrap_or_default(),
                now.as_microsecond(),
                rate,
                permit_request(),
            );
            if block.permits.is_empty() {
                return Ok(Some(block));
            }
            let update = ItemUpdate::new(key)
                .set_attribute(
                    IDLE_AT_ATTRIBUTE,
                    number_value(block.shared_limiter.idle_at_us()),
                )
                .set_attribute(TTL_ATTRIBUTE, expiry_value(now, LIMITER_RETENTION_S))
                .with_condition(Condition::Equals(
                    IDLE_AT_ATTRIBUTE,
                    stored.map(|limiter| number_value(limiter.idle_at_us())),
                ));
            if self.update_item(update).await? {
                return Ok(Some(block));
            }
            back_off(attempt).await;
        }
        Ok(None)
    }

    pub(crate) async fn find_rate_limiter(
        &self,
        key: Key<'_>,
    ) -> Result<Option<RateLimiter>, StoreError> {
        let item = self.get_item(key, Consistency::Strong).await?;
        item.as_ref().map(read_rate_limiter).transpose()
    }
}
