//! One attempt at one delivery: claim, send, record, and see to it that the next one comes.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use okra_core::{
    delivery::{
        endpoint_health::{EndpointAdmission, EndpointHealth},
        retry::{self, AttemptOutcome, Jitter},
    },
    model::ids::{EndpointId, FeedSource},
    schedule::plan::MAX_QUEUE_DELAY_S,
};
use okra_queue::{DeliveryRetry, Redelivery};
use okra_store::{
    self as store, AppNotice, Delivery, DeliveryKey, DeliveryState, FifoPosition, LoggedAttempt,
    NewAppFeedEntry,
};
use url::Url;

use super::{
    AttemptKind, AttemptMode, DeliverError, Deliverer, DeliveryEvent, DeliveryStep, DeliveryTarget,
    FifoStatus, LEASE_S, next_step,
};
use crate::{
    report::{AttemptReport, DeliveryOutcome},
    sender::{AttemptResponse, ReceiverControl, WebhookMessage},
    target::BUS_SCHEME,
};

/// The class of an attempt after which the receiver wanted no more of the event.
const ABORTED_CLASS: &str = "aborted";

/// What came of one event at one endpoint, and whether it holds up those behind it no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeliveryProgress {
    pub(super) outcome: DeliveryOutcome,
    pub(super) is_settled: bool,
}

impl From<DeliveryOutcome> for DeliveryProgress {
    fn from(told: DeliveryOutcome) -> Self {
        Self {
            outcome: told,
            is_settled: told == DeliveryOutcome::Exhausted,
        }
    }
}

impl Deliverer {
    /// Makes the attempt that is due by the delivery's row, if one is and the endpoint takes events.
    pub(super) async fn attempt_delivery(
        &self,
        event: &DeliveryEvent,
        target: &DeliveryTarget,
        row: Option<Delivery>,
        mode: AttemptMode,
        fifo: &FifoStatus,
        body: impl FnOnce() -> Bytes,
    ) -> Result<DeliveryProgress, DeliverError> {
        let key = event.delivery_key(target.endpoint);
        let made = row.as_ref().map_or(0, |row| row.attempt_count);
        let number = match next_step(row.as_ref(), self.clock.now(), mode) {
            DeliveryStep::Done => return Ok(DeliveryOutcome::Skipped.into()),
            DeliveryStep::Attempt { number } => number,
            DeliveryStep::Wait { until } => {
                self.schedule_retry(&key, made, until, false).await?;
                return Ok(DeliveryOutcome::Skipped.into());
            }
        };
        if matches!(mode.kind, AttemptKind::Scheduled | AttemptKind::Resend) {
            match target.health.health.admission(self.clock.now()) {
                EndpointAdmission::Park => {
                    let line = fifo.next_position(FifoPosition::Unordered, false);
                    return Ok(self.park_event(event, target, row, line).await?.into());
                }
                EndpointAdmission::Wait { until } if mode.kind == AttemptKind::Scheduled => {
                    self.schedule_retry(&key, made, until, false).await?;
                    return Ok(DeliveryOutcome::RateLimited.into());
                }
                EndpointAdmission::Wait { until } => {
                    self.schedule_resend(event, target, until, false).await?;
                    return Ok(DeliveryOutcome::RateLimited.into());
                }
                EndpointAdmission::Send => {}
            }
            // Others wait in this message.
            if mode.is_shared_message && self.is_slow_endpoint(target) {
                self.schedule_retry(&key, made, self.clock.now(), false)
                    .await?;
                return Ok(DeliveryOutcome::RateLimited.into());
            }
        }
        if !mode.has_permit && mode.kind != AttemptKind::Probe {
            // What is drained stays where it is and is asked for again.
            let comes_back = mode.kind != AttemptKind::Drain;
            if let Some((at, paced)) = self.acquire_permit(target, comes_back).await? {
                match mode.kind {
                    AttemptKind::Resend => self.schedule_resend(event, target, at, paced).await?,
                    AttemptKind::Scheduled => self.schedule_retry(&key, made, at, paced).await?,
                    AttemptKind::Drain | AttemptKind::Probe => {}
                }
                return Ok(DeliveryOutcome::RateLimited.into());
            }
        }
        let slow = self.is_slow_endpoint(target);
        let _place = self
            .send_lanes
            .acquire_send_permit(target.endpoint, slow)
            .await;
        let mut delivery = match row {
            // The first attempt is not claimed: it would cost a second write for each delivery, to
            // prevent what a receiver has to bear anyway.
            None => Delivery {
                key,
                event_name: event.name.to_owned(),
                state: DeliveryState::Retry,
                attempt_count: 0,
                attempt_log: Vec::new(),
                response_excerpt: None,
                next_attempt_at: None,
                is_redelivery: false,
                fifo_position: FifoPosition::Unordered,
                version: 0,
            },
            Some(row) => match self.claim_attempt(row).await? {
                Some(claimed) => claimed,
                None => {
                    // Another worker has it, or the answer that this one has it was lost on the way:
                    // then nobody would look at it again.
                    if mode.kind == AttemptKind::Scheduled {
                        let over = add_seconds(self.clock.now(), LEASE_S);
                        self.schedule_retry(&key, made, over, false).await?;
                    }
                    return Ok(DeliveryOutcome::Skipped.into());
                }
            },
        };
        delivery.is_redelivery |= mode.kind == AttemptKind::Resend;
        let body = body();
        let (bytes, id) = (body.len(), event.event_id());
        let message = WebhookMessage {
            url: &target.url,
            event_id: &id,
            seq: event.seq,
            attempt: number,
            is_replay: delivery.is_redelivery,
            missing_seqs: fifo.missing_seqs(),
            body,
            secrets: &target.secrets,
            bearer: target.bearer.as_ref(),
            sent_at: self.clock.now(),
        };
        let answer = self.sender.send_message(&message).await?;
        let answered_at = self.clock.now();
        let health = self
            .record_attempt(target, &answer, mode, answered_at)
            .await?;

        let class = match answer.control {
            Some(ReceiverControl::AbortMessage) if !answer.outcome.is_ok() => ABORTED_CLASS,
            _ => answer.outcome.as_str(),
        };
        delivery.log_attempt(LoggedAttempt {
            status: answer.status,
            outcome_class: class.to_owned(),
            attempted_at: answered_at,
            latency_ms: answer.latency_ms,
        });
        let told = apply_outcome(
            &mut delivery,
            number,
            &answer,
            mode,
            &health,
            answered_at,
            Jitter::from_random(self.random.next_u32()),
        );
        delivery.response_excerpt.clone_from(&answer.excerpt);
        delivery.version += 1;
        delivery.fifo_position =
            fifo.next_position(delivery.fifo_position, delivery.releases_next_event());
        if told == DeliveryOutcome::Parked {
            self.store.park_event(&key, answered_at).await?;
        }
        let stored = self.store_outcome(target, &delivery, told, class).await?;
        let at_once = number == 1 && mode == AttemptMode::BY_DISPATCH;
        let attempted = AttemptReport {
            event_id: id,
            source: event.source,
            seq: event.seq,
            event_name: event.name,
            app: target.app,
            endpoint: target.endpoint,
            host: url_host(&target.url),
            attempt: number,
            outcome: answer.outcome,
            status: answer.status,
            location_host: answer.location_host,
            latency_ms: answer.latency_ms,
            body_bytes: bytes,
            committed_at: event.committed_at,
            answered_at,
            next_at: delivery.next_attempt_at,
        };
        self.log_attempt(&attempted, at_once);
        // Also where another process went on from the row, or seems to have: one wake-up too many does
        // no harm.
        if let (DeliveryOutcome::RetryScheduled, Some(next_at)) = (told, delivery.next_attempt_at) {
            self.schedule_retry(&key, delivery.attempt_count, next_at, false)
                .await?;
        }
        let settled = match fifo {
            FifoStatus::Unordered => false,
            _ if stored => delivery.releases_next_event(),
            // Another process went on from the row, or this one's own answer was lost.
            _ => {
                let row = self.store.find_delivery(&key).await?;
                row.is_some_and(|row| row.releases_next_event())
            }
        };
        Ok(DeliveryProgress {
            outcome: told,
            is_settled: settled,
        })
    }

