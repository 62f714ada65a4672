//! What this process knows of endpoints between two writes: how fast they are told, how slow they
//! answer, and what is still to be added to their health.
//!
//! A success of a healthy endpoint is only counted here, so that it costs one write and not two. It
//! joins the stored health with this process's next failure.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use jiff::Timestamp;
use okra_core::{
    health::{Circuit, Failure, Health, Notice},
    ids::EndpointId,
    pace::Rate,
    share::{Share, Turn},
};
use okra_queue::Tend;
use okra_store::{Happened, NewAppEntry, StoreError};

use super::{DeliverError, Deliverer, Kind, Mode, Target, attempt::later};
use crate::sender::{Answer, Control};

/// Endpoints that are remembered at most; when there are more, those at rest are forgotten.
const MAX_PULSES: usize = 8192;

/// Milliseconds of the usual answer from which an endpoint is slow.
const SLOW_MS: u32 = 2_000;

/// Times a change of an endpoint's health is tried against other processes.
const MAX_ROUNDS: u32 = 16;

/// Seconds after which a place is asked for again that others took at the same moment each time.
const TAKEN_AGAIN_S: i64 = 1;

/// Events parked by this process before they are added to the endpoint's count.
const PARKED_AT_ONCE: u64 = 16;

/// All endpoints this process has told something.
#[derive(Default)]
pub(super) struct Pulses(Mutex<HashMap<EndpointId, Arc<Pulse>>>);

/// One of them.
#[derive(Default)]
pub(super) struct Pulse {
    known: Mutex<Known>,
    /// Held while its health is written: what comes in meanwhile is written together.
    writing: tokio::sync::Mutex<()>,
    /// Held while places are taken from those of all processes: who waits meanwhile is brought one.
    taking: tokio::sync::Mutex<()>,
    /// How many wait for a place who come back at its time, and how many who do not.
    come_back: AtomicU32,
    others: AtomicU32,
}

#[derive(Default)]
struct Known {
    share: Share,
    /// The usual time of an answer: a moving average in which each counts an eighth.
    usual_ms: u32,
    successes: u32,
    last_success_at: Option<Timestamp>,
    failures: Vec<Failure>,
    /// The health when it was last written or read here.
    health: Health,
    parked: u64,
}

impl Pulse {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts somebody who waits for a place.
    fn wait(&self, comes_back: bool) -> Waiting<'_> {
        let count = if comes_back {
            &self.come_back
        } else {
            &self.others
        };
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

/// Somebody waits for a place, until this is dropped.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pulses {
    fn of(&self, endpoint: EndpointId) -> Arc<Pulse> {
        let mut pulses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pulses.len() >= MAX_PULSES {
            pulses.retain(|_, pulse| Arc::strong_count(pulse) > 1);
        }
        Arc::clone(pulses.entry(endpoint).or_default())
    }

    /// Counts a parked event; says how many are to be added to the endpoint's count now.
    pub(super) fn parked(&self, endpoint: EndpointId) -> Option<u64> {
        let pulse = self.of(endpoint);
        let mut known = pulse.lock();
        known.parked += 1;
        (known.parked >= PARKED_AT_ONCE).then(|| std::mem::take(&mut known.parked))
    }
}

