//! An app's own feed: what becomes of its endpoints, told to its other endpoints.

use bytes::Bytes;
use futures::future::join_all;
use okra_core::{
    delivery::endpoint_health::HealthNotice,
    model::ids::{AppId, EndpointId, FeedSource, Seq},
};
use okra_queue::AppFeedDispatch;
use okra_store::{AppFeedEntry, AppNotice, MAX_APP_FEED_PAGE};
use okra_wire::operation;

use super::{AttemptMode, DeliverError, Deliverer, DeliveryEvent, DeliveryTarget, FifoStatus};
use crate::report::{DeliveryOutcome, DispatchReport};

/// Seconds after which an app's feed is looked at in any case: longer than a process that commits an entry
/// to it may live.
const APP_FEED_CHECK_S: u16 = 60;

impl Deliverer {
    /// Has an app's feed looked at although this process may be gone: to be called before an entry is
    /// committed. After it, nobody would know that it is to be told.
    pub(super) async fn schedule_app_feed_check(&self, app: AppId) -> Result<(), DeliverError> {
        Ok(self
            .queues
            .send_app_feed_dispatch(app, APP_FEED_CHECK_S)
            .await?)
    }

    /// Tells of what is new in an app's own feed. May be repeated.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn deliver_app_feed(
        &self,
        feed: AppFeedDispatch,
    ) -> Result<DispatchReport, DeliverError> {
        let app = feed.app;
        let (last, told) = self.store.load_app_feed_head(app).await?;
        let mut report = DispatchReport::default();
        if told >= last {
            return Ok(report);
        }
        let entries = self
            .store
            .read_app_feed(app, told, MAX_APP_FEED_PAGE)
            .await?;
        let targets = self.load_app_targets(app).await?;
        let mut work = Vec::new();
        for entry in &entries {
            let event = event_from_app_entry(entry);
            for target in targets
                .iter()
                .filter(|target| wants_app_entry(target, entry, &event))
            {
                work.push(self.attempt_app_entry(entry, target, AttemptMode::BY_DISPATCH));
            }
        }
        for told in join_all(work).await {
            report.count_outcome(told?);
        }
        report.events = entries.len();
        // What is not there any more was kept for its 30 days.
        let to = entries.last().map_or(last, |entry| entry.seq);
        self.store.advance_app_feed(app, to).await?;
        if to < last {
            self.queues.send_app_feed_dispatch(app, 0).await?;
        }
        Ok(report)
    }

    async fn attempt_app_entry(
        &self,
        entry: &AppFeedEntry,
        target: &DeliveryTarget,
        mode: AttemptMode,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let event = event_from_app_entry(entry);
        let row = self
            .store
            .find_delivery(&event.delivery_key(target.endpoint))
            .await?;
        let body = || render_operation(entry, &self.config.public_url, target);
        let came = self.attempt_delivery(&event, target, row, mode, &FifoStatus::Unordered, body);
        Ok(came.await?.outcome)
    }

    pub(super) async fn attempt_app_delivery(
        &self,
        app: AppId,
        seq: Seq,
        endpoint: EndpointId,
        must_be_stored: bool,
        mode: AttemptMode,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let before = Seq(seq.0.saturating_sub(1));
        let entries = self.store.read_app_feed(app, before, 1).await?;
        let Some(entry) = entries.first().filter(|entry| entry.seq == seq) else {
            return Ok(DeliveryOutcome::Unwanted);
        };
        let event = event_from_app_entry(entry);
        let row = self
            .store
            .find_delivery(&event.delivery_key(endpoint))
            .await?;
        if let Some(told) = self
            .outcome_if_not_due(row.as_ref(), must_be_stored, mode)
            .await?
        {
            return Ok(told);
        }
        let targets = self.load_app_targets(app).await?;
        let wanted = |target: &&DeliveryTarget| {
            target.endpoint == endpoint && wants_app_entry(target, entry, &event)
        };
        match targets.iter().find(wanted) {
            Some(target) => {
                let body = || render_operation(entry, &self.config.public_url, target);
                let came =
                    self.attempt_delivery(&event, target, row, mode, &FifoStatus::Unordered, body);
                Ok(came.await?.outcome)
            }
            None => self.cancel_delivery(&event, endpoint, row).await,
        }
    }

    async fn load_app_targets(&self, app: AppId) -> Result<Vec<DeliveryTarget>, DeliverError> {
        let endpoints = self.store.list_endpoints(app).await?;
        let ids: Vec<EndpointId> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        let mut healths = self.store.load_health_of_endpoints(&ids).await?;
        endpoints
            .iter()
            .map(|endpoint| {
                let health = healths.remove(&endpoint.id).unwrap_or_default();
                self.build_target(endpoint, health)
            })
            .collect()
    }
}

/// An endpoint is not told of itself, and only of what it named.
fn wants_app_entry(target: &DeliveryTarget, entry: &AppFeedEntry, event: &DeliveryEvent) -> bool {
    target.endpoint != entry.endpoint && target.names_event(event.name)
}

fn event_from_app_entry(entry: &AppFeedEntry) -> DeliveryEvent {
    DeliveryEvent {
        source: FeedSource::App(entry.app),
        seq: entry.seq,
        committed_at: entry.committed_at,
        name: operation_from_entry(entry).event_name(),
    }
}

/// An entry in the words of the wire.
pub(crate) fn operation_from_entry(entry: &AppFeedEntry) -> operation::OperationalEvent<'_> {
    use operation::OperationalEvent;
    match &entry.notice {
        AppNotice::Health(HealthNotice::Failing { since, days }) => OperationalEvent::Failing {
            since: *since,
            days: *days,
        },
        AppNotice::Health(HealthNotice::Parked { since }) => {
            OperationalEvent::Parked { since: *since }
        }
        AppNotice::Health(HealthNotice::Disabled { reason: by }) => {
            OperationalEvent::Disabled { by: *by }
        }
        AppNotice::Health(HealthNotice::Recovered { since, gap }) => OperationalEvent::Recovered {
            since: *since,
            gap: *gap,
        },
        AppNotice::Exhausted {
            event,
            name,
            attempts,
            class,
        } => OperationalEvent::Exhausted {
            event: event.as_str(),
            name,
            attempts: *attempts,
            class,
        },
    }
}

fn render_operation(entry: &AppFeedEntry, public_url: &str, target: &DeliveryTarget) -> Bytes {
    let context = operation::OperationContext {
        public_url,
        endpoint_url: &target.url,
        version: target.body_version,
        app: entry.app,
        seq: entry.seq,
        at: entry.committed_at,
        subject: entry.endpoint,
        subject_url: &entry.endpoint_url,
    };
    operation::render_operation_body(&context, &operation_from_entry(entry)).into()
}
