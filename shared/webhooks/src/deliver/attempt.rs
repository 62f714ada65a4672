//! One attempt at one delivery: decide, get a permit, claim, send, record, and schedule what follows.
//!
//! [`AttemptContext`] is what all stages know. The rule: the outcome is recorded in one write, and a retry is scheduled
//! after it; whoever crashes between the two gets the message again and finds the row.

use bytes::Bytes;
use jiff::Timestamp;
use okra_core::delivery::{
    attempt::{Attempt, AttemptKind, AttemptResponse},
    fifo::FifoStatus,
    retry::Jitter,
    state_machine::{ATTEMPT_LEASE_S, DeliveryAction, next_delivery_action},
};
use okra_core::model::ids::{EndpointId, FeedSource};
use okra_store::{AppNotice, Delivery, DeliveryKey, DeliveryState, FifoPosition, NewAppFeedEntry};
use url::Url;

use super::{
    deliverer::Deliverer,
    error::DeliverError,
    event::{AttemptMode, DeliveryEvent, add_seconds},
    permits::PermitOutcome,
    targets::DeliveryTarget,
};
use crate::{
    endpoint_url::BUS_SCHEME,
    report::{AttemptReport, DeliveryOutcome},
    send::WebhookMessage,
};

/// What came of one event at one endpoint, and whether it blocks those behind it no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeliveryProgress {
    pub(super) outcome: DeliveryOutcome,
    pub(super) is_settled: bool,
}

impl From<DeliveryOutcome> for DeliveryProgress {
    fn from(outcome: DeliveryOutcome) -> Self {
        Self {
            outcome,
            is_settled: outcome == DeliveryOutcome::Exhausted,
        }
    }
}

/// An event that is about to be sent, where to, why, and in which order.
#[derive(Clone, Copy)]
pub(super) struct AttemptContext<'a> {
    pub(super) event: &'a DeliveryEvent,
    pub(super) target: &'a DeliveryTarget,
    pub(super) mode: AttemptMode,
    pub(super) fifo: &'a FifoStatus,
}

/// An event that was sent.
struct SentEvent {
    response: AttemptResponse,
    body_bytes: usize,
    answered_at: Timestamp,
}

impl AttemptContext<'_> {
    fn delivery_key(&self) -> DeliveryKey {
        self.event.delivery_key(self.target.endpoint)
    }
}