impl Deliverer {
    /// A place in the endpoint's pace; `None` where it is taken now. Else when there is one, and
    /// whether it is reserved: not for those who do not come back at that time.
    pub(super) async fn place(
        &self,
        target: &Target,
        comes_back: bool,
    ) -> Result<Option<(Timestamp, bool)>, DeliverError> {
        let usual = self.config.rate;
        let rate = target.rate.map_or(usual, |per_s| Rate::of(per_s.into()));
        let pulse = self.pulses.of(target.endpoint);
        let turn = match self.turn(&pulse, rate, comes_back) {
            Turn::Ask => self.ask(&pulse, target.endpoint, rate, comes_back).await?,
            turn => turn,
        };
        let at = |us| Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX);
        Ok(match turn {
            Turn::Now => None,
            Turn::At(us) => Some((at(us), true)),
            Turn::Full(us) => Some((at(us), false)),
            Turn::Ask => Some((later(self.clock.now(), TAKEN_AGAIN_S), false)),
        })
    }

    fn turn(&self, pulse: &Pulse, rate: Rate, comes_back: bool) -> Turn {
        let (now_us, processes) = (self.clock.now().as_microsecond(), self.config.processes);
        let mut known = pulse.lock();
        known.share.turn(now_us, rate, processes, comes_back)
    }

    /// Takes a block of places from those of all processes, for all who wait here, unless somebody
    /// brought one meanwhile.
    async fn ask(
        &self,
        pulse: &Pulse,
        endpoint: EndpointId,
        rate: Rate,
        comes_back: bool,
    ) -> Result<Turn, DeliverError> {
        let _waiting = pulse.wait(comes_back);
        let _taking = pulse.taking.lock().await;
        let turn = self.turn(pulse, rate, comes_back);
        if turn != Turn::Ask {
            return Ok(turn);
        }
        let now = self.clock.now();
        let ask = || {
            pulse.lock().share.ask(
                now.as_microsecond(),
                rate,
                pulse.come_back.load(Ordering::Relaxed),
                pulse.others.load(Ordering::Relaxed),
            )
        };
        let block = self.store.take_block(endpoint, rate, now, ask).await?;
        let Some(block) = block else {
            return Ok(Turn::Ask);
        };
        let (now_us, processes) = (self.clock.now().as_microsecond(), self.config.processes);
        // At once, so that nobody who comes by takes the place of the one who asked.
        let mut known = pulse.lock();
        known.share.brought(now_us, block);
        Ok(known.share.turn(now_us, rate, processes, comes_back))
    }

    /// True for an endpoint that usually takes long or mostly fails: it goes in the slow lane.
    pub(super) fn is_slow(&self, target: &Target) -> bool {
        let usual_ms = self.pulses.of(target.endpoint).lock().usual_ms;
        usual_ms > SLOW_MS || target.health.health.mostly_fails(self.clock.now())
    }

    /// Adds an attempt to its endpoint's health, where that changes it; the health as it is now.
    pub(super) async fn observe(
        &self,
        target: &Target,
        answer: &Answer,
        mode: Mode,
        at: Timestamp,
    ) -> Result<Health, DeliverError> {
        let pulse = self.pulses.of(target.endpoint);
        let disable = answer.control == Some(Control::Disable);
        let aborted = answer.control == Some(Control::AbortMessage);
        {
            let mut known = pulse.lock();
            known.usual_ms = match known.usual_ms {
                0 => answer.latency_ms,
                usual => usual - usual / 8 + answer.latency_ms / 8,
            };
            if answer.outcome.is_ok() || aborted {
                known.successes = known.successes.saturating_add(1);
                known.last_success_at = known.last_success_at.max(Some(at));
                let changes = target.health.health.is_troubled() || mode.kind == Kind::Probe;
                if !changes && !disable {
                    return Ok(target.health.health.clone());
                }
            }
            if !answer.outcome.is_ok() && !aborted || disable {
                known.failures.push(Failure {
                    at,
                    outcome: answer.outcome,
                    status: answer.status,
                    retry_after_s: answer.retry_after_s,
                    disable,
                });
            }
        }
        let _writing = pulse.writing.lock().await;
        let (successes, last_success_at, failures) = {
            let mut known = pulse.lock();
            if known.successes == 0 && known.failures.is_empty() {
                // Whoever wrote last wrote this attempt too.
                return Ok(known.health.clone());
            }
            let failures = std::mem::take(&mut known.failures);
            (
                std::mem::take(&mut known.successes),
                known.last_success_at,
                failures,
            )
        };
        let change = |health: &mut Health| {
            let last = last_success_at.unwrap_or(at);
            // What succeeded before all that failed since comes first.
            let recent = failures.iter().all(|failure| failure.at <= last);
            let mut notices = Vec::new();
            if !recent {
                notices.extend(health.succeeded(successes, last));
            }
            notices.extend(failures.iter().flat_map(|failure| health.failed(failure)));
            if recent {
                notices.extend(health.succeeded(successes, last));
            }
            notices
        };
        let health = self.change_health(target, change).await?;
        pulse.lock().health.clone_from(&health);
        Ok(health)
    }

    /// Changes the health of an endpoint, sees to it that it is looked after where it has to be, and
    /// tells its app.
    pub(super) async fn change_health(
        &self,
        target: &Target,
        change: impl Fn(&mut Health) -> Vec<Notice>,
    ) -> Result<Health, DeliverError> {
        let (app, endpoint) = (target.app, target.endpoint);
        for _ in 0..MAX_ROUNDS {
            let mut stored = self.store.health(endpoint).await?;
            let before = stored.health.clone();
            let notices = change(&mut stored.health);
            let after = stored.health.clone();
            if before == after {
                return Ok(after);
            }
            // The wake-up first: one too many does no harm, one that is missing would.
            let now = self.clock.now();
            let due = match (before.circuit, after.probe_at()) {
                (Circuit::Closed, due) => due,
                (Circuit::Open { .. }, None) if after.disabled.is_none() => Some(now),
                (Circuit::Open { .. }, _) => None,
            };
            if let Some(due) = due {
                self.tend_at(Tend { app, endpoint }, due).await?;
            }
            let parked = notices.iter().any(|it| matches!(it, Notice::Parked { .. }));
            let entries: Vec<NewAppEntry> = notices
                .into_iter()
                .map(|notice| NewAppEntry {
                    endpoint,
                    url: target.url.clone(),
                    happened: Happened::Health(notice),
                })
                .collect();
            if !entries.is_empty() {
                self.tell_anyway(app).await?;
            }
            let put = self
                .store
                .put_health(app, endpoint, &stored, &entries, now)
                .await?;
            if let Some(told) = put {
                if parked {
                    tracing::warn!(endpoint.id = %endpoint, failures = after.failures, "endpoint parked");
                }
                if !told.is_empty() {
                    self.queues.send_app_feed(app, 0).await?;
                }
                return Ok(after);
            }
        }
        Err(StoreError::Contended {
            operation: "UpdateItem",
        }
        .into())
    }

    /// Has an endpoint looked after at `due`, or as late as a message can wait.
    pub(super) async fn tend_at(&self, tend: Tend, due: Timestamp) -> Result<(), DeliverError> {
        let delay_s = self.seconds_until(due);
        Ok(self.queues.send_tends(&[(tend, delay_s)]).await?)
    }

    /// When a probe that is overdue by more than this must have been lost.
    pub(super) fn probe_is_lost(&self, health: &Health) -> bool {
        const LATE_S: i64 = 20 * 60;
        let now = self.clock.now();
        health
            .probe_at()
            .is_some_and(|due| later(due, LATE_S) < now)
    }
}
