//! Parking: what is for an endpoint that is down, and what becomes of it.

use std::collections::HashMap;

use futures::{FutureExt, StreamExt, stream};
use okra_core::{
    health::{Circuit, Gate, MAX_PARKED, PARKED_DAYS},
    ids::{AppId, Source},
};
use okra_queue::Tend;
use okra_store::{Delivery, DeliveryKey, DeliveryState, Endpoint, Line};

use super::{DeliverError, Deliverer, Event, Kind, LEASE_S, Mode, Target, attempt::later};
use crate::report::{Tended, Told};

/// Parked events that are sent by one message at most.
const DRAIN_AT_ONCE: usize = 32;

/// Seconds until a drain goes on whose endpoint takes no more for now.
pub(super) const DRAIN_AGAIN_S: i64 = 1;

/// Parked events that turn out to be settled, and that one message passes over at most.
const MAX_SETTLED: usize = 100;

/// Events that are exhausted in one go because they waited too long, at most.
const MAX_EXPIRED: usize = 500;

const DAY_S: i64 = 24 * 3600;

impl Deliverer {
    /// Parks an event: it is sent when the endpoint is back.
    pub(super) async fn park(
        &self,
        event: &Event,
        target: &Target,
        row: Option<Delivery>,
        line: Line,
    ) -> Result<Told, DeliverError> {
        let told = self.park_row(event, target, row, line).await?;
        if told != Told::Parked {
            return Ok(told);
        }
        // It may have come back while this was parked; then nobody else would look here.
        let now = self.clock.now();
        let health = self.store.health(target.endpoint).await?.health;
        if health.gate(now) != Gate::Park || self.probe_is_lost(&health) {
            let (app, endpoint) = (target.app, target.endpoint);
            self.tend_at(Tend { app, endpoint }, now).await?;
        }
        Ok(told)
    }

    /// Parks an event for an endpoint that somebody looks after. Beyond [`MAX_PARKED`] it is exhausted
    /// at once, and the gap is remembered.
    pub(super) async fn park_row(
        &self,
        event: &Event,
        target: &Target,
        row: Option<Delivery>,
        line: Line,
    ) -> Result<Told, DeliverError> {
        let (key, now) = (event.key(target.endpoint), self.clock.now());
        let full = target.health.parked >= MAX_PARKED;
        let state = if full {
            DeliveryState::Exhausted
        } else {
            self.store.park(&key, now).await?;
            DeliveryState::Parked
        };
        let parked = match row {
            Some(row) => Delivery {
                state,
                next_at: None,
                line: row.line.max(line),
                version: row.version.saturating_add(1),
                ..row
            },
            None => Delivery {
                key,
                event: event.name.to_owned(),
                state,
                attempts: 0,
                log: Vec::new(),
                excerpt: None,
                next_at: None,
                replayed: false,
                line,
                version: 1,
            },
        };
        self.store.put_delivery(&parked, now).await?;
        if full {
            self.lose(target, event.at, event.at, 1).await?;
            return Ok(Told::Exhausted);
        }
        if let Some(more) = self.pulses.parked(target.endpoint) {
            self.store.count_parked(target.endpoint, more).await?;
        }
        Ok(Told::Parked)
    }

    async fn lose(
        &self,
        target: &Target,
        from: jiff::Timestamp,
        until: jiff::Timestamp,
        events: u64,
    ) -> Result<(), DeliverError> {
        self.change_health(target, |health| {
            health.lost(from, until, events);
            Vec::new()
        })
        .await
        .map(drop)
    }

