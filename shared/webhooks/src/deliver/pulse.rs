//! What this process knows of endpoints between two writes: how fast they are told, how slow they
//! answer, and what is still to be added to their health.
//!
//! A success of a healthy endpoint is only counted here, so that it costs one write and not two. It
//! joins the stored health with this process's next failure.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use jiff::Timestamp;
use okra_core::{
    delivery::{
        endpoint_health::{AttemptFailure, EndpointHealth, HealthNotice},
        permit_pool::{PermitDecision, PermitPool},
    },
    model::ids::EndpointId,
    resilience::rate_limiter::SendRate,
};
use okra_queue::EndpointMaintenance;
use okra_store::{AppNotice, NewAppFeedEntry, StoreError};

use super::{
    AttemptKind, AttemptMode, DeliverError, Deliverer, DeliveryTarget, attempt::add_seconds,
};
use crate::sender::{AttemptResponse, ReceiverControl};

/// Endpoints that are remembered at most; when there are more, those at rest are forgotten.
const MAX_ACTIVITIES: usize = 8192;

/// Milliseconds of the usual answer from which an endpoint is slow.
const SLOW_LATENCY_MS: u32 = 2_000;

/// Times a change of an endpoint's health is tried against other processes.
const MAX_HEALTH_WRITE_TRIES: u32 = 16;

/// Seconds after which a place is asked for again that others took at the same moment each time.
const PERMIT_RETRY_S: i64 = 1;

/// Events parked by this process before they are added to the endpoint's count.
const PARKED_COUNT_BATCH: u64 = 16;

/// All endpoints this process has told something.
#[derive(Default)]
pub(super) struct EndpointActivities(Mutex<HashMap<EndpointId, Arc<EndpointActivity>>>);

/// One of them.
#[derive(Default)]
pub(super) struct EndpointActivity {
    state: Mutex<EndpointActivityState>,
    /// Held while its health is written: what comes in meanwhile is written together.
    health_write: tokio::sync::Mutex<()>,
    /// Held while places are taken from those of all processes: who waits meanwhile is brought one.
    permit_request: tokio::sync::Mutex<()>,
    /// How many wait for a place who come back at its time, and how many who do not.
    returning_waiters: AtomicU32,
    other_waiters: AtomicU32,
}

#[derive(Default)]
struct EndpointActivityState {
    permits: PermitPool,
    /// The usual time of an answer: a moving average in which each counts an eighth.
    average_latency_ms: u32,
    unwritten_successes: u32,
    last_success_at: Option<Timestamp>,
    unwritten_failures: Vec<AttemptFailure>,
    /// The health when it was last written or read here.
    health: EndpointHealth,
    uncounted_parked: u64,
}

impl EndpointActivity {
    fn lock_state(&self) -> MutexGuard<'_, EndpointActivityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts somebody who waits for a place.
    fn register_waiter(&self, will_return: bool) -> PermitWaiter<'_> {
        let count = if will_return {
            &self.returning_waiters
        } else {
            &self.other_waiters
        };
        count.fetch_add(1, Ordering::Relaxed);
        PermitWaiter(count)
    }
}

/// Somebody waits for a place, until this is dropped.
struct PermitWaiter<'a>(&'a AtomicU32);

impl Drop for PermitWaiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EndpointActivities {
    fn activity_for(&self, endpoint: EndpointId) -> Arc<EndpointActivity> {
        let mut pulses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pulses.len() >= MAX_ACTIVITIES {
            pulses.retain(|_, pulse| Arc::strong_count(pulse) > 1);
        }
        Arc::clone(pulses.entry(endpoint).or_default())
    }

    /// Counts a parked event; says how many are to be added to the endpoint's count now.
    pub(super) fn count_parked(&self, endpoint: EndpointId) -> Option<u64> {
        let pulse = self.activity_for(endpoint);
        let mut known = pulse.lock_state();
        known.uncounted_parked += 1;
        (known.uncounted_parked >= PARKED_COUNT_BATCH)
            .then(|| std::mem::take(&mut known.uncounted_parked))
    }
}

