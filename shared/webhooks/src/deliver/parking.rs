//! Parking: what is for an endpoint that is down, and what becomes of it.

use std::collections::HashMap;

use futures::{FutureExt, StreamExt, stream};
use okra_core::{
    delivery::endpoint_health::{EndpointAdmission, MAX_PARKED_DAYS, MAX_PARKED_EVENTS},
    model::ids::{AppId, FeedSource},
    resilience::circuit_breaker::Admission,
};
use okra_queue::EndpointMaintenance;
use okra_store::{Delivery, DeliveryKey, DeliveryState, Endpoint, FifoPosition};

use super::{
    AttemptKind, AttemptMode, DeliverError, Deliverer, DeliveryEvent, DeliveryTarget, LEASE_S,
    attempt::add_seconds,
};
use crate::report::{DeliveryOutcome, MaintenanceOutcome};

/// Parked events that are sent by one message at most.
const MAX_DRAINED_AT_ONCE: usize = 32;

/// Seconds until a drain goes on whose endpoint takes no more for now.
pub(super) const DRAIN_PAUSE_S: i64 = 1;

/// Parked events that turn out to be settled, and that one message passes over at most.
const MAX_SETTLED_SKIPPED: usize = 100;

/// Events that are exhausted in one go because they waited too long, at most.
const MAX_EXPIRED_AT_ONCE: usize = 500;

const DAY_S: i64 = 24 * 3600;

impl Deliverer {
    /// Parks an event: it is sent when the endpoint is back.
    pub(super) async fn park_event(
        &self,
        event: &DeliveryEvent,
        target: &DeliveryTarget,
        row: Option<Delivery>,
        position: FifoPosition,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let told = self.park_delivery(event, target, row, position).await?;
        if told != DeliveryOutcome::Parked {
            return Ok(told);
        }
        // It may have come back while this was parked; then nobody else would look here.
        let now = self.clock.now();
        let health = self
            .store
            .load_endpoint_health(target.endpoint)
            .await?
            .health;
        if health.admission(now) != EndpointAdmission::Park || self.is_probe_lost(&health) {
            let (app, endpoint) = (target.app, target.endpoint);
            self.schedule_maintenance(EndpointMaintenance { app, endpoint }, now)
                .await?;
        }
        Ok(told)
    }

    /// Parks an event for an endpoint that somebody looks after. Beyond [`MAX_PARKED`] it is exhausted
    /// at once, and the gap is remembered.
    pub(super) async fn park_delivery(
        &self,
        event: &DeliveryEvent,
        target: &DeliveryTarget,
        row: Option<Delivery>,
        position: FifoPosition,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let (key, now) = (event.delivery_key(target.endpoint), self.clock.now());
        let full = target.health.parked_count >= MAX_PARKED_EVENTS;
        let state = if full {
            DeliveryState::Exhausted
        } else {
            self.store.park_event(&key, now).await?;
            DeliveryState::Parked
        };
        let parked = match row {
            Some(row) => Delivery {
                state,
                next_attempt_at: None,
                fifo_position: row.fifo_position.max(position),
                version: row.version.saturating_add(1),
                ..row
            },
            None => Delivery {
                key,
                event_name: event.name.to_owned(),
                state,
                attempt_count: 0,
                attempt_log: Vec::new(),
                response_excerpt: None,
                next_attempt_at: None,
                is_redelivery: false,
                fifo_position: position,
                version: 1,
            },
        };
        self.store.put_delivery(&parked, now).await?;
        if full {
            self.record_lost_events(target, event.committed_at, event.committed_at, 1)
                .await?;
            return Ok(DeliveryOutcome::Exhausted);
        }
        if let Some(more) = self.endpoint_activities.count_parked(target.endpoint) {
            self.store.add_parked_count(target.endpoint, more).await?;
        }
        Ok(DeliveryOutcome::Parked)
    }

    async fn record_lost_events(
        &self,
        target: &DeliveryTarget,
        from: jiff::Timestamp,
        until: jiff::Timestamp,
        events: u64,
    ) -> Result<(), DeliverError> {
        self.change_health(target, |health| {
            health.record_gap(from, until, events);
            Vec::new()
        })
        .await
        .map(drop)
    }