impl Deliverer {
    /// Makes the attempt that is due by the delivery's row, if one is and the endpoint takes events.
    #[tracing::instrument(
        level = "debug",
        name = "delivery",
        skip_all,
        fields(
            event.id = context.event.event_id().as_str(),
            endpoint.id = %context.target.endpoint,
            kind = ?context.mode.kind,
        )
    )]
    pub(super) async fn attempt_delivery(
        &self,
        context: AttemptContext<'_>,
        row: Option<Delivery>,
        render_body: impl FnOnce() -> Result<Bytes, DeliverError>,
    ) -> Result<DeliveryProgress, DeliverError> {
        let AttemptContext { target, mode, .. } = context;
        let attempts_made = row.as_ref().map_or(0, |row| row.attempt_count);

        // Decide, by the row and the endpoint's health.
        let now = self.now();
        let admission = target.health.health.admission(now);
        let attempt = match next_delivery_action(row.as_ref(), mode.kind, admission, now) {
            DeliveryAction::Attempt(attempt) => attempt,
            action => return self.defer_delivery(context, row, action).await,
        };

        // Get a permit of the endpoint's rate limit, and one of this process.
        if self.defer_without_permit(context, attempts_made).await? {
            return Ok(DeliveryOutcome::RateLimited.into());
        }
        let _send_permit = self
            .send_lanes
            .acquire_send_permit(target.endpoint, self.is_slow_endpoint(target))
            .await
            .map_err(|_| DeliverError::SendLanesClosed)?;

        // Claim, send, record.
        let Some(delivery) = self.claim_delivery(context, row).await? else {
            return Ok(DeliveryOutcome::Skipped.into());
        };
        let sent = self
            .send_event(context, &delivery, attempt, render_body()?)
            .await?;
        self.record_outcome(context, delivery, attempt, sent).await
    }

    /// Does what is done instead of an attempt.
    async fn defer_delivery(
        &self,
        context: AttemptContext<'_>,
        row: Option<Delivery>,
        action: DeliveryAction,
    ) -> Result<DeliveryProgress, DeliverError> {
        let attempts_made = row.as_ref().map_or(0, |row| row.attempt_count);
        let outcome = match action {
            DeliveryAction::Skip | DeliveryAction::Attempt(_) => DeliveryOutcome::Skipped,
            DeliveryAction::AwaitRetry { until } => {
                self.schedule_retry(&context.delivery_key(), attempts_made, until, false)
                    .await?;
                DeliveryOutcome::Skipped
            }
            DeliveryAction::AwaitEndpoint { until } => {
                self.schedule_attempt(context, attempts_made, until, false)
                    .await?;
                DeliveryOutcome::RateLimited
            }
            DeliveryAction::Park => {
                let position = context.fifo.next_position(FifoPosition::Unordered, false);
                self.park_event(context.event, context.target, row, position)
                    .await?
            }
        };
        Ok(outcome.into())
    }

    /// Schedules the attempt for later where others would wait for it, or where the endpoint's rate limit has no permit
    /// for it now. True where it did.
    async fn defer_without_permit(
        &self,
        context: AttemptContext<'_>,
        attempts_made: u32,
    ) -> Result<bool, DeliverError> {
        let AttemptContext { target, mode, .. } = context;
        // Other deliveries wait in this message.
        if mode.is_shared_message
            && matches!(mode.kind, AttemptKind::Scheduled | AttemptKind::Resend)
            && self.is_slow_endpoint(target)
        {
            self.schedule_retry(&context.delivery_key(), attempts_made, self.now(), false)
                .await?;
            return Ok(true);
        }
        if mode.has_permit || mode.kind == AttemptKind::Probe {
            return Ok(false);
        }
        // An event that is drained stays parked and asks again whenever its endpoint is maintained.
        let will_return = mode.kind != AttemptKind::Drain;
        match self.acquire_permit(target, will_return).await? {
            PermitOutcome::Granted => Ok(false),
            PermitOutcome::Later { at, is_reserved } => {
                self.schedule_attempt(context, attempts_made, at, is_reserved)
                    .await?;
                Ok(true)
            }
        }
    }

    /// Schedules the same attempt again.
    async fn schedule_attempt(
        &self,
        context: AttemptContext<'_>,
        attempts_made: u32,
        at: Timestamp,
        has_permit: bool,
    ) -> Result<(), DeliverError> {
        let key = context.delivery_key();
        match context.mode.kind {
            AttemptKind::Scheduled => {
                self.schedule_retry(&key, attempts_made, at, has_permit)
                    .await
            }
            AttemptKind::Resend => self.schedule_resend(&key, at, has_permit).await,
            // The maintenance of the endpoint comes back to it.
            AttemptKind::Drain | AttemptKind::Probe => Ok(()),
        }
    }

    /// Takes a delivery for this worker: until the lease is over, others wait. `None` where another worker was first.
    async fn claim_delivery(
        &self,
        context: AttemptContext<'_>,
        row: Option<Delivery>,
    ) -> Result<Option<Delivery>, DeliverError> {
        let key = context.delivery_key();
        // The first attempt is not claimed: it would cost a second write for each delivery, to prevent what a receiver
        // has to bear anyway.
        let Some(row) = row else {
            return Ok(Some(Delivery::new(key, context.event.name)));
        };
        let (now, attempts_made) = (self.now(), row.attempt_count);
        let claimed = row.with_claim(now);
        if self.store.put_delivery(&claimed, now).await? {
            return Ok(Some(claimed));
        }
        // Another worker has it, or the response that this one has it was lost: then nobody would look at it again.
        if context.mode.kind == AttemptKind::Scheduled {
            let lease_end = add_seconds(self.now(), ATTEMPT_LEASE_S);
            self.schedule_retry(&key, attempts_made, lease_end, false)
                .await?;
        }
        Ok(None)
    }

    #[tracing::instrument(level = "debug", name = "attempt", skip_all, fields(number = attempt.number))]
    async fn send_event(
        &self,
        context: AttemptContext<'_>,
        delivery: &Delivery,
        attempt: Attempt,
        body: Bytes,
    ) -> Result<SentEvent, DeliverError> {
        let AttemptContext { event, target, .. } = context;
        let body_bytes = body.len();
        let message = WebhookMessage {
            url: &target.url,
            event_id: &event.event_id(),
            seq: event.seq,
            attempt: attempt.number,
            is_replay: delivery.is_redelivery || attempt.kind == AttemptKind::Resend,
            missing_seqs: context.fifo.missing_seqs(),
            body,
            secrets: &target.secrets,
            bearer: target.bearer.as_ref(),
            sent_at: self.now(),
        };
        let response = self.sender.send_message(&message).await?;
        Ok(SentEvent {
            response,
            body_bytes,
            answered_at: self.now(),
        })
    }

    /// Stores how an attempt ended, reports it, and schedules the next one.
    async fn record_outcome(
        &self,
        context: AttemptContext<'_>,
        mut delivery: Delivery,
        attempt: Attempt,
        sent: SentEvent,
    ) -> Result<DeliveryProgress, DeliverError> {
        let AttemptContext {
            target, mode, fifo, ..
        } = context;
        let (key, at) = (delivery.key, sent.answered_at);
        let health = self
            .record_attempt(target, &sent.response, mode.kind, at)
            .await?;
        let jitter = Jitter::from_random(self.random.next_u32());
        delivery.apply_outcome(attempt, &sent.response, health.admission(at), jitter, at);
        delivery.fifo_position =
            fifo.next_position(delivery.fifo_position, delivery.releases_next_event());

        if delivery.state == DeliveryState::Parked {
            self.store.park_event(&key, at).await?;
        }
        let is_stored = self
            .store_outcome(target, &delivery, sent.response.outcome_class())
            .await?;
        self.report_attempt(context, &delivery, attempt, sent);
        // Also where another process went on from the row, or seems to have: one wake-up too many does no harm.
        if let (DeliveryState::Retry, Some(next_at)) = (delivery.state, delivery.next_attempt_at) {
            self.schedule_retry(&key, delivery.attempt_count, next_at, false)
                .await?;
        }
        let is_settled = match fifo {
            FifoStatus::Unordered => false,
            _ if is_stored => delivery.releases_next_event(),
            // Another process went on from the row, or the response to this one's write was lost.
            _ => {
                let row = self.store.find_delivery(&key).await?;
                row.is_some_and(|row| row.releases_next_event())
            }
        };
        Ok(DeliveryProgress {
            outcome: DeliveryOutcome::from_state(delivery.state),
            is_settled,
        })
    }

    /// Stores a delivery where no other process went on from what this one had read, together with the notice that its
    /// app gets of the last attempt. False where another process did.
    async fn store_outcome(
        &self,
        target: &DeliveryTarget,
        delivery: &Delivery,
        class: &str,
    ) -> Result<bool, DeliverError> {
        let now = self.now();
        // An app gets no notice that a notice could not be delivered.
        if delivery.state != DeliveryState::Exhausted
            || matches!(delivery.key.source, FeedSource::App(_))
        {
            return Ok(self.store.put_delivery(delivery, now).await?);
        }
        let entry = NewAppFeedEntry {
            endpoint: target.endpoint,
            endpoint_url: target.url.clone(),
            notice: AppNotice::Exhausted {
                event: delivery.event_id(),
                name: delivery.event_name.clone(),
                attempts: delivery.attempt_count,
                class: class.to_owned(),
            },
        };
        self.schedule_app_feed_check(target.app).await?;
        let seqs = self
            .store
            .put_delivery_with_notice(target.app, delivery, &entry, now)
            .await?;
        if seqs.is_some() {
            tracing::warn!(
                event.id = delivery.event_id().as_str(),
                endpoint.id = %target.endpoint,
                attempts = delivery.attempt_count,
                class,
                "delivery exhausted"
            );
            self.queues.send_app_feed_dispatch(target.app, 0).await?;
        }
        Ok(seqs.is_some())
    }

    /// Closes a delivery that nobody wants any more.
    pub(super) async fn cancel_delivery(
        &self,
        event: &DeliveryEvent,
        endpoint: EndpointId,
        row: Option<Delivery>,
    ) -> Result<DeliveryOutcome, DeliverError> {
        if let Some(row) = row.filter(|row| !row.is_final()) {
            let cancelled = row.into_cancelled();
            self.store.put_delivery(&cancelled, self.now()).await?;
        }
        self.store
            .unpark_event(&event.delivery_key(endpoint))
            .await?;
        Ok(DeliveryOutcome::Unwanted)
    }

    fn report_attempt(
        &self,
        context: AttemptContext<'_>,
        delivery: &Delivery,
        attempt: Attempt,
        sent: SentEvent,
    ) {
        let AttemptContext {
            event,
            target,
            mode,
            ..
        } = context;
        let report = AttemptReport {
            event_id: event.event_id(),
            source: event.source,
            seq: event.seq,
            event_name: event.name,
            app: target.app,
            endpoint: target.endpoint,
            host: url_host(&target.url),
            attempt: attempt.number,
            outcome: sent.response.outcome,
            status: sent.response.status,
            location_host: sent.response.location_host,
            latency_ms: sent.response.latency_ms,
            body_bytes: sent.body_bytes,
            committed_at: event.committed_at,
            answered_at: sent.answered_at,
            next_at: delivery.next_attempt_at,
        };
        let lag = report.answered_at.duration_since(report.committed_at);
        // Nothing but the queue delayed the event before this attempt.
        let is_immediate = attempt.number == 1 && mode == AttemptMode::BY_DISPATCH;
        tracing::info!(
            event.id = report.event_id.as_str(),
            endpoint.id = %report.endpoint,
            attempt = report.attempt,
            outcome = report.outcome.as_str(),
            status = report.status,
            location.host = report.location_host,
            latency_ms = report.latency_ms,
            lag_ms = is_immediate.then_some(lag.as_millis()),
            next_at = report.next_at.map(tracing::field::display),
            "webhook"
        );
        self.observer.on_attempt(&report);
    }
}

/// The host alone: paths and queries of webhook URLs carry tokens. Empty for a URL without one, which is not called.
fn url_host(url: &str) -> String {
    if url.starts_with(BUS_SCHEME) {
        return BUS_SCHEME.trim_end_matches(':').to_owned();
    }
    let url = Url::parse(url).ok();
    url.and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default()
}
