//! Changes of an endpoint's health, and the notices that its app gets of them.
//!
//! The rule: a change of health is stored together with the app feed entries of its notices, and the maintenance that
//! it requires is scheduled before that.

use jiff::Timestamp;
use okra_core::{
    delivery::{
        attempt::{AttemptKind, AttemptResponse},
        endpoint_health::{EndpointHealth, HealthNotice},
    },
    model::ids::EndpointId,
};
use okra_queue::EndpointMaintenance;
use okra_store::{AppNotice, NewAppFeedEntry, StoreError};

use super::{
    deliverer::Deliverer, error::DeliverError, event::add_seconds, targets::DeliveryTarget,
};

/// Milliseconds of the usual attempt above which an endpoint is slow.
const SLOW_LATENCY_MS: u32 = 2_000;

/// Times a change of an endpoint's health is tried against other processes.
const MAX_HEALTH_WRITE_TRIES: u32 = 16;

/// Seconds after which a probe that is overdue must have been lost.
const PROBE_LOST_AFTER_S: i64 = 20 * 60;

impl Deliverer {
    /// True for an endpoint that usually takes long or mostly fails: it shares the slow lane.
    pub(super) fn is_slow_endpoint(&self, target: &DeliveryTarget) -> bool {
        self.endpoint_activities.average_latency_ms(target.endpoint) > SLOW_LATENCY_MS
            || target.health.health.is_mostly_failing(self.now())
    }

    /// True where a probe of the endpoint is overdue for so long that it must have been lost.
    pub(super) fn is_probe_lost(&self, health: &EndpointHealth) -> bool {
        health
            .next_probe_at()
            .is_some_and(|due| add_seconds(due, PROBE_LOST_AFTER_S) < self.now())
    }

    /// Adds an attempt to its endpoint's health, where that changes it; the health after it.
    pub(super) async fn record_attempt(
        &self,
        target: &DeliveryTarget,
        response: &AttemptResponse,
        kind: AttemptKind,
        at: Timestamp,
    ) -> Result<EndpointHealth, DeliverError> {
        let activity = self.endpoint_activities.activity_for(target.endpoint);
        let is_failing = target.health.health.is_failing();
        let changes_health = activity
            .lock_state()
            .note_attempt(response, kind, is_failing, at);
        if !changes_health {
            return Ok(target.health.health.clone());
        }
        let _write = activity.health_write.lock().await;
        let unwritten = {
            let mut state = activity.lock_state();
            match state.take_unwritten() {
                Some(unwritten) => unwritten,
                // The write before this one included this attempt.
                None => return Ok(state.health.clone()),
            }
        };
        let health = self
            .change_health(target, |health| unwritten.apply_to(health, at))
            .await?;
        activity.lock_state().health.clone_from(&health);
        Ok(health)
    }

    /// Changes the health of an endpoint; the health after it.
    pub(super) async fn change_health(
        &self,
        target: &DeliveryTarget,
        change: impl Fn(&mut EndpointHealth) -> Vec<HealthNotice>,
    ) -> Result<EndpointHealth, DeliverError> {
        for _ in 0..MAX_HEALTH_WRITE_TRIES {
            let mut stored = self.store.load_endpoint_health(target.endpoint).await?;
            let before = stored.health.clone();
            let notices = change(&mut stored.health);
            if stored.health == before {
                return Ok(before);
            }
            self.schedule_maintenance_after(target, &before, &stored.health)
                .await?;
            if !notices.is_empty() {
                self.schedule_app_feed_check(target.app).await?;
            }
            let is_parked = notices
                .iter()
                .any(|it| matches!(it, HealthNotice::Parked { .. }));
            let entries = app_feed_entries(target.endpoint, &target.url, notices);
            let (app, endpoint) = (target.app, target.endpoint);
            let seqs = self
                .store
                .put_endpoint_health(app, endpoint, &stored, &entries, self.now())
                .await?;
            // `None`: another process changed it meanwhile.
            if let Some(seqs) = seqs {
                let after = stored.health;
                if is_parked {
                    tracing::warn!(endpoint.id = %endpoint, failures = after.failures, "endpoint parked");
                }
                if !seqs.is_empty() {
                    self.queues.send_app_feed_dispatch(app, 0).await?;
                }
                return Ok(after);
            }
        }
        Err(StoreError::Contended {
            operation: "UpdateItem",
        }
        .into())
    }

    /// Schedules the maintenance that a change of health requires, before the change is stored: one wake-up too many
    /// does no harm, a missing one would.
    async fn schedule_maintenance_after(
        &self,
        target: &DeliveryTarget,
        before: &EndpointHealth,
        after: &EndpointHealth,
    ) -> Result<(), DeliverError> {
        let due = match (before.breaker().is_open(), after.next_probe_at()) {
            (false, probe_at) => probe_at,
            // The circuit closed: what is parked is sent.
            (true, None) if after.disabled.is_none() => Some(self.now()),
            (true, _) => None,
        };
        if let Some(due) = due {
            let (app, endpoint) = (target.app, target.endpoint);
            self.schedule_maintenance(EndpointMaintenance { app, endpoint }, due)
                .await?;
        }
        Ok(())
    }
}

fn app_feed_entries(
    endpoint: EndpointId,
    endpoint_url: &str,
    notices: Vec<HealthNotice>,
) -> Vec<NewAppFeedEntry> {
    notices
        .into_iter()
        .map(|notice| NewAppFeedEntry {
            endpoint,
            endpoint_url: endpoint_url.to_owned(),
            notice: AppNotice::Health(notice),
        })
        .collect()
}