    /// Stores what came of an attempt where no other process went on from what this one had read, and
    /// tells the app where it was the last. False where another did.
    async fn store_outcome(
        &self,
        target: &DeliveryTarget,
        delivery: &Delivery,
        outcome: DeliveryOutcome,
        class: &str,
    ) -> Result<bool, DeliverError> {
        let now = self.clock.now();
        // An app is not told that it could not be told.
        if outcome != DeliveryOutcome::Exhausted
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
        let told = self
            .store
            .put_delivery_with_notice(target.app, delivery, &entry, now)
            .await?;
        if told.is_some() {
            tracing::warn!(
                event.id = delivery.event_id().as_str(),
                endpoint.id = %target.endpoint,
                attempts = delivery.attempt_count,
                class,
                "delivery exhausted"
            );
            self.queues.send_app_feed_dispatch(target.app, 0).await?;
        }
        Ok(told.is_some())
    }

    /// Has a resend looked at again at `at`, or as late as a message can wait. `paced` as in
    /// [`wake`](Self::wake).
    async fn schedule_resend(
        &self,
        event: &DeliveryEvent,
        target: &DeliveryTarget,
        at: Timestamp,
        has_permit: bool,
    ) -> Result<(), DeliverError> {
        let resend = Redelivery {
            source: event.source,
            seq: event.seq,
            endpoint: target.endpoint,
            has_permit,
        };
        let delay_s = self.message_delay_until(at);
        Ok(self.queues.send_redeliveries(&[(resend, delay_s)]).await?)
    }

    /// Takes an attempt for this worker: until the lease is over, others that come upon the delivery
    /// wait. `None` where another worker was first. The attempt is counted when it was made: should
    /// this worker vanish, it was our fault and not the receiver's.
    async fn claim_attempt(&self, row: Delivery) -> Result<Option<Delivery>, DeliverError> {
        let now = self.clock.now();
        let claim = Delivery {
            next_attempt_at: Some(add_seconds(now, LEASE_S)),
            version: row.version.saturating_add(1),
            ..row
        };
        let claimed = self.store.put_delivery(&claim, now).await?;
        Ok(claimed.then_some(claim))
    }