impl Deliverer {
    /// A place in the endpoint's pace; `None` where it is taken now. Else when there is one, and
    /// whether it is reserved: not for those who do not come back at that time.
    pub(super) async fn acquire_permit(
        &self,
        target: &DeliveryTarget,
        will_return: bool,
    ) -> Result<Option<(Timestamp, bool)>, DeliverError> {
        let usual = self.config.default_rate;
        let rate = target
            .rate
            .map_or(usual, |per_s| SendRate::from_per_second(per_s.into()));
        let pulse = self.endpoint_activities.activity_for(target.endpoint);
        let turn = match self.try_permit(&pulse, rate, will_return) {
            PermitDecision::TakeBlock => {
                self.request_permits(&pulse, target.endpoint, rate, will_return)
                    .await?
            }
            turn => turn,
        };
        let at = |us| Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX);
        Ok(match turn {
            PermitDecision::SendNow => None,
            PermitDecision::SendAt(us) => Some((at(us), true)),
            PermitDecision::RetryAt(us) => Some((at(us), false)),
            PermitDecision::TakeBlock => {
                Some((add_seconds(self.clock.now(), PERMIT_RETRY_S), false))
            }
        })
    }

    fn try_permit(
        &self,
        activity: &EndpointActivity,
        rate: SendRate,
        will_return: bool,
    ) -> PermitDecision {
        let (now_us, processes) = (self.clock.now().as_microsecond(), self.config.max_processes);
        let mut known = activity.lock_state();
        known
            .permits
            .try_acquire(now_us, rate, processes, will_return)
    }

    /// Takes a block of places from those of all processes, for all who wait here, unless somebody
    /// brought one meanwhile.
    async fn request_permits(
        &self,
        activity: &EndpointActivity,
        endpoint: EndpointId,
        rate: SendRate,
        will_return: bool,
    ) -> Result<PermitDecision, DeliverError> {
        let _waiting = activity.register_waiter(will_return);
        let _taking = activity.permit_request.lock().await;
        let turn = self.try_permit(activity, rate, will_return);
        if turn != PermitDecision::TakeBlock {
            return Ok(turn);
        }
        let now = self.clock.now();
        let ask = || {
            activity.lock_state().permits.next_block_request(
                now.as_microsecond(),
                rate,
                activity.returning_waiters.load(Ordering::Relaxed),
                activity.other_waiters.load(Ordering::Relaxed),
            )
        };
        let block = self
            .store
            .acquire_permit_block(endpoint, rate, now, ask)
            .await?;
        let Some(block) = block else {
            return Ok(PermitDecision::TakeBlock);
        };
        let (now_us, processes) = (self.clock.now().as_microsecond(), self.config.max_processes);
        // At once, so that nobody who comes by takes the place of the one who asked.
        let mut known = activity.lock_state();
        known.permits.add_block(now_us, block);
        Ok(known
            .permits
            .try_acquire(now_us, rate, processes, will_return))
    }

    /// True for an endpoint that usually takes long or mostly fails: it goes in the slow lane.
    pub(super) fn is_slow_endpoint(&self, target: &DeliveryTarget) -> bool {
        let usual_ms = self
            .endpoint_activities
            .activity_for(target.endpoint)
            .lock_state()
            .average_latency_ms;
        usual_ms > SLOW_LATENCY_MS || target.health.health.is_mostly_failing(self.clock.now())
    }

    /// Adds an attempt to its endpoint's health, where that changes it; the health as it is now.
    pub(super) async fn record_attempt(
        &self,
        target: &DeliveryTarget,
        response: &AttemptResponse,
        mode: AttemptMode,
        at: Timestamp,
    ) -> Result<EndpointHealth, DeliverError> {
        let pulse = self.endpoint_activities.activity_for(target.endpoint);
        let disable = response.control == Some(ReceiverControl::DisableEndpoint);
        let aborted = response.control == Some(ReceiverControl::AbortMessage);
        {
            let mut known = pulse.lock_state();
            known.average_latency_ms = match known.average_latency_ms {
                0 => response.latency_ms,
                usual => usual - usual / 8 + response.latency_ms / 8,
            };
            if response.outcome.is_ok() || aborted {
                known.unwritten_successes = known.unwritten_successes.saturating_add(1);
                known.last_success_at = known.last_success_at.max(Some(at));
                let changes = target.health.health.is_failing() || mode.kind == AttemptKind::Probe;
                if !changes && !disable {
                    return Ok(target.health.health.clone());
                }
            }
            if !response.outcome.is_ok() && !aborted || disable {
                known.unwritten_failures.push(AttemptFailure {
                    failed_at: at,
                    outcome: response.outcome,
                    status: response.status,
                    retry_after_s: response.retry_after_s,
                    requests_disable: disable,
                });
            }
        }
        let _writing = pulse.health_write.lock().await;
        let (successes, last_success_at, failures) = {
            let mut known = pulse.lock_state();
            if known.unwritten_successes == 0 && known.unwritten_failures.is_empty() {
                // Whoever wrote last wrote this attempt too.
                return Ok(known.health.clone());
            }
            let failures = std::mem::take(&mut known.unwritten_failures);
            (
                std::mem::take(&mut known.unwritten_successes),
                known.last_success_at,
                failures,
            )
        };
        let change = |health: &mut EndpointHealth| {
            let last = last_success_at.unwrap_or(at);
            // What succeeded before all that failed since comes first.
            let recent = failures.iter().all(|failure| failure.failed_at <= last);
            let mut notices = Vec::new();
            if !recent {
                notices.extend(health.record_successes(successes, last));
            }
            notices.extend(
                failures
                    .iter()
                    .flat_map(|failure| health.record_failure(failure)),
            );
            if recent {
                notices.extend(health.record_successes(successes, last));
            }
            notices
        };
        let health = self.change_health(target, change).await?;
        pulse.lock_state().health.clone_from(&health);
        Ok(health)
    }

    /// Changes the health of an endpoint, sees to it that it is looked after where it has to be, and
    /// tells its app.
    pub(super) async fn change_health(
        &self,
        target: &DeliveryTarget,
        change: impl Fn(&mut EndpointHealth) -> Vec<HealthNotice>,
    ) -> Result<EndpointHealth, DeliverError> {
        let (app, endpoint) = (target.app, target.endpoint);
        for _ in 0..MAX_HEALTH_WRITE_TRIES {
            let mut stored = self.store.load_endpoint_health(endpoint).await?;
            let before = stored.health.clone();
            let notices = change(&mut stored.health);
            let after = stored.health.clone();
            if before == after {
                return Ok(after);
            }
            // The wake-up first: one too many does no harm, one that is missing would.
            let now = self.clock.now();
            let due = match (before.breaker().is_open(), after.next_probe_at()) {
                (false, due) => due,
                (true, None) if after.disabled.is_none() => Some(now),
                (true, _) => None,
            };
            if let Some(due) = due {
                self.schedule_maintenance(EndpointMaintenance { app, endpoint }, due)
                    .await?;
            }
            let parked = notices
                .iter()
                .any(|it| matches!(it, HealthNotice::Parked { .. }));
            let entries: Vec<NewAppFeedEntry> = notices
                .into_iter()
                .map(|notice| NewAppFeedEntry {
                    endpoint,
                    endpoint_url: target.url.clone(),
                    notice: AppNotice::Health(notice),
                })
                .collect();
            if !entries.is_empty() {
                self.schedule_app_feed_check(app).await?;
            }
            let put = self
                .store
                .put_endpoint_health(app, endpoint, &stored, &entries, now)
                .await?;
            if let Some(told) = put {
                if parked {
                    tracing::warn!(endpoint.id = %endpoint, failures = after.failures, "endpoint parked");
                }
                if !told.is_empty() {
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

    /// Has an endpoint looked after at `due`, or as late as a message can wait.
    pub(super) async fn schedule_maintenance(
        &self,
        task: EndpointMaintenance,
        due: Timestamp,
    ) -> Result<(), DeliverError> {
        let delay_s = self.message_delay_until(due);
        Ok(self.queues.send_maintenances(&[(task, delay_s)]).await?)
    }

    /// When a probe that is overdue by more than this must have been lost.
    pub(super) fn is_probe_lost(&self, health: &EndpointHealth) -> bool {
        const LATE_S: i64 = 20 * 60;
        let now = self.clock.now();
        health
            .next_probe_at()
            .is_some_and(|due| add_seconds(due, LATE_S) < now)
    }
}
