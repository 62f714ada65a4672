//! Reports of deliveries, for logs, metrics and whoever observes.
//!
//! [`AttemptReport`] is one attempt, [`DeliveryOutcome`] what came of one event at one endpoint; the others add up what a
//! message did.

use jiff::Timestamp;
use okra_core::{
    delivery::{retry::AttemptOutcome, state_machine::DeliveryState},
    model::ids::{AppId, EndpointId, EventId, FeedSource, Seq},
};
use serde::Serialize;

/// An attempt was made and recorded.
#[derive(Clone, Debug)]
pub struct AttemptReport {
    /// The event.
    pub event_id: EventId,
    /// Its feed.
    pub source: FeedSource,
    /// Its place in that feed.
    pub seq: Seq,
    /// Its name: `balance.success`.
    pub event_name: &'static str,
    /// Whose endpoint it is.
    pub app: AppId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The host of the endpoint's URL.
    pub host: String,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The HTTP status, where there was a response.
    pub status: Option<u16>,
    /// The host that a redirect leads to, which was not followed.
    pub location_host: Option<String>,
    /// Milliseconds from its start to the end of the response.
    pub latency_ms: u32,
    /// Bytes of the body that was sent.
    pub body_bytes: usize,
    /// When the change was committed.
    pub committed_at: Timestamp,
    /// When the response was there.
    pub answered_at: Timestamp,
    /// When the next attempt is due, where there is to be one.
    pub next_at: Option<Timestamp>,
}

/// Observes each attempt. It must not block.
pub trait DeliveryObserver: Send + Sync {
    /// An attempt was made and recorded.
    fn on_attempt(&self, attempted: &AttemptReport);
}

/// An observer that does nothing.
pub struct SilentDeliveryObserver;

impl DeliveryObserver for SilentDeliveryObserver {
    fn on_attempt(&self, _: &AttemptReport) {}
}

/// What came of one event at one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// An attempt delivered it.
    Delivered,
    /// An attempt failed; another is due later.
    #[serde(rename = "deferred")]
    RetryScheduled,
    /// It waits until the endpoint takes events again.
    Parked,
    /// It waits for a permit: the endpoint is sent no more events a second than its rate limit allows.
    #[serde(rename = "paced")]
    RateLimited,
    /// It waits behind an earlier event of its record: the endpoint gets them in order.
    #[serde(rename = "held")]
    AwaitingPredecessor,
    /// An attempt failed and was the last.
    Exhausted,
    /// Nothing was due: it was delivered or exhausted before, or its next attempt is later.
    Skipped,
    /// The endpoint does not want it any more.
    Unwanted,
}

impl DeliveryOutcome {
    /// The outcome of an attempt that left its delivery in this state.
    pub(crate) const fn from_state(state: DeliveryState) -> Self {
        match state {
            DeliveryState::Delivered => Self::Delivered,
            DeliveryState::Retry => Self::RetryScheduled,
            DeliveryState::Parked => Self::Parked,
            DeliveryState::Exhausted => Self::Exhausted,
            DeliveryState::Cancelled => Self::Unwanted,
        }
    }
}

/// What came of a dispatch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DispatchReport {
    /// Events in it.
    pub events: usize,
    /// Deliveries made.
    pub delivered: usize,
    /// Deliveries that failed and are tried again later.
    #[serde(rename = "deferred")]
    pub retry_scheduled: usize,
    /// Deliveries that wait until the endpoint takes events again.
    pub parked: usize,
    /// Deliveries that wait for a permit.
    #[serde(rename = "paced")]
    pub rate_limited: usize,
    /// Deliveries that wait behind an earlier one.
    #[serde(rename = "held")]
    pub awaiting_predecessor: usize,
    /// Deliveries that failed for the last time.
    pub exhausted: usize,
    /// Deliveries where nothing was due.
    pub skipped: usize,
}

impl DispatchReport {
    pub(crate) const fn count_outcome(&mut self, outcome: DeliveryOutcome) {
        match outcome {
            DeliveryOutcome::Delivered => self.delivered += 1,
            DeliveryOutcome::RetryScheduled => self.retry_scheduled += 1,
            DeliveryOutcome::Parked => self.parked += 1,
            DeliveryOutcome::RateLimited => self.rate_limited += 1,
            DeliveryOutcome::AwaitingPredecessor => self.awaiting_predecessor += 1,
            DeliveryOutcome::Exhausted => self.exhausted += 1,
            DeliveryOutcome::Skipped | DeliveryOutcome::Unwanted => self.skipped += 1,
        }
    }
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SweepReport {
    /// Minutes looked through.
    pub minutes: u64,
    /// Retries that were due and woken.
    #[serde(rename = "woken")]
    pub retries_woken: usize,
    /// Minutes that are left for the next sweep: more than none when sweeps have not run for hours.
    #[serde(rename = "behind")]
    pub minutes_behind: u64,
}

/// What a step of a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayStepReport {
    /// Events it sent.
    #[serde(rename = "sent")]
    pub events_sent: usize,
    /// Whether another step follows.
    #[serde(rename = "running")]
    pub is_running: bool,
}

/// What the maintenance of an endpoint did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "tended", rename_all = "snake_case")]
pub enum MaintenanceOutcome {
    /// It is disabled: nothing is done until its app enables it.
    #[serde(rename = "left")]
    EndpointDisabled,
    /// A probe is not due yet, or the endpoint requested a pause.
    #[serde(rename = "waits")]
    NotDue,
    /// A probe failed; the next is due later.
    StillDown,
    /// A probe succeeded.
    Recovered,
    /// Nothing is parked to probe it with: its next event tests it.
    OnTrial,
    /// What was parked is being sent.
    Drained {
        /// Events delivered by this step.
        sent: usize,
    },
}
