//! One attempt at one delivery: claim, send, record, and see to it that the next one comes.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use okra_core::{
    health::{Gate, Health},
    ids::{EndpointId, Source},
    plan::MAX_DELAY_S,
    retry::{self, Jitter, Outcome},
};
use okra_queue::{Resend, Retry};
use okra_store::{
    self as store, AttemptResult, Delivery, DeliveryKey, DeliveryState, Happened, Line, NewAppEntry,
};
use url::Url;

use super::{DeliverError, Deliverer, Event, Kind, LEASE_S, Mode, Step, Target, Turn, step};
use crate::{
    report::{Attempted, Told},
    sender::{Answer, Control, Message},
    target::BUS_SCHEME,
};

/// The class of an attempt after which the receiver wanted no more of the event.
const ABORTED: &str = "aborted";

/// What came of one event at one endpoint, and whether it holds up those behind it no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub(super) told: Told,
    pub(super) settled: bool,
}

impl From<Told> for Came {
    fn from(told: Told) -> Self {
        Self {
            told,
            settled: told == Told::Exhausted,
        }
    }
}

impl Deliverer {
    /// Makes the attempt that is due by the delivery's row, if one is and the endpoint takes events.
    pub(super) async fn tell(
        &self,
        event: &Event,
        target: &Target,
        row: Option<Delivery>,
        mode: Mode,
        turn: &Turn,
        body: impl FnOnce() -> Bytes,
    ) -> Result<Came, DeliverError> {
        let key = event.key(target.endpoint);
        let made = row.as_ref().map_or(0, |row| row.attempts);
        let number = match step(row.as_ref(), self.clock.now(), mode) {
            Step::Done => return Ok(Told::Skipped.into()),
            Step::Attempt { number } => number,
            Step::Wait { until } => {
                self.wake(&key, made, until, false).await?;
                return Ok(Told::Skipped.into());
            }
        };
        if matches!(mode.kind, Kind::Scheduled | Kind::Resend) {
            match target.health.health.gate(self.clock.now()) {
                Gate::Park => {
                    let line = turn.line(Line::None, false);
                    return Ok(self.park(event, target, row, line).await?.into());
                }
                Gate::Wait { until } if mode.kind == Kind::Scheduled => {
                    self.wake(&key, made, until, false).await?;
                    return Ok(Told::Paced.into());
                }
                Gate::Wait { until } => {
                    self.resend_at(event, target, until, false).await?;
                    return Ok(Told::Paced.into());
                }
                Gate::Send => {}
            }
            // Others wait in this message.
            if mode.shared && self.is_slow(target) {
                self.wake(&key, made, self.clock.now(), false).await?;
                return Ok(Told::Paced.into());
            }
        }
        if !mode.paced && mode.kind != Kind::Probe {
            // What is drained stays where it is and is asked for again.
            let comes_back = mode.kind != Kind::Drain;
            if let Some((at, paced)) = self.place(target, comes_back).await? {
                match mode.kind {
                    Kind::Resend => self.resend_at(event, target, at, paced).await?,
                    Kind::Scheduled => self.wake(&key, made, at, paced).await?,
                    Kind::Drain | Kind::Probe => {}
                }
                return Ok(Told::Paced.into());
            }
        }
        let slow = self.is_slow(target);
        let _place = self.lanes.enter(target.endpoint, slow).await;
        let mut delivery = match row {
            // The first attempt is not claimed: it would cost a second write for each delivery, to
            // prevent what a receiver has to bear anyway.
            None => Delivery {
                key,
                event: event.name.to_owned(),
                state: DeliveryState::Retry,
                attempts: 0,
                log: Vec::new(),
                excerpt: None,
                next_at: None,
                replayed: false,
                line: Line::None,
                version: 0,
            },
            Some(row) => match self.claim(row).await? {
                Some(claimed) => claimed,
                None => {
                    // Another worker has it, or the answer that this one has it was lost on the way:
                    // then nobody would look at it again.
                    if mode.kind == Kind::Scheduled {
                        let over = later(self.clock.now(), LEASE_S);
                        self.wake(&key, made, over, false).await?;
                    }
                    return Ok(Told::Skipped.into());
                }
            },
        };
        delivery.replayed |= mode.kind == Kind::Resend;
        let body = body();
        let (bytes, id) = (body.len(), event.id());
        let message = Message {
            url: &target.url,
            event: &id,
            seq: event.seq,
            attempt: number,
            replayed: delivery.replayed,
            gap: turn.gap(),
            body,
            secrets: &target.secrets,
            bearer: target.bearer.as_ref(),
            sent_at: self.clock.now(),
        };
        let answer = self.sender.send(&message).await?;
        let answered_at = self.clock.now();
        let health = self.observe(target, &answer, mode, answered_at).await?;

        let class = match answer.control {
            Some(Control::AbortMessage) if !answer.outcome.is_ok() => ABORTED,
            _ => answer.outcome.as_str(),
        };
        delivery.remember(AttemptResult {
            status: answer.status,
            class: class.to_owned(),
            at: answered_at,
            latency_ms: answer.latency_ms,
        });
        let told = verdict(
            &mut delivery,
            number,
            &answer,
            mode,
            &health,
            answered_at,
            Jitter::from_random(self.random.draw()),
        );
        delivery.excerpt.clone_from(&answer.excerpt);
        delivery.version += 1;
        delivery.line = turn.line(delivery.line, delivery.is_settled());
        if told == Told::Parked {
            self.store.park(&key, answered_at).await?;
        }
        let stored = self.record(target, &delivery, told, class).await?;
        let at_once = number == 1 && mode == Mode::FIRST;
        let attempted = Attempted {
            event: id,
            source: event.source,
            seq: event.seq,
            name: event.name,
            app: target.app,
            endpoint: target.endpoint,
            host: host_of(&target.url),
            attempt: number,
            outcome: answer.outcome,
            status: answer.status,
            location_host: answer.location_host,
            latency_ms: answer.latency_ms,
            bytes,
            committed_at: event.at,
            answered_at,
            next_at: delivery.next_at,
        };
        self.say(&attempted, at_once);
        // Also where another process went on from the row, or seems to have: one wake-up too many does
        // no harm.
        if let (Told::Deferred, Some(next_at)) = (told, delivery.next_at) {
            self.wake(&key, delivery.attempts, next_at, false).await?;
        }
        let settled = match turn {
            Turn::Free => false,
            _ if stored => delivery.is_settled(),
            // Another process went on from the row, or this one's own answer was lost.
            _ => {
                let row = self.store.delivery(&key).await?;
                row.is_some_and(|row| row.is_settled())
            }
        };
        Ok(Came { told, settled })
    }

