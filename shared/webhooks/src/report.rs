//! What there is to say about deliveries.

use jiff::Timestamp;
use okra_core::{
    ids::{AppId, EndpointId, EventId, Seq, Source},
    retry::Outcome,
};
use serde::Serialize;

/// An attempt was made and recorded.
#[derive(Clone, Debug)]
pub struct Attempted {
    /// The event.
    pub event: EventId,
    /// The feed it is of.
    pub source: Source,
    /// Its place in that feed.
    pub seq: Seq,
    /// Its name: `balance.success`.
    pub name: &'static str,
    /// Whose endpoint it is.
    pub app: AppId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The host of the endpoint's URL.
    pub host: String,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The host that a redirect leads to, which was not followed.
    pub location_host: Option<String>,
    /// Milliseconds from its start to the end of the answer.
    pub latency_ms: u32,
    /// Bytes of the body that was sent.
    pub bytes: usize,
    /// When the change was committed.
    pub committed_at: Timestamp,
    /// When the answer was there.
    pub answered_at: Timestamp,
    /// When the next attempt is due, where there is to be one.
    pub next_at: Option<Timestamp>,
}

/// Told of each attempt; must not block.
pub trait Observer: Send + Sync {
    /// An attempt was made and recorded.
    fn attempted(&self, attempted: &Attempted);
}

/// An observer that says nothing.
pub struct Silent;

impl Observer for Silent {
    fn attempted(&self, _: &Attempted) {}
}

/// What came of one event at one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// An attempt delivered it.
    Delivered,
    /// An attempt failed; another is due later.
    Deferred,
    /// It waits until the endpoint takes events again.
    Parked,
    /// It waits its turn: the endpoint is sent no more events a second than it wants.
    Paced,
    /// It waits behind an earlier event of its record: the endpoint is told them in order.
    Held,
    /// An attempt failed and was the last.
    Exhausted,
    /// Nothing was due: it was delivered or given up before, or its time has not come.
    Skipped,
    /// The endpoint does not want it any more.
    Unwanted,
}

/// What came of a dispatch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DispatchReport {
    /// Events it spoke of.
    pub events: usize,
    /// Deliveries made.
    pub delivered: usize,
    /// Deliveries that failed and are tried again later.
    pub deferred: usize,
    /// Deliveries that wait until the endpoint takes events again.
    pub parked: usize,
    /// Deliveries that wait their turn.
    pub paced: usize,
    /// Deliveries that wait behind an earlier one.
    pub held: usize,
    /// Deliveries that failed for the last time.
    pub exhausted: usize,
    /// Deliveries where nothing was due.
    pub skipped: usize,
}

impl DispatchReport {
    pub(crate) const fn count(&mut self, told: Told) {
        match told {
            Told::Delivered => self.delivered += 1,
            Told::Deferred => self.deferred += 1,
            Told::Parked => self.parked += 1,
            Told::Paced => self.paced += 1,
            Told::Held => self.held += 1,
            Told::Exhausted => self.exhausted += 1,
            Told::Skipped | Told::Unwanted => self.skipped += 1,
        }
    }
}

/// What came of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SweepReport {
    /// Minutes looked through.
    pub minutes: u64,
    /// Retries that were due and woken.
    pub woken: usize,
    /// Minutes that are left for the next sweep: more than none when sweeps have not run for hours.
    pub behind: u64,
}

/// What a step of a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Events it sent.
    pub sent: usize,
    /// Whether another step follows.
    pub running: bool,
}

/// What came of looking after an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "tended", rename_all = "snake_case")]
pub enum Tended {
    /// It is disabled: nothing is done until its app enables it.
    Left,
    /// A probe is not due yet, or the endpoint asked for time.
    Waits,
    /// A probe failed; the next is due later.
    StillDown,
    /// A probe succeeded.
    Recovered,
    /// Nothing is parked to probe it with: its next event will tell.
    OnTrial,
    /// What was parked is being sent.
    Drained {
        /// Events delivered by this step.
        sent: usize,
    },
}
