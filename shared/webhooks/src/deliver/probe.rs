//! The probe: one parked event tests whether an endpoint is back.
//!
//! The rule: a probe sends one event only, the oldest that is still to be sent.

use okra_core::delivery::{attempt::AttemptKind, state_machine::ATTEMPT_LEASE_S};
use okra_queue::EndpointMaintenance;

use super::{deliverer::Deliverer, error::DeliverError, event::add_seconds};
use crate::report::{DeliveryOutcome, MaintenanceOutcome};

/// Parked events that turn out to be settled and that one message passes over at most.
const MAX_SETTLED_SKIPPED: usize = 100;

impl Deliverer {
    /// Probes an endpoint whose probe is due, with the oldest parked event.
    pub(super) async fn probe_endpoint(
        &self,
        task: EndpointMaintenance,
    ) -> Result<MaintenanceOutcome, DeliverError> {
        let mut is_claimed_elsewhere = false;
        for key in self
            .store
            .list_parked_events(task.endpoint, MAX_SETTLED_SKIPPED)
            .await?
        {
            match self.attempt_parked(&key, AttemptKind::Probe).await? {
                DeliveryOutcome::Delivered => {
                    // At an ordered endpoint, one before this may have been sent instead.
                    self.unpark_if_settled(&key).await?;
                    // The circuit is closed: the other parked events are sent now.
                    self.schedule_maintenance(task, self.now()).await?;
                    return Ok(MaintenanceOutcome::Recovered);
                }
                DeliveryOutcome::Parked
                | DeliveryOutcome::RetryScheduled
                | DeliveryOutcome::RateLimited => {
                    let stored = self.store.load_endpoint_health(task.endpoint).await?;
                    if let Some(probe_at) = stored.health.next_probe_at() {
                        self.schedule_maintenance(task, probe_at).await?;
                    }
                    return Ok(MaintenanceOutcome::StillDown);
                }
                DeliveryOutcome::Exhausted
                | DeliveryOutcome::Skipped
                | DeliveryOutcome::Unwanted
                | DeliveryOutcome::AwaitingPredecessor => {
                    is_claimed_elsewhere |= !self.unpark_if_settled(&key).await?;
                }
            }
        }
        let remaining = self.store.list_parked_events(task.endpoint, 1).await?;
        if !remaining.is_empty() {
            let pause_s = if is_claimed_elsewhere {
                ATTEMPT_LEASE_S
            } else {
                0
            };
            self.schedule_maintenance(task, add_seconds(self.now(), pause_s))
                .await?;
            return Ok(MaintenanceOutcome::NotDue);
        }
        self.begin_trial(task).await
    }

    /// Closes the circuit of an endpoint that nothing is parked for: the next event tests it.
    async fn begin_trial(
        &self,
        task: EndpointMaintenance,
    ) -> Result<MaintenanceOutcome, DeliverError> {
        let target = self.load_target(task.app, task.endpoint).await?;
        self.change_health(&target, |health| {
            health.begin_trial();
            Vec::new()
        })
        .await?;
        Ok(MaintenanceOutcome::OnTrial)
    }
}
