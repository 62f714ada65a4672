//! What this process remembers of endpoints between two writes: permits it took, how slow they are, and attempts that
//! are not yet part of their stored health.
//!
//! [`EndpointActivities`] has one [`EndpointActivity`] for each endpoint. The rule: a success of a healthy endpoint is
//! only counted here, so that a delivery costs one write and not two. It joins the stored health with this process's
//! next failure.

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
        attempt::{AttemptKind, AttemptResponse},
        endpoint_health::{AttemptFailure, EndpointHealth, HealthNotice},
        permit_pool::PermitPool,
    },
    model::ids::EndpointId,
};

/// Endpoints that are remembered at most; when there are more, those at rest are forgotten.
const MAX_ACTIVITIES: usize = 8192;

/// Events parked by this process before they are added to the endpoint's count.
const PARKED_COUNT_BATCH: u64 = 16;

/// All endpoints that this process has sent events to.
#[derive(Default)]
pub(super) struct EndpointActivities(Mutex<HashMap<EndpointId, Arc<EndpointActivity>>>);

/// One of them.
#[derive(Default)]
pub(super) struct EndpointActivity {
    state: Mutex<EndpointActivityState>,
    /// Held while its health is written: attempts that end meanwhile are written together.
    pub(super) health_write: tokio::sync::Mutex<()>,
    /// Held while permits are taken from those of all processes: whoever waits meanwhile is given one.
    pub(super) permit_request: tokio::sync::Mutex<()>,
    /// How many wait for a permit and come back at its time, and how many do not come back.
    returning_waiters: AtomicU32,
    other_waiters: AtomicU32,
}

#[derive(Default)]
pub(super) struct EndpointActivityState {
    pub(super) permits: PermitPool,
    /// A moving average in which each attempt counts an eighth.
    average_latency_ms: u32,
    unwritten_successes: u32,
    last_success_at: Option<Timestamp>,
    unwritten_failures: Vec<AttemptFailure>,
    /// The health when it was last written or read here.
    pub(super) health: EndpointHealth,
    uncounted_parked: u64,
}

/// Attempts that are not yet part of their endpoint's stored health.
pub(super) struct UnwrittenAttempts {
    successes: u32,
    last_success_at: Option<Timestamp>,
    failures: Vec<AttemptFailure>,
}

impl EndpointActivities {
    pub(super) fn activity_for(&self, endpoint: EndpointId) -> Arc<EndpointActivity> {
        let mut activities = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if activities.len() >= MAX_ACTIVITIES {
            activities.retain(|_, activity| Arc::strong_count(activity) > 1);
        }
        Arc::clone(activities.entry(endpoint).or_default())
    }

    /// Counts a parked event; says how many are to be added to the endpoint's count now.
    pub(super) fn count_parked(&self, endpoint: EndpointId) -> Option<u64> {
        let activity = self.activity_for(endpoint);
        let mut state = activity.lock_state();
        state.uncounted_parked += 1;
        (state.uncounted_parked >= PARKED_COUNT_BATCH)
            .then(|| std::mem::take(&mut state.uncounted_parked))
    }

    /// The usual time of an attempt at an endpoint, in milliseconds; 0 where there was none.
    pub(super) fn average_latency_ms(&self, endpoint: EndpointId) -> u32 {
        self.activity_for(endpoint).lock_state().average_latency_ms
    }
}

impl EndpointActivity {
    pub(super) fn lock_state(&self) -> MutexGuard<'_, EndpointActivityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts somebody who waits for a permit, until the guard is dropped.
    pub(super) fn register_waiter(&self, will_return: bool) -> PermitWaiter<'_> {
        let count = if will_return {
            &self.returning_waiters
        } else {
            &self.other_waiters
        };
        count.fetch_add(1, Ordering::Relaxed);
        PermitWaiter(count)
    }

    /// How many wait for a permit and come back at its time.
    pub(super) fn returning_waiter_count(&self) -> u32 {
        self.returning_waiters.load(Ordering::Relaxed)
    }

    /// How many wait for a permit that they can use at once only.
    pub(super) fn other_waiter_count(&self) -> u32 {
        self.other_waiters.load(Ordering::Relaxed)
    }
}

/// Somebody waits for a permit, until this is dropped.
pub(super) struct PermitWaiter<'a>(&'a AtomicU32);

impl Drop for PermitWaiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EndpointActivityState {
    /// Takes note of an attempt that ended at `at`. True where it changes the health of its endpoint, which
    /// `is_failing` says something of.
    pub(super) fn note_attempt(
        &mut self,
        response: &AttemptResponse,
        kind: AttemptKind,
        is_failing: bool,
        at: Timestamp,
    ) -> bool {
        self.average_latency_ms = match self.average_latency_ms {
            0 => response.latency_ms,
            average => average - average / 8 + response.latency_ms / 8,
        };
        if response.is_from_working_receiver() {
            // Saturation is harmless: the count only fills the window in which failures have a share.
            self.unwritten_successes = self.unwritten_successes.saturating_add(1);
            self.last_success_at = self.last_success_at.max(Some(at));
        }
        let failure = AttemptFailure::from_response(response, at);
        self.unwritten_failures.extend(failure);
        failure.is_some() || is_failing || kind == AttemptKind::Probe
    }

    /// Takes what is to be written; `None` where another attempt's write took it along.
    pub(super) fn take_unwritten(&mut self) -> Option<UnwrittenAttempts> {
        if self.unwritten_successes == 0 && self.unwritten_failures.is_empty() {
            return None;
        }
        Some(UnwrittenAttempts {
            successes: std::mem::take(&mut self.unwritten_successes),
            last_success_at: self.last_success_at,
            failures: std::mem::take(&mut self.unwritten_failures),
        })
    }
}

impl UnwrittenAttempts {
    /// Adds the attempts to an endpoint's health; the last of them ended at `at`.
    pub(super) fn apply_to(&self, health: &mut EndpointHealth, at: Timestamp) -> Vec<HealthNotice> {
        let last_success_at = self.last_success_at.unwrap_or(at);
        let has_recovered = self
            .failures
            .iter()
            .all(|failure| failure.failed_at <= last_success_at);
        let mut notices = Vec::new();
        // Successes that all failures followed come first.
        if !has_recovered {
            notices.extend(health.record_successes(self.successes, last_success_at));
        }
        for failure in &self.failures {
            notices.extend(health.record_failure(failure));
        }
        if has_recovered {
            notices.extend(health.record_successes(self.successes, last_success_at));
        }
        notices
    }
}
