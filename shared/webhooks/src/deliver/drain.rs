//! The drain: sends what was parked for an endpoint that is back, oldest first and within its rate limit.
//!
//! [`DrainTally`] counts what came of one step. The rule: a step sends a bounded number of events and schedules the
//! next; the count of parked events is reset only when none is left.

use std::collections::BTreeMap;

use futures::{FutureExt, StreamExt, stream};
use okra_core::{
    delivery::{attempt::AttemptKind, state_machine::ATTEMPT_LEASE_S},
    model::ids::FeedSource,
};
use okra_queue::EndpointMaintenance;
use okra_store::{DeliveryKey, DeliveryState};

use super::{
    deliverer::Deliverer,
    error::DeliverError,
    event::{AttemptMode, DeliveryRef, add_seconds},
    fifo::DRAIN_PAUSE_S,
};
use crate::report::{DeliveryOutcome, MaintenanceOutcome};

/// Parked events that are sent by one message at most.
const MAX_DRAINED_AT_ONCE: usize = 32;

/// Parked events of an ordered endpoint that are read at once, and how often where all of them wait.
const DRAIN_PAGE: usize = 100;
const MAX_DRAIN_PAGES: usize = 32;

/// What came of parked events.
#[derive(Clone, Copy, Debug, Default)]
struct DrainTally {
    delivered: usize,
    /// Not delivered, and not parked any more either.
    otherwise_settled: usize,
    /// The endpoint takes no more for now.
    rate_limited: usize,
    /// Another worker has claimed them, or they wait for one before them.
    waiting: usize,
}

impl DrainTally {
    fn count_outcome(&mut self, outcome: DeliveryOutcome) {
        match outcome {
            DeliveryOutcome::Delivered => self.delivered += 1,
            DeliveryOutcome::RetryScheduled
            | DeliveryOutcome::Exhausted
            | DeliveryOutcome::Unwanted => self.otherwise_settled += 1,
            DeliveryOutcome::RateLimited | DeliveryOutcome::Parked => self.rate_limited += 1,
            DeliveryOutcome::Skipped | DeliveryOutcome::AwaitingPredecessor => self.waiting += 1,
        }
    }

    const fn settled(self) -> usize {
        self.delivered + self.otherwise_settled
    }
}

impl Deliverer {
    /// Takes the drain of an endpoint one step further.
    pub(super) async fn drain_endpoint(
        &self,
        task: EndpointMaintenance,
    ) -> Result<MaintenanceOutcome, DeliverError> {
        let endpoint = self.store.find_endpoint(task.app, task.endpoint).await?;
        let is_ordered = endpoint
            .as_ref()
            .is_some_and(|it| it.ordered_since.is_some());
        let rate = endpoint
            .and_then(|endpoint| endpoint.events_per_second)
            .map_or(self.config.default_rate.per_s, u32::from);
        // No more than a second takes: each that gets no permit costs the reads of an attempt in vain.
        let at_once = usize::try_from(rate)
            .unwrap_or(MAX_DRAINED_AT_ONCE)
            .clamp(1, MAX_DRAINED_AT_ONCE);
        if is_ordered {
            return Box::pin(self.drain_ordered_endpoint(task, at_once)).await;
        }
        let parked = self
            .store
            .list_parked_events(task.endpoint, at_once)
            .await?;
        // Boxed, because a borrowing closure inside the stream would make it not `Send`.
        let attempts: Vec<_> = parked
            .iter()
            .map(|key| self.drain_parked_event(key).boxed())
            .collect();
        let outcomes: Vec<_> = stream::iter(attempts)
            .buffer_unordered(MAX_DRAINED_AT_ONCE)
            .collect()
            .await;
        let mut tally = DrainTally::default();
        for outcome in outcomes {
            tally.count_outcome(outcome?);
        }
        let count = parked.len();
        if tally.rate_limited + tally.waiting > 0 || count == at_once {
            let pause_s = match (tally.rate_limited, tally.waiting) {
                (0, 0) => 0,
                // Should the workers that claimed them crash, this continues.
                (0, waiting) if waiting == count => ATTEMPT_LEASE_S,
                _ => DRAIN_PAUSE_S,
            };
            self.schedule_maintenance(task, add_seconds(self.now(), pause_s))
                .await?;
        } else {
            self.store.reset_parked_count(task.endpoint).await?;
        }
        Ok(MaintenanceOutcome::Drained {
            sent: tally.delivered,
        })
    }