    /// Stores what came of an attempt where no other process went on from what this one had read, and
    /// tells the app where it was the last. False where another did.
    async fn record(
        &self,
        target: &Target,
        delivery: &Delivery,
        told: Told,
        class: &str,
    ) -> Result<bool, DeliverError> {
        let now = self.clock.now();
        // An app is not told that it could not be told.
        if told != Told::Exhausted || matches!(delivery.key.source, Source::App(_)) {
            return Ok(self.store.put_delivery(delivery, now).await?);
        }
        let entry = NewAppEntry {
            endpoint: target.endpoint,
            url: target.url.clone(),
            happened: Happened::Exhausted {
                event: delivery.event_id(),
                name: delivery.event.clone(),
                attempts: delivery.attempts,
                class: class.to_owned(),
            },
        };
        self.tell_anyway(target.app).await?;
        let told = self
            .store
            .put_delivery_telling(target.app, delivery, &entry, now)
            .await?;
        if told.is_some() {
            tracing::warn!(
                event.id = delivery.event_id().as_str(),
                endpoint.id = %target.endpoint,
                attempts = delivery.attempts,
                class,
                "delivery exhausted"
            );
            self.queues.send_app_feed(target.app, 0).await?;
        }
        Ok(told.is_some())
    }

    /// Has a resend looked at again at `at`, or as late as a message can wait. `paced` as in
    /// [`wake`](Self::wake).
    async fn resend_at(
        &self,
        event: &Event,
        target: &Target,
        at: Timestamp,
        paced: bool,
    ) -> Result<(), DeliverError> {
        let resend = Resend {
            source: event.source,
            seq: event.seq,
            endpoint: target.endpoint,
            paced,
        };
        let delay_s = self.seconds_until(at);
        Ok(self.queues.send_resends(&[(resend, delay_s)]).await?)
    }

    /// Takes an attempt for this worker: until the lease is over, others that come upon the delivery
    /// wait. `None` where another worker was first. The attempt is counted when it was made: should
    /// this worker vanish, it was our fault and not the receiver's.
    async fn claim(&self, row: Delivery) -> Result<Option<Delivery>, DeliverError> {
        let now = self.clock.now();
        let claim = Delivery {
            next_at: Some(later(now, LEASE_S)),
            version: row.version.saturating_add(1),
            ..row
        };
        let claimed = self.store.put_delivery(&claim, now).await?;
        Ok(claimed.then_some(claim))
    }