    /// Closes a delivery that nobody wants any more.
    pub(super) async fn cancel_delivery(
        &self,
        event: &DeliveryEvent,
        endpoint: EndpointId,
        row: Option<Delivery>,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let over = row.as_ref().is_some_and(Delivery::is_final);
        if let Some(row) = row.filter(|_| !over) {
            let closed = Delivery {
                state: DeliveryState::Cancelled,
                next_attempt_at: None,
                version: row.version.saturating_add(1),
                ..row
            };
            self.store.put_delivery(&closed, self.clock.now()).await?;
        }
        self.store
            .unpark_event(&event.delivery_key(endpoint))
            .await?;
        Ok(DeliveryOutcome::Unwanted)
    }

    /// Sees to it that a delivery is looked at again at `at`: by a message that waits in the queue
    /// as long as a message can, else by the sweep. `paced` says that a place is reserved for then.
    pub(super) async fn schedule_retry(
        &self,
        key: &DeliveryKey,
        attempts: u32,
        at: Timestamp,
        has_permit: bool,
    ) -> Result<(), DeliverError> {
        let &DeliveryKey {
            endpoint,
            source,
            seq,
            ..
        } = key;
        // Rounded up: a wake-up that comes too soon would only go back to sleep.
        let wait_ms = at.duration_since(self.clock.now()).as_millis().max(0);
        let wait_s = u32::try_from((wait_ms + 999) / 1000).unwrap_or(u32::MAX);
        match u16::try_from(wait_s) {
            Ok(delay_s) if wait_s <= MAX_QUEUE_DELAY_S => {
                let retry = DeliveryRetry {
                    source,
                    seq,
                    endpoint,
                    attempts_made: attempts,
                    has_permit,
                };
                self.queues.send_retries(&[(retry, delay_s)]).await?;
            }
            _ => {
                // The minute that begins when the retry is due, so that it is due when it is swept.
                let minute = store::RetryEntry::minute_from(add_seconds(at, 59));
                let retry = store::RetryEntry {
                    source,
                    seq,
                    endpoint,
                    attempt: attempts.saturating_add(1),
                    minute,
                };
                self.store.put_retry(&retry).await?;
            }
        }
        Ok(())
    }

    /// Whole seconds until then, as many as a message can wait.
    pub(super) fn message_delay_until(&self, at: Timestamp) -> u16 {
        let wait_ms = at.duration_since(self.clock.now()).as_millis().max(0);
        let wait_s = u16::try_from((wait_ms + 999) / 1000).unwrap_or(u16::MAX);
        wait_s.min(okra_queue::MAX_DELAY_S)
    }

    /// `at_once` for an event that nothing but the queue held up before this attempt.
    fn log_attempt(&self, report: &AttemptReport, is_immediate: bool) {
        let lag = report.answered_at.duration_since(report.committed_at);
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
        self.observer.on_attempt(report);
    }
}

/// Writes into a delivery what an answer means for it.
fn apply_outcome(
    delivery: &mut Delivery,
    number: u32,
    response: &AttemptResponse,
    mode: AttemptMode,
    health: &EndpointHealth,
    now: Timestamp,
    jitter: Jitter,
) -> DeliveryOutcome {
    delivery.next_attempt_at = None;
    if response.outcome.is_ok() {
        delivery.attempt_count = number;
        delivery.state = DeliveryState::Delivered;
        return DeliveryOutcome::Delivered;
    }
    if response.control == Some(ReceiverControl::AbortMessage) {
        delivery.attempt_count = number;
        delivery.state = DeliveryState::Exhausted;
        return DeliveryOutcome::Exhausted;
    }
    // A probe asks for the endpoint; it uses up none of the event's attempts.
    if mode.kind == AttemptKind::Probe {
        delivery.state = DeliveryState::Parked;
        return DeliveryOutcome::Parked;
    }
    delivery.attempt_count = number;
    if health.admission(now) == EndpointAdmission::Park
        && response.outcome != AttemptOutcome::Blocked
    {
        delivery.state = DeliveryState::Parked;
        return DeliveryOutcome::Parked;
    }
    match retry::schedule_retry(number, response.outcome, response.retry_after_s, jitter) {
        retry::RetryDecision::After { delay_s } => {
            delivery.state = DeliveryState::Retry;
            delivery.next_attempt_at = Some(add_seconds(now, delay_s.into()));
            DeliveryOutcome::RetryScheduled
        }
        retry::RetryDecision::Exhausted => {
            delivery.state = DeliveryState::Exhausted;
            DeliveryOutcome::Exhausted
        }
    }
}

pub(super) fn add_seconds(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// The host alone: paths and queries of webhook URLs carry tokens.
fn url_host(url: &str) -> String {
    if url.starts_with(BUS_SCHEME) {
        return BUS_SCHEME.trim_end_matches(':').to_owned();
    }
    let url = Url::parse(url).ok();
    url.and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default()
}