    /// The same for an endpoint that gets a record's events in order: of each record the first, and what follows it.
    async fn drain_ordered_endpoint(
        &self,
        task: EndpointMaintenance,
        at_once: usize,
    ) -> Result<MaintenanceOutcome, DeliverError> {
        let mut tally = DrainTally::default();
        let mut after: Option<DeliveryKey> = None;
        for _ in 0..MAX_DRAIN_PAGES {
            let keys = self
                .store
                .list_parked_events_after(task.endpoint, after.as_ref(), DRAIN_PAGE)
                .await?;
            let is_last_page = keys.len() < DRAIN_PAGE;
            after = keys.last().copied();
            self.drain_ordered_page(&keys, at_once, &mut tally).await?;
            if is_last_page || tally.settled() + tally.rate_limited > 0 {
                break;
            }
        }
        let remaining = self.store.list_parked_events(task.endpoint, 1).await?;
        if remaining.is_empty() {
            self.store.reset_parked_count(task.endpoint).await?;
        } else {
            let pause_s = match (tally.rate_limited, tally.settled()) {
                // All wait: whoever settles what they wait for continues with them.
                (0, 0) => ATTEMPT_LEASE_S,
                (0, _) => 0,
                _ => DRAIN_PAUSE_S,
            };
            self.schedule_maintenance(task, add_seconds(self.now(), pause_s))
                .await?;
        }
        Ok(MaintenanceOutcome::Drained {
            sent: tally.delivered,
        })
    }

    /// Sends parked events feed by feed, so many feeds at once, until some were settled or the endpoint takes no more.
    async fn drain_ordered_page(
        &self,
        keys: &[DeliveryKey],
        at_once: usize,
        tally: &mut DrainTally,
    ) -> Result<(), DeliverError> {
        for sources in group_by_source(keys).chunks(at_once) {
            // Boxed, because a borrowing closure inside the stream would make it not `Send`.
            let attempts: Vec<_> = sources
                .iter()
                .map(|keys| self.drain_ordered_source(keys).boxed())
                .collect();
            let outcomes: Vec<_> = stream::iter(attempts)
                .buffer_unordered(at_once)
                .collect()
                .await;
            for of_source in outcomes {
                for outcome in of_source? {
                    tally.count_outcome(outcome);
                }
            }
            if tally.settled() + tally.rate_limited > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Sends the parked events of one feed, from the first on.
    async fn drain_ordered_source(
        &self,
        keys: &[DeliveryKey],
    ) -> Result<Vec<DeliveryOutcome>, DeliverError> {
        let mut outcomes = Vec::new();
        if let Some(FeedSource::App(_)) = keys.first().map(|key| key.source) {
            for key in keys {
                outcomes.push(self.drain_parked_event(key).await?);
            }
            return Ok(outcomes);
        }
        let parked: Vec<DeliveryKey> = self
            .store
            .load_deliveries(keys)
            .await?
            .into_iter()
            .filter(|row| row.state == DeliveryState::Parked)
            .map(|row| row.key)
            .collect();
        for key in keys.iter().filter(|key| !parked.contains(key)) {
            self.store.unpark_event(key).await?;
            outcomes.push(DeliveryOutcome::Unwanted);
        }
        let Some(first) = parked.iter().min_by_key(|key| key.seq) else {
            return Ok(outcomes);
        };
        let mode = AttemptMode::for_kind(AttemptKind::Drain);
        let attempt = self.attempt_with_successors(DeliveryRef::from_key(first), mode);
        match Box::pin(attempt).await {
            Ok(more) => outcomes.extend(more),
            // Its feed entry was removed: there is nothing to deliver any more.
            Err(DeliverError::MissingEntries { .. }) => {
                self.store.unpark_event(first).await?;
                outcomes.push(DeliveryOutcome::Unwanted);
            }
            Err(error) => return Err(error),
        }
        Ok(outcomes)
    }
}

/// The keys of each feed together, feeds and keys in the order of their first appearance.
fn group_by_source(keys: &[DeliveryKey]) -> Vec<Vec<DeliveryKey>> {
    let mut groups: Vec<Vec<DeliveryKey>> = Vec::new();
    let mut group_of: BTreeMap<FeedSource, usize> = BTreeMap::new();
    for key in keys {
        let nth = *group_of.entry(key.source).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[nth].push(*key);
    }
    groups
}
