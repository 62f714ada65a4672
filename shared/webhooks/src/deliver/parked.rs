//! Attempts at parked events, for probes and drains.
//!
//! The rule: an event leaves the list of parked events only after its delivery says that it is not parked any more.

use okra_core::delivery::attempt::AttemptKind;
use okra_store::{DeliveryKey, DeliveryState};

use super::{
    deliverer::Deliverer,
    error::DeliverError,
    event::{AttemptMode, DeliveryRef},
};
use crate::report::DeliveryOutcome;

impl Deliverer {
    /// Sends a parked event, and takes it from the list where it is not parked any more.
    pub(super) async fn drain_parked_event(
        &self,
        key: &DeliveryKey,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let outcome = self.attempt_parked(key, AttemptKind::Drain).await?;
        match outcome {
            DeliveryOutcome::RateLimited
            | DeliveryOutcome::Parked
            | DeliveryOutcome::AwaitingPredecessor => {}
            DeliveryOutcome::Skipped => {
                if self.unpark_if_settled(key).await? {
                    return Ok(DeliveryOutcome::Unwanted);
                }
            }
            DeliveryOutcome::Delivered
            | DeliveryOutcome::RetryScheduled
            | DeliveryOutcome::Exhausted
            | DeliveryOutcome::Unwanted => {
                self.store.unpark_event(key).await?;
            }
        }
        Ok(outcome)
    }

    /// Attempts a parked event.
    pub(super) async fn attempt_parked(
        &self,
        key: &DeliveryKey,
        kind: AttemptKind,
    ) -> Result<DeliveryOutcome, DeliverError> {
        match self
            .attempt_one(DeliveryRef::from_key(key), AttemptMode::for_kind(kind))
            .await
        {
            // Its feed entry was removed: there is nothing to deliver any more.
            Err(DeliverError::MissingEntries { .. }) => Ok(DeliveryOutcome::Unwanted),
            result => result,
        }
    }

    /// Takes an event that was settled otherwise from the list. False for one that stays, because another worker has
    /// claimed it.
    pub(super) async fn unpark_if_settled(&self, key: &DeliveryKey) -> Result<bool, DeliverError> {
        let row = self.store.find_delivery(key).await?;
        let is_settled = row.is_none_or(|row| row.state != DeliveryState::Parked);
        if is_settled {
            self.store.unpark_event(key).await?;
        }
        Ok(is_settled)
    }
}