    /// Closes a delivery that nobody wants any more.
    pub(super) async fn close(
        &self,
        event: &Event,
        endpoint: EndpointId,
        row: Option<Delivery>,
    ) -> Result<Told, DeliverError> {
        let over = row.as_ref().is_some_and(Delivery::is_over);
        if let Some(row) = row.filter(|_| !over) {
            let closed = Delivery {
                state: DeliveryState::Cancelled,
                next_at: None,
                version: row.version.saturating_add(1),
                ..row
            };
            self.store.put_delivery(&closed, self.clock.now()).await?;
        }
        self.store.unpark(&event.key(endpoint)).await?;
        Ok(Told::Unwanted)
    }

    /// Sees to it that a delivery is looked at again at `at`: by a message that waits in the queue
    /// as long as a message can, else by the sweep. `paced` says that a place is reserved for then.
    pub(super) async fn wake(
        &self,
        key: &DeliveryKey,
        attempts: u32,
        at: Timestamp,
        paced: bool,
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
            Ok(delay_s) if wait_s <= MAX_DELAY_S => {
                let retry = Retry {
                    source,
                    seq,
                    endpoint,
                    attempt: attempts,
                    paced,
                };
                self.queues.send_retries(&[(retry, delay_s)]).await?;
            }
            _ => {
                // The minute that begins when the retry is due, so that it is due when it is swept.
                let minute = store::Retry::minute_of(later(at, 59));
                let retry = store::Retry {
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
    pub(super) fn seconds_until(&self, at: Timestamp) -> u16 {
        let wait_ms = at.duration_since(self.clock.now()).as_millis().max(0);
        let wait_s = u16::try_from((wait_ms + 999) / 1000).unwrap_or(u16::MAX);
        wait_s.min(okra_queue::MAX_DELAY_S)
    }

    /// `at_once` for an event that nothing but the queue held up before this attempt.
    fn say(&self, attempted: &Attempted, at_once: bool) {
        let lag = attempted.answered_at.duration_since(attempted.committed_at);
        tracing::info!(
            event.id = attempted.event.as_str(),
            endpoint.id = %attempted.endpoint,
            attempt = attempted.attempt,
            outcome = attempted.outcome.as_str(),
            status = attempted.status,
            location.host = attempted.location_host,
            latency_ms = attempted.latency_ms,
            lag_ms = at_once.then_some(lag.as_millis()),
            next_at = attempted.next_at.map(tracing::field::display),
            "webhook"
        );
        self.observer.attempted(attempted);
    }
}

/// Writes into a delivery what an answer means for it.
fn verdict(
    delivery: &mut Delivery,
    number: u32,
    answer: &Answer,
    mode: Mode,
    health: &Health,
    now: Timestamp,
    jitter: Jitter,
) -> Told {
    delivery.next_at = None;
    if answer.outcome.is_ok() {
        delivery.attempts = number;
        delivery.state = DeliveryState::Delivered;
        return Told::Delivered;
    }
    if answer.control == Some(Control::AbortMessage) {
        delivery.attempts = number;
        delivery.state = DeliveryState::Exhausted;
        return Told::Exhausted;
    }
    // A probe asks for the endpoint; it uses up none of the event's attempts.
    if mode.kind == Kind::Probe {
        delivery.state = DeliveryState::Parked;
        return Told::Parked;
    }
    delivery.attempts = number;
    if health.gate(now) == Gate::Park && answer.outcome != Outcome::Blocked {
        delivery.state = DeliveryState::Parked;
        return Told::Parked;
    }
    match retry::next(number, answer.outcome, answer.retry_after_s, jitter) {
        retry::Retry::After { delay_s } => {
            delivery.state = DeliveryState::Retry;
            delivery.next_at = Some(later(now, delay_s.into()));
            Told::Deferred
        }
        retry::Retry::Exhausted => {
            delivery.state = DeliveryState::Exhausted;
            Told::Exhausted
        }
    }
}

pub(super) fn later(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// The host alone: paths and queries of webhook URLs carry tokens.
fn host_of(url: &str) -> String {
    if url.starts_with(BUS_SCHEME) {
        return BUS_SCHEME.trim_end_matches(':').to_owned();
    }
    let url = Url::parse(url).ok();
    url.and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default()
}
