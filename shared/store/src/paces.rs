//! Places in the pace of an endpoint or of a bank, of all processes together: one small item each, which
//! is written for a block of places and never for a delivery or a scheduled refresh.

use jiff::Timestamp;
use okra_core::{
    ids::EndpointId,
    pace::{Pace, Rate},
    share::{Ask, Block},
};

use crate::{
    Consistency, Store, StoreError,
    call::pause,
    expression::{Update, When},
    item::{Key, Reader, TTL, n, ttl},
};

pub(crate) const KIND: &str = "pace";
pub(crate) const IDLE_AT: &str = "i";

/// Times a place is taken against others that take one at the same moment; after that it counts as full.
const MAX_ROUNDS: u32 = 8;

/// Seconds that an item is kept after it was written: it says nothing once it is idle.
pub(crate) const KEPT_S: i64 = 24 * 3600;

fn key(endpoint: EndpointId) -> Key {
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
    pub async fn take_block(
        &self,
        endpoint: EndpointId,
        rate: Rate,
        now: Timestamp,
        ask: impl Fn() -> Ask,
    ) -> Result<Option<Block>, StoreError> {
        self.change_pace(key(endpoint), now, |pace| {
            let block = Block::take(*pace, now.as_microsecond(), rate, ask());
            *pace = block.shared;
            (!block.places.is_empty(), block)
        })
        .await
    }

    /// Changes a pace, where `change` says that it did; what it found, or `None` where others changed it
    /// at the same moment each time.
    async fn change_pace<T>(
        &self,
        key: Key,
        now: Timestamp,
        change: impl Fn(&mut Pace) -> (bool, T),
    ) -> Result<Option<T>, StoreError> {
        for round in 0..MAX_ROUNDS {
            let before = self.pace(&key).await?;
            let mut pace = before.unwrap_or_default();
            let (changed, found) = change(&mut pace);
            if !changed {
                return Ok(Some(found));
            }
            let update = Update::new(key.clone())
                .set(IDLE_AT, n(pace.idle_at_us()))
                .set(TTL, ttl(now, KEPT_S))
                .when(When::Is(IDLE_AT, before.map(|it| n(it.idle_at_us()))));
            if self.update(update).await? {
                return Ok(Some(found));
            }
            pause(round).await;
        }
        Ok(None)
    }

    pub(crate) async fn pace(&self, key: &Key) -> Result<Option<Pace>, StoreError> {
        let item = self.get(key.clone(), Consistency::Strong).await?;
        let idle_us = item.map(|item| Reader::new(KIND, &item).number(IDLE_AT));
        Ok(idle_us.transpose()?.map(Pace::idle_from))
    }
}