    /// Looks after an endpoint: where its circuit is open and a probe is due, tries the oldest parked
    /// event; where it takes events again, sends what was parked, at the endpoint's pace.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn maintain_endpoint(
        &self,
        tend: EndpointMaintenance,
    ) -> Result<MaintenanceOutcome, DeliverError> {
        let now = self.clock.now();
        let health = self.store.load_endpoint_health(tend.endpoint).await?.health;
        self.exhaust_expired(tend).await?;
        if health.disabled.is_some() {
            return Ok(MaintenanceOutcome::EndpointDisabled);
        }
        let not_before = match (health.breaker().admission(now), health.admission(now)) {
            (Admission::Probe, _) => return self.probe_endpoint(tend).await,
            (Admission::Reject { until }, _) => until,
            // It requested a pause while it was sent what was parked.
            (Admission::Admit, EndpointAdmission::Wait { until }) => until,
            (Admission::Admit, EndpointAdmission::Send | EndpointAdmission::Park) => {
                return self.drain_endpoint(tend).await;
            }
        };
        self.schedule_maintenance(tend, not_before).await?;
        Ok(MaintenanceOutcome::NotDue)
    }

    async fn probe_endpoint(
        &self,
        task: EndpointMaintenance,
    ) -> Result<MaintenanceOutcome, DeliverError> {
        let mut held = false;
        for key in self
            .store
            .list_parked_events(task.endpoint, MAX_SETTLED_SKIPPED)
            .await?
        {
            match self.attempt_parked(&key, AttemptKind::Probe).await? {
                DeliveryOutcome::Delivered => {
                    // In order it was perhaps another, before this one.
                    self.unpark_if_settled(&key).await?;
                    // The circuit is closed; what else is parked goes now.
                    self.schedule_maintenance(task, self.clock.now()).await?;
                    return Ok(MaintenanceOutcome::Recovered);
                }
                DeliveryOutcome::Parked
                | DeliveryOutcome::RetryScheduled
                | DeliveryOutcome::RateLimited => {
                    let health = self.store.load_endpoint_health(task.endpoint).await?.health;
                    if let Some(due) = health.next_probe_at() {
                        self.schedule_maintenance(task, due).await?;
                    }
                    return Ok(MaintenanceOutcome::StillDown);
                }
                DeliveryOutcome::Exhausted
                | DeliveryOutcome::Skipped
                | DeliveryOutcome::Unwanted
                | DeliveryOutcome::AwaitingPredecessor => {
                    held |= !self.unpark_if_settled(&key).await?;
                }
            }
        }
        if !self
            .store
            .list_parked_events(task.endpoint, 1)
            .await?
            .is_empty()
        {
            let pause = if held { LEASE_S } else { 0 };
            self.schedule_maintenance(task, add_seconds(self.clock.now(), pause))
                .await?;
            return Ok(MaintenanceOutcome::NotDue);
        }
        // There is nothing to probe it with: the next event will tell.
        if let Some(target) = self.load_target(task.app, task.endpoint).await? {
            let trial = |health: &mut okra_core::delivery::endpoint_health::EndpointHealth| {
                health.begin_trial();
                Vec::new()
            };
            self.change_health(&target, trial).await?;
        }
        Ok(MaintenanceOutcome::OnTrial)
    }

    async fn drain_endpoint(
        &self,
        task: EndpointMaintenance,
    ) -> Result<MaintenanceOutcome, DeliverError> {
        let endpoint = self.store.find_endpoint(task.app, task.endpoint).await?;
        let ordered = endpoint
            .as_ref()
            .is_some_and(|it| it.ordered_since.is_some());
        let rate = endpoint.and_then(|endpoint| endpoint.events_per_second);
        let rate = rate.map_or(self.config.default_rate.per_s, u32::from);
        // No more than a second takes: each that asks in vain costs the reads of an attempt.
        let at_once = usize::try_from(rate).unwrap_or(MAX_DRAINED_AT_ONCE);
        let at_once = at_once.clamp(1, MAX_DRAINED_AT_ONCE);
        if ordered {
            return Box::pin(self.drain_ordered_endpoint(task, at_once)).await;
        }
        let parked = self
            .store
            .list_parked_events(task.endpoint, at_once)
            .await?;
        let count = parked.len();
        // Boxed, because a borrowing closure inside the stream would make it not `Send`.
        let work: Vec<_> = parked
            .iter()
            .map(|key| self.drain_parked_event(*key).boxed())
            .collect();
        let told: Vec<_> = stream::iter(work)
            .buffer_unordered(MAX_DRAINED_AT_ONCE)
            .collect()
            .await;
        let (mut sent, mut left, mut held) = (0, 0, 0);
        for told in told {
            match told? {
                DeliveryOutcome::Delivered => sent += 1,
                DeliveryOutcome::RateLimited | DeliveryOutcome::Parked => left += 1,
                // Another worker is at it; should it vanish, this one goes on.
                DeliveryOutcome::Skipped | DeliveryOutcome::AwaitingPredecessor => held += 1,
                DeliveryOutcome::RetryScheduled
                | DeliveryOutcome::Exhausted
                | DeliveryOutcome::Unwanted => {}
            }
        }
        if left + held > 0 || count == at_once {
            let pause = match (left, held) {
                (0, 0) => 0,
                (0, _) if held == count => LEASE_S,
                _ => DRAIN_PAUSE_S,
            };
            self.schedule_maintenance(task, add_seconds(self.clock.now(), pause))
                .await?;
        } else {
            self.store.reset_parked_count(task.endpoint).await?;
        }
        Ok(MaintenanceOutcome::Drained { sent })
    }

    pub(super) async fn drain_parked_event(
        &self,
        key: DeliveryKey,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let told = self.attempt_parked(&key, AttemptKind::Drain).await?;
        match told {
            DeliveryOutcome::RateLimited
            | DeliveryOutcome::Parked
            | DeliveryOutcome::AwaitingPredecessor => {}
            DeliveryOutcome::Skipped if self.unpark_if_settled(&key).await? => {
                return Ok(DeliveryOutcome::Unwanted);
            }
            DeliveryOutcome::Skipped => {}
            DeliveryOutcome::Delivered
            | DeliveryOutcome::RetryScheduled
            | DeliveryOutcome::Exhausted
            | DeliveryOutcome::Unwanted => {
                self.store.unpark_event(&key).await?;
            }
        }
        Ok(told)
    }

    async fn attempt_parked(
        &self,
        key: &DeliveryKey,
        kind: AttemptKind,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let of = (key.source, key.seq, key.endpoint);
        match self
            .attempt_one(of, false, AttemptMode::for_kind(kind))
            .await
        {
            // Its feed entry is gone: there is nothing to tell any more.
            Err(DeliverError::MissingEntries { .. }) => Ok(DeliveryOutcome::Unwanted),
            told => told,
        }
    }

    /// Takes an event out that was settled otherwise. False for one that stays, because somebody else
    /// is at it.
    async fn unpark_if_settled(&self, key: &DeliveryKey) -> Result<bool, DeliverError> {
        let row = self.store.find_delivery(key).await?;
        let settled = row.is_none_or(|row| row.state != DeliveryState::Parked);
        if settled {
            self.store.unpark_event(key).await?;
        }
        Ok(settled)
    }

    /// Exhausts what was parked for longer than [`PARKED_DAYS`], and remembers the gap.
    async fn exhaust_expired(&self, task: EndpointMaintenance) -> Result<(), DeliverError> {
        let now = self.clock.now();
        let over = add_seconds(now, -MAX_PARKED_DAYS * DAY_S);
        let oldest = self.store.list_parked_events(task.endpoint, 1).await?;
        if oldest.first().is_none_or(|key| key.committed_at > over) {
            return Ok(());
        }
        let mut lost: Vec<DeliveryKey> = Vec::new();
        // The last of each line that is settled by it: what comes behind it has its turn.
        let mut lines: HashMap<FeedSource, DeliveryKey> = HashMap::new();
        for key in self
            .store
            .list_parked_events(task.endpoint, MAX_EXPIRED_AT_ONCE)
            .await?
        {
            if key.committed_at > over {
                break;
            }
            if let Some(row) = self.store.find_delivery(&key).await?
                && row.state == DeliveryState::Parked
            {
                let exhausted = Delivery {
                    state: DeliveryState::Exhausted,
                    next_attempt_at: None,
                    version: row.version.saturating_add(1),
                    ..row
                };
                self.store.put_delivery(&exhausted, now).await?;
                if exhausted.fifo_position != FifoPosition::Unordered {
                    lines.insert(key.source, key);
                }
                lost.push(key);
            }
            self.store.unpark_event(&key).await?;
        }
        for key in lines.values() {
            self.schedule_retry(key, 0, now, false).await?;
        }
        if let (Some(first), Some(last)) = (lost.first(), lost.last())
            && let Some(target) = self.load_target(task.app, task.endpoint).await?
        {
            let events = u64::try_from(lost.len()).unwrap_or(u64::MAX);
            self.record_lost_events(&target, first.committed_at, last.committed_at, events)
                .await?;
        }
        Ok(())
    }

    /// An endpoint of an app, as a target.
    pub(super) async fn load_target(
        &self,
        app: AppId,
        endpoint: okra_core::model::ids::EndpointId,
    ) -> Result<Option<DeliveryTarget>, DeliverError> {
        let (endpoint_row, health) = futures::try_join!(
            self.store.find_endpoint(app, endpoint),
            self.store.load_endpoint_health(endpoint)
        )?;
        match endpoint_row {
            Some(row) => Ok(Some(self.build_target(&row, health)?)),
            // The URL of a subscription, which only its record knows: enough to change its health.
            None => Ok(Some(DeliveryTarget {
                app,
                endpoint,
                url: String::new(),
                payload_mode: okra_core::sync::feed::PayloadMode::default(),
                body_version: okra_core::sync::feed::BodyVersion::default(),
                secrets: self
                    .keyring
                    .load_or_create_app_secrets(app, self.clock.now())
                    .await?,
                bearer: None,
                event_filters: Vec::new(),
                rate: None,
                ordered_since: None,
                streams: Vec::new(),
                health,
            })),
        }
    }

    /// An endpoint as a target.
    pub(super) fn build_target(
        &self,
        endpoint: &Endpoint,
        health: okra_store::StoredEndpointHealth,
    ) -> Result<DeliveryTarget, DeliverError> {
        Ok(DeliveryTarget {
            app: endpoint.app,
            endpoint: endpoint.id,
            url: endpoint.url.clone(),
            payload_mode: endpoint.payload_mode,
            body_version: endpoint.body_version,
            secrets: self
                .keyring
                .open_active_secrets(endpoint, self.clock.now())?,
            bearer: self.keyring.open_bearer(endpoint)?,
            event_filters: endpoint.events.clone(),
            rate: endpoint.events_per_second,
            ordered_since: endpoint.ordered_since,
            streams: Vec::new(),
            health,
        })
    }
}