    /// Looks after an endpoint: where its circuit is open and a probe is due, tries the oldest parked
    /// event; where it takes events again, sends what was parked, at the endpoint's pace.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn tend(&self, tend: Tend) -> Result<Tended, DeliverError> {
        let now = self.clock.now();
        let health = self.store.health(tend.endpoint).await?.health;
        self.expire(tend).await?;
        if health.disabled.is_some() {
            return Ok(Tended::Left);
        }
        match health.circuit {
            Circuit::Closed => match health.gate(now) {
                // It asked for time while it was sent what was parked.
                Gate::Wait { until } => {
                    self.tend_at(tend, until).await?;
                    Ok(Tended::Waits)
                }
                Gate::Send | Gate::Park => self.drain(tend).await,
            },
            Circuit::Open { probe_at, .. } if probe_at > now => {
                self.tend_at(tend, probe_at).await?;
                Ok(Tended::Waits)
            }
            Circuit::Open { .. } => self.probe(tend).await,
        }
    }

    async fn probe(&self, tend: Tend) -> Result<Tended, DeliverError> {
        let mut held = false;
        for key in self.store.parked(tend.endpoint, MAX_SETTLED).await? {
            match self.attempt_parked(&key, Kind::Probe).await? {
                Told::Delivered => {
                    // In order it was perhaps another, before this one.
                    self.settled(&key).await?;
                    // The circuit is closed; what else is parked goes now.
                    self.tend_at(tend, self.clock.now()).await?;
                    return Ok(Tended::Recovered);
                }
                Told::Parked | Told::Deferred | Told::Paced => {
                    let health = self.store.health(tend.endpoint).await?.health;
                    if let Some(due) = health.probe_at() {
                        self.tend_at(tend, due).await?;
                    }
                    return Ok(Tended::StillDown);
                }
                Told::Exhausted | Told::Skipped | Told::Unwanted | Told::Held => {
                    held |= !self.settled(&key).await?;
                }
            }
        }
        if !self.store.parked(tend.endpoint, 1).await?.is_empty() {
            let pause = if held { LEASE_S } else { 0 };
            self.tend_at(tend, later(self.clock.now(), pause)).await?;
            return Ok(Tended::Waits);
        }
        // There is nothing to probe it with: the next event will tell.
        if let Some(target) = self.target_of(tend.app, tend.endpoint).await? {
            let trial = |health: &mut okra_core::health::Health| {
                health.on_trial();
                Vec::new()
            };
            self.change_health(&target, trial).await?;
        }
        Ok(Tended::OnTrial)
    }

    async fn drain(&self, tend: Tend) -> Result<Tended, DeliverError> {
        let endpoint = self.store.endpoint(tend.app, tend.endpoint).await?;
        let ordered = endpoint
            .as_ref()
            .is_some_and(|it| it.ordered_since.is_some());
        let rate = endpoint.and_then(|endpoint| endpoint.rate);
        let rate = rate.map_or(self.config.rate.per_s, u32::from);
        // No more than a second takes: each that asks in vain costs the reads of an attempt.
        let at_once = usize::try_from(rate).unwrap_or(DRAIN_AT_ONCE);
        let at_once = at_once.clamp(1, DRAIN_AT_ONCE);
        if ordered {
            return Box::pin(self.drain_lines(tend, at_once)).await;
        }
        let parked = self.store.parked(tend.endpoint, at_once).await?;
        let count = parked.len();
        // Boxed, because a borrowing closure inside the stream would make it not `Send`.
        let work: Vec<_> = parked
            .iter()
            .map(|key| self.drain_one(*key).boxed())
            .collect();
        let told: Vec<_> = stream::iter(work)
            .buffer_unordered(DRAIN_AT_ONCE)
            .collect()
            .await;
        let (mut sent, mut left, mut held) = (0, 0, 0);
        for told in told {
            match told? {
                Told::Delivered => sent += 1,
                Told::Paced | Told::Parked => left += 1,
                // Another worker is at it; should it vanish, this one goes on.
                Told::Skipped | Told::Held => held += 1,
                Told::Deferred | Told::Exhausted | Told::Unwanted => {}
            }
        }
        if left + held > 0 || count == at_once {
            let pause = match (left, held) {
                (0, 0) => 0,
                (0, _) if held == count => LEASE_S,
                _ => DRAIN_AGAIN_S,
            };
            self.tend_at(tend, later(self.clock.now(), pause)).await?;
        } else {
            self.store.none_parked(tend.endpoint).await?;
        }
        Ok(Tended::Drained { sent })
    }

    pub(super) async fn drain_one(&self, key: DeliveryKey) -> Result<Told, DeliverError> {
        let told = self.attempt_parked(&key, Kind::Drain).await?;
        match told {
            Told::Paced | Told::Parked | Told::Held => {}
            Told::Skipped if self.settled(&key).await? => return Ok(Told::Unwanted),
            Told::Skipped => {}
            Told::Delivered | Told::Deferred | Told::Exhausted | Told::Unwanted => {
                self.store.unpark(&key).await?;
            }
        }
        Ok(told)
    }

    async fn attempt_parked(&self, key: &DeliveryKey, kind: Kind) -> Result<Told, DeliverError> {
        let of = (key.source, key.seq, key.endpoint);
        match self.attempt_of(of, false, Mode::of(kind)).await {
            // Its feed entry is gone: there is nothing to tell any more.
            Err(DeliverError::Gap { .. }) => Ok(Told::Unwanted),
            told => told,
        }
    }

    /// Takes an event out that was settled otherwise. False for one that stays, because somebody else
    /// is at it.
    async fn settled(&self, key: &DeliveryKey) -> Result<bool, DeliverError> {
        let row = self.store.delivery(key).await?;
        let settled = row.is_none_or(|row| row.state != DeliveryState::Parked);
        if settled {
            self.store.unpark(key).await?;
        }
        Ok(settled)
    }

    /// Exhausts what was parked for longer than [`PARKED_DAYS`], and remembers the gap.
    async fn expire(&self, tend: Tend) -> Result<(), DeliverError> {
        let now = self.clock.now();
        let over = later(now, -PARKED_DAYS * DAY_S);
        let oldest = self.store.parked(tend.endpoint, 1).await?;
        if oldest.first().is_none_or(|key| key.at > over) {
            return Ok(());
        }
        let mut lost: Vec<DeliveryKey> = Vec::new();
        // The last of each line that is settled by it: what comes behind it has its turn.
        let mut lines: HashMap<Source, DeliveryKey> = HashMap::new();
        for key in self.store.parked(tend.endpoint, MAX_EXPIRED).await? {
            if key.at > over {
                break;
            }
            if let Some(row) = self.store.delivery(&key).await?
                && row.state == DeliveryState::Parked
            {
                let exhausted = Delivery {
                    state: DeliveryState::Exhausted,
                    next_at: None,
                    version: row.version.saturating_add(1),
                    ..row
                };
                self.store.put_delivery(&exhausted, now).await?;
                if exhausted.line != Line::None {
                    lines.insert(key.source, key);
                }
                lost.push(key);
            }
            self.store.unpark(&key).await?;
        }
        for key in lines.values() {
            self.wake(key, 0, now, false).await?;
        }
        if let (Some(first), Some(last)) = (lost.first(), lost.last())
            && let Some(target) = self.target_of(tend.app, tend.endpoint).await?
        {
            let events = u64::try_from(lost.len()).unwrap_or(u64::MAX);
            self.lose(&target, first.at, last.at, events).await?;
        }
        Ok(())
    }

    /// An endpoint of an app, as a target.
    pub(super) async fn target_of(
        &self,
        app: AppId,
        endpoint: okra_core::ids::EndpointId,
    ) -> Result<Option<Target>, DeliverError> {
        let (endpoint_row, health) = futures::try_join!(
            self.store.endpoint(app, endpoint),
            self.store.health(endpoint)
        )?;
        match endpoint_row {
            Some(row) => Ok(Some(self.target(&row, health)?)),
            // The URL of a subscription, which only its record knows: enough to change its health.
            None => Ok(Some(Target {
                app,
                endpoint,
                url: String::new(),
                payload: okra_core::feed::PayloadMode::default(),
                version: okra_core::feed::BodyVersion::default(),
                secrets: self.keyring.app_secrets(app, self.clock.now()).await?,
                bearer: None,
                events: Vec::new(),
                rate: None,
                ordered_since: None,
                streams: Vec::new(),
                health,
            })),
        }
    }

    /// An endpoint as a target.
    pub(super) fn target(
        &self,
        endpoint: &Endpoint,
        health: okra_store::StoredHealth,
    ) -> Result<Target, DeliverError> {
        Ok(Target {
            app: endpoint.app,
            endpoint: endpoint.id,
            url: endpoint.url.clone(),
            payload: endpoint.payload,
            version: endpoint.version,
            secrets: self.keyring.secrets_at(endpoint, self.clock.now())?,
            bearer: self.keyring.bearer(endpoint)?,
            events: endpoint.events.clone(),
            rate: endpoint.rate,
            ordered_since: endpoint.ordered_since,
            streams: Vec::new(),
            health,
        })
    }
}
