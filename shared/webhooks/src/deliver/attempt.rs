//! One attempt at one delivery: claim, send, record, and see to it that the next one comes.

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    feed::FeedEntry,
    plan::MAX_DELAY_S,
    retry::{self, Jitter},
};
use okra_queue::Retry;
use okra_store::{self as store, Account, AttemptResult, Delivery, DeliveryState};
use url::Url;

use super::{DeliverError, Deliverer, LEASE_S, Step, Subject, Target, step};
use crate::{
    report::{Attempted, Told},
    sender::{Answer, Message},
};

impl Deliverer {
    /// Makes the attempt that is due by the delivery's row, if one is.
    pub(super) async fn tell(
        &self,
        subject: &Subject,
        account: Option<&Account>,
        entry: &FeedEntry,
        target: &Target,
        row: Option<Delivery>,
    ) -> Result<Told, DeliverError> {
        let _place = self.lanes.enter(target.endpoint).await;
        let number = match step(row.as_ref(), self.clock.now()) {
            Step::Done => return Ok(Told::Skipped),
            Step::Attempt { number } => number,
            Step::Wait { until } => {
                if let Some(row) = &row {
                    self.wake(row, until).await?;
                }
                return Ok(Told::Skipped);
            }
        };
        let claimed = match row {
            // The first attempt is not claimed: it would cost a second write for each delivery, to
            // prevent what a receiver has to bear anyway.
            None => false,
            Some(row) => {
                if !self.claim(row, number).await? {
                    return Ok(Told::Skipped);
                }
                true
            }
        };
        let body = subject.body(&self.config.public_url, account, entry, target);
        let bytes = body.len();
        let event = entry.event_id();
        let message = Message {
            url: &target.url,
            event: &event,
            seq: entry.seq,
            attempt: number,
            body,
            secrets: &target.secrets,
            bearer: target.bearer.as_ref(),
            sent_at: self.clock.now(),
        };
        let answer = self.sender.send(&message).await?;
        let answered_at = self.clock.now();
        let (told, next_at) = verdict(number, &answer, answered_at, self.random.draw());
        let delivery = Delivery {
            record: entry.record,
            seq: entry.seq,
            endpoint: target.endpoint,
            state: state_of(told),
            attempts: number,
            last: Some(AttemptResult {
                status: answer.status,
                class: answer.outcome.as_str().to_owned(),
                at: answered_at,
                latency_ms: answer.latency_ms,
            }),
            next_at,
            url: target.url.clone(),
        };
        let recorded = if claimed {
            self.store.settle_delivery(&delivery, answered_at).await?
        } else {
            self.store.put_delivery(&delivery, answered_at).await?
        };
        self.say(&Attempted {
            event,
            record: entry.record,
            seq: entry.seq,
            stream: entry.change.stream(),
            endpoint: target.endpoint,
            host: host_of(&target.url),
            attempt: number,
            outcome: answer.outcome,
            status: answer.status,
            location_host: answer.location_host,
            latency_ms: answer.latency_ms,
            bytes,
            committed_at: entry.at,
            answered_at,
            next_at,
        });
        if let Some(next_at) = next_at.filter(|_| recorded) {
            self.wake(&delivery, next_at).await?;
        }
        Ok(told)
    }

    /// Takes an attempt for this worker: until the lease is over, others that come upon the delivery
    /// wait. False where another worker was first.
    async fn claim(&self, row: Delivery, number: u32) -> Result<bool, DeliverError> {
        let now = self.clock.now();
        let claim = Delivery {
            attempts: number,
            next_at: Some(later(now, LEASE_S)),
            ..row
        };
        Ok(self.store.put_delivery(&claim, now).await?)
    }

    /// Closes a delivery that nobody wants any more.
    pub(super) async fn close(&self, row: Delivery) -> Result<Told, DeliverError> {
        let closed = Delivery {
            state: DeliveryState::Exhausted,
            next_at: None,
            ..row
        };
        self.store
            .settle_delivery(&closed, self.clock.now())
            .await?;
        Ok(Told::Unwanted)
    }

    /// Sees to it that a delivery is looked at again at `at`: by a message that waits in the queue
    /// as long as a message can, else by the sweep.
    pub(super) async fn wake(&self, row: &Delivery, at: Timestamp) -> Result<(), DeliverError> {
        let (record, seq, endpoint) = (row.record, row.seq, row.endpoint);
        // Rounded up: a wake-up that comes too soon would only go back to sleep.
        let wait_ms = at.duration_since(self.clock.now()).as_millis().max(0);
        let wait_s = u32::try_from((wait_ms + 999) / 1000).unwrap_or(u32::MAX);
        match u16::try_from(wait_s) {
            Ok(delay_s) if wait_s <= MAX_DELAY_S => {
                let retry = Retry {
                    record,
                    seq,
                    endpoint,
                    attempt: row.attempts,
                };
                self.queues.send_retries(&[(retry, delay_s)]).await?;
            }
            _ => {
                // The minute that begins when the retry is due, so that it is due when it is swept.
                let minute = store::Retry::minute_of(later(at, 59));
                let retry = store::Retry {
                    record,
                    seq,
                    endpoint,
                    attempt: row.attempts.saturating_add(1),
                    minute,
                };
                self.store.put_retry(&retry).await?;
            }
        }
        Ok(())
    }

    fn say(&self, attempted: &Attempted) {
        tracing::info!(
            event.id = attempted.event.as_str(),
            endpoint.id = %attempted.endpoint,
            attempt = attempted.attempt,
            outcome = attempted.outcome.as_str(),
            status = attempted.status,
            location.host = attempted.location_host,
            latency_ms = attempted.latency_ms,
            next_at = attempted.next_at.map(tracing::field::display),
            "webhook"
        );
        self.observer.attempted(attempted);
    }
}

/// What an answer means for the delivery, and when the next attempt is due.
fn verdict(number: u32, answer: &Answer, now: Timestamp, random: u32) -> (Told, Option<Timestamp>) {
    if answer.outcome.is_ok() {
        return (Told::Delivered, None);
    }
    let jitter = Jitter::from_random(random);
    match retry::next(number, answer.outcome, answer.retry_after_s, jitter) {
        retry::Retry::After { delay_s } => (Told::Deferred, Some(later(now, delay_s.into()))),
        retry::Retry::Exhausted => (Told::Exhausted, None),
    }
}

const fn state_of(told: Told) -> DeliveryState {
    match told {
        Told::Delivered => DeliveryState::Delivered,
        Told::Deferred => DeliveryState::Retry,
        Told::Exhausted | Told::Skipped | Told::Unwanted => DeliveryState::Exhausted,
    }
}

fn later(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// The host alone: paths and queries of webhook URLs carry tokens.
fn host_of(url: &str) -> String {
    let url = Url::parse(url).ok();
    url.and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default()
}
