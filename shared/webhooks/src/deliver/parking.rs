//! Parking: events for an endpoint that takes none are stored until it is back.
//!
//! The rule: an event is on the list of parked events before its delivery says that it is parked, so that no parked
//! delivery is missing from the list.

use jiff::Timestamp;
use okra_core::delivery::endpoint_health::{EndpointAdmission, MAX_PARKED_EVENTS};
use okra_queue::EndpointMaintenance;
use okra_store::{Delivery, FifoPosition};

use super::{
    deliverer::Deliverer, error::DeliverError, event::DeliveryEvent, targets::DeliveryTarget,
};
use crate::report::DeliveryOutcome;

impl Deliverer {
    /// Parks an event, and has its endpoint maintained where nothing else would.
    pub(super) async fn park_event(
        &self,
        event: &DeliveryEvent,
        target: &DeliveryTarget,
        row: Option<Delivery>,
        position: FifoPosition,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let outcome = self.park_delivery(event, target, row, position).await?;
        if outcome != DeliveryOutcome::Parked {
            return Ok(outcome);
        }
        // The endpoint may have come back while this was parked; then no maintenance is scheduled any more.
        let now = self.now();
        let stored = self.store.load_endpoint_health(target.endpoint).await?;
        if stored.health.admission(now) != EndpointAdmission::Park
            || self.is_probe_lost(&stored.health)
        {
            let (app, endpoint) = (target.app, target.endpoint);
            self.schedule_maintenance(EndpointMaintenance { app, endpoint }, now)
                .await?;
        }
        Ok(outcome)
    }

    /// Parks an event for an endpoint whose maintenance is scheduled. Above [`MAX_PARKED_EVENTS`] it is exhausted at
    /// once and counted in the endpoint's gap.
    pub(super) async fn park_delivery(
        &self,
        event: &DeliveryEvent,
        target: &DeliveryTarget,
        row: Option<Delivery>,
        position: FifoPosition,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let (key, now) = (event.delivery_key(target.endpoint), self.now());
        let is_full = target.health.parked_count >= MAX_PARKED_EVENTS;
        if !is_full {
            self.store.park_event(&key, now).await?;
        }
        let delivery = row
            .unwrap_or_else(|| Delivery::new(key, event.name))
            .with_fifo_position(position);
        if is_full {
            self.store
                .put_delivery(&delivery.into_exhausted(), now)
                .await?;
            self.record_lost_events(target, event.committed_at, event.committed_at, 1)
                .await?;
            return Ok(DeliveryOutcome::Exhausted);
        }
        self.store
            .put_delivery(&delivery.into_parked(), now)
            .await?;
        if let Some(added) = self.endpoint_activities.count_parked(target.endpoint) {
            self.store.add_parked_count(target.endpoint, added).await?;
        }
        Ok(DeliveryOutcome::Parked)
    }

    /// Counts events that were exhausted while they were parked, committed from `from` until `until`.
    pub(super) async fn record_lost_events(
        &self,
        target: &DeliveryTarget,
        from: Timestamp,
        until: Timestamp,
        events: u64,
    ) -> Result<(), DeliverError> {
        self.change_health(target, |health| {
            health.record_gap(from, until, events);
            Vec::new()
        })
        .await
        .map(drop)
    }
}
