//! An app's own feed: what became of its endpoints, delivered to its other endpoints.
//!
//! The rule: an entry is an event like any other, with the same rows, retries and log; but an endpoint gets no entry
//! about itself, and only entries that it names.

use bytes::Bytes;
use futures::future::join_all;
use okra_core::{
    delivery::{endpoint_health::HealthNotice, fifo::FifoStatus},
    model::ids::{AppId, FeedSource, Seq},
};
use okra_queue::AppFeedDispatch;
use okra_store::{AppFeedEntry, AppNotice, Delivery, MAX_APP_FEED_PAGE};
use okra_wire::operational_event;

use super::{
    attempt::AttemptContext,
    deliverer::Deliverer,
    error::DeliverError,
    event::{AttemptMode, DeliveryEvent, DeliveryRef},
    targets::DeliveryTarget,
};
use crate::report::{DeliveryOutcome, DispatchReport};

impl Deliverer {
    /// Delivers what is new in an app's own feed. May be repeated.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn deliver_app_feed(
        &self,
        feed: AppFeedDispatch,
    ) -> Result<DispatchReport, DeliverError> {
        let app = feed.app;
        let (last, delivered_to) = self.store.load_app_feed_head(app).await?;
        let mut report = DispatchReport::default();
        if delivered_to >= last {
            return Ok(report);
        }
        let entries = self
            .store
            .read_app_feed(app, delivered_to, MAX_APP_FEED_PAGE)
            .await?;
        let targets = self.load_app_targets(app).await?;
        let mut attempts = Vec::new();
        for entry in &entries {
            for target in &targets {
                if wants_app_entry(target, entry) {
                    attempts.push(self.attempt_app_entry(entry, target, AttemptMode::BY_DISPATCH));
                }
            }
        }
        for outcome in join_all(attempts).await {
            report.count_outcome(outcome?);
        }
        report.events = entries.len();
        // Entries that are missing were older than their 30 days.
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
        let key = event_from_app_entry(entry).delivery_key(target.endpoint);
        let row = self.store.find_delivery(&key).await?;
        self.attempt_app_event(entry, target, row, mode).await
    }

    async fn attempt_app_event(
        &self,
        entry: &AppFeedEntry,
        target: &DeliveryTarget,
        row: Option<Delivery>,
        mode: AttemptMode,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let event = event_from_app_entry(entry);
        let context = AttemptContext {
            event: &event,
            target,
            mode,
            fifo: &FifoStatus::Unordered,
        };
        let progress = self
            .attempt_delivery(context, row, || {
                render_operation(entry, &self.config.public_url, target)
            })
            .await?;
        Ok(progress.outcome)
    }

    /// Makes an attempt at the delivery of an app feed entry, where it is due.
    pub(super) async fn attempt_app_delivery(
        &self,
        app: AppId,
        delivery: DeliveryRef,
        mode: AttemptMode,
    ) -> Result<DeliveryOutcome, DeliverError> {
        // Sequences begin at 1, so saturation is the beginning of the feed.
        let before = Seq(delivery.seq.0.saturating_sub(1));
        let entries = self.store.read_app_feed(app, before, 1).await?;
        let Some(entry) = entries.first().filter(|entry| entry.seq == delivery.seq) else {
            return Ok(DeliveryOutcome::Unwanted);
        };
        let event = event_from_app_entry(entry);
        let row = self
            .store
            .find_delivery(&event.delivery_key(delivery.endpoint))
            .await?;
        if let Some(outcome) = self
            .outcome_if_not_due(row.as_ref(), delivery.must_be_stored, mode)
            .await?
        {
            return Ok(outcome);
        }
        let targets = self.load_app_targets(app).await?;
        match targets
            .iter()
            .find(|target| target.endpoint == delivery.endpoint && wants_app_entry(target, entry))
        {
            Some(target) => self.attempt_app_event(entry, target, row, mode).await,
            None => self.cancel_delivery(&event, delivery.endpoint, row).await,
        }
    }
}

fn wants_app_entry(target: &DeliveryTarget, entry: &AppFeedEntry) -> bool {
    target.endpoint != entry.endpoint
        && target.names_event(operation_from_entry(entry).event_name())
}

fn event_from_app_entry(entry: &AppFeedEntry) -> DeliveryEvent {
    DeliveryEvent {
        source: FeedSource::App(entry.app),
        seq: entry.seq,
        committed_at: entry.committed_at,
        name: operation_from_entry(entry).event_name(),
    }
}

/// An entry as the operational event of the wire.
fn operation_from_entry(entry: &AppFeedEntry) -> operational_event::OperationalEvent<'_> {
    use operational_event::OperationalEvent;
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

fn render_operation(
    entry: &AppFeedEntry,
    public_url: &str,
    target: &DeliveryTarget,
) -> Result<Bytes, DeliverError> {
    let context = operational_event::OperationContext {
        public_url,
        endpoint_url: &target.url,
        version: target.body_version,
        app: entry.app,
        seq: entry.seq,
        at: entry.committed_at,
        subject: entry.endpoint,
        subject_url: &entry.endpoint_url,
    };
    Ok(operational_event::render_operation_body(&context, &operation_from_entry(entry))?.into())
}
