//! Maintenance of an endpoint that is down or was down: probes, drains, and parked events that have expired.
//!
//! The rule: as long as something is parked and the endpoint is not disabled, another maintenance is scheduled.

use std::collections::HashMap;

use okra_core::{
    delivery::endpoint_health::{EndpointAdmission, MAX_PARKED_DAYS},
    model::ids::FeedSource,
    resilience::circuit_breaker::Admission,
};
use okra_queue::EndpointMaintenance;
use okra_store::{DeliveryKey, DeliveryState, FifoPosition};

use super::{deliverer::Deliverer, error::DeliverError, event::add_seconds};
use crate::report::MaintenanceOutcome;

/// Events that are exhausted at once because they were parked for too long, at most.
const MAX_EXPIRED_AT_ONCE: usize = 500;

const DAY_S: i64 = 24 * 3600;

impl Deliverer {
    /// Maintains an endpoint: where its circuit is open and a probe is due, probes it with the oldest parked event;
    /// where it takes events again, sends what was parked, within the endpoint's rate limit.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    #[tracing::instrument(level = "debug", name = "maintenance", skip_all, fields(endpoint.id = %task.endpoint))]
    pub async fn maintain_endpoint(
        &self,
        task: EndpointMaintenance,
    ) -> Result<MaintenanceOutcome, DeliverError> {
        let now = self.now();
        let health = self.store.load_endpoint_health(task.endpoint).await?.health;
        self.exhaust_expired(task).await?;
        if health.disabled.is_some() {
            return Ok(MaintenanceOutcome::EndpointDisabled);
        }
        let not_before = match (health.breaker().admission(now), health.admission(now)) {
            (Admission::Probe, _) => return self.probe_endpoint(task).await,
            (Admission::Reject { until }, _) => until,
            // It requested a pause while it was sent what was parked.
            (Admission::Admit, EndpointAdmission::Wait { until }) => until,
            (Admission::Admit, EndpointAdmission::Send | EndpointAdmission::Park) => {
                return self.drain_endpoint(task).await;
            }
        };
        self.schedule_maintenance(task, not_before).await?;
        Ok(MaintenanceOutcome::NotDue)
    }

    /// Exhausts events that were parked for longer than [`MAX_PARKED_DAYS`], and counts them in the endpoint's gap.
    async fn exhaust_expired(&self, task: EndpointMaintenance) -> Result<(), DeliverError> {
        let now = self.now();
        let expired_by = add_seconds(now, -MAX_PARKED_DAYS * DAY_S);
        let oldest = self.store.list_parked_events(task.endpoint, 1).await?;
        if oldest
            .first()
            .is_none_or(|key| key.committed_at > expired_by)
        {
            return Ok(());
        }
        let mut exhausted: Vec<DeliveryKey> = Vec::new();
        // The last event of each feed that is settled by it: those behind it go on.
        let mut last_by_source: HashMap<FeedSource, DeliveryKey> = HashMap::new();
        for key in self
            .store
            .list_parked_events(task.endpoint, MAX_EXPIRED_AT_ONCE)
            .await?
        {
            if key.committed_at > expired_by {
                break;
            }
            if let Some(row) = self.store.find_delivery(&key).await?
                && row.state == DeliveryState::Parked
            {
                if row.fifo_position != FifoPosition::Unordered {
                    last_by_source.insert(key.source, key);
                }
                self.store.put_delivery(&row.into_exhausted(), now).await?;
                exhausted.push(key);
            }
            self.store.unpark_event(&key).await?;
        }
        for key in last_by_source.values() {
            self.schedule_retry(key, 0, now, false).await?;
        }
        if let (Some(first), Some(last)) = (exhausted.first(), exhausted.last()) {
            let target = self.load_target(task.app, task.endpoint).await?;
            let (from, until) = (first.committed_at, last.committed_at);
            self.record_lost_events(&target, from, until, exhausted.len() as u64)
                .await?;
        }
        Ok(())
    }
}
