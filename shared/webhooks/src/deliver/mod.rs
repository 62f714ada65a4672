//! Delivery: each event to each endpoint that wants it, at least once.
//!
//! The table is the truth about deliveries; a message only wakes. One delivery is one row, and what
//! is to be done about it follows from the row alone ([`step`]):
//!
//! ```text
//! (no row) ---- attempt ----> delivered
//!     |            |
//!     |            +--------> retry at next_at --- attempt ---> delivered | retry | exhausted
//!     |                            |
//!     +---- endpoint is down ------+--> parked --- probe, drain ---> delivered | retry | exhausted
//! ```
//!
//! An endpoint that is down or disabled ([`okra_core::health`]) is sent nothing but a probe now and
//! then; its events are parked, oldest first, and sent when it is back.
//!
//! A row that says *retry* has a wake-up: a delayed message, or a due entry that the sweep turns into
//! one. The row is written first. Whoever crashes before the wake-up is there gets his own message
//! again, finds the row, and sees to it. So every effect may happen twice, and none may be missing.

mod app_feed;
mod attempt;
mod lanes;
mod ordered;
mod parking;
mod pulse;
mod replay;
mod subject;
mod sweep;
mod targets;

use std::{collections::HashMap, sync::Arc};

use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use okra_aws::Clock;
use okra_core::{
    bank::BankConfig,
    feed::FeedEntry,
    ids::{AppId, BankId, EndpointId, EventId, RecordId, Seq, Source},
    pace::Rate,
};
use okra_queue::{Dispatch, Queues, Retry, SendError};
use okra_store::{
    App, Consistency, Delivery, DeliveryKey, DeliveryState, Line, RecordStatus, Store, StoreError,
};
use okra_vault::Vault;
use okra_wire::webhook::event_name;

use self::{lanes::Lanes, ordered::Turn, pulse::Pulses, subject::Subject, targets::Target};
pub use self::{
    replay::{RETENTION_S, retained_since},
    subject::bodies,
};
use crate::{
    cache::Cache,
    keyring::{Keyring, KeyringError},
    random::Random,
    report::{DispatchReport, Observer, Silent, Told},
    sender::{SendFault, Sender},
};

/// Events of a dispatch that are delivered at once; the rest goes on as another dispatch, so that an
/// endpoint that hangs holds a message up for one deadline and not for hundreds.
const MAX_EVENTS_AT_ONCE: u64 = 32;

/// Deliveries of one dispatch that are attempted at once.
const MAX_TOLD_AT_ONCE: usize = 1024;

/// Seconds an attempt may take until another worker may repeat it.
const LEASE_S: i64 = 60;

/// Why a delivery could not be attempted or recorded: always our own fault. What an endpoint does
/// wrong is recorded and never an error.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The table failed.
    #[error("the table failed")]
    Store(#[from] StoreError),
    /// The queue failed.
    #[error("the queue failed")]
    Queue(#[from] SendError),
    /// A secret cannot be had.
    #[error("a secret cannot be had")]
    Keyring(#[from] KeyringError),
    /// An attempt cannot be made.
    #[error("an attempt cannot be made")]
    Send(#[from] SendFault),
    /// Feed entries that were dispatched are not in the table.
    #[error("feed entries {from} to {to} of record {record} are not all there")]
    Gap {
        /// The record.
        record: RecordId,
        /// First entry.
        from: Seq,
        /// Last entry.
        to: Seq,
    },
    /// A minute had more retries than one sweep wakes; the next sweep goes on with it.
    #[error("minute {minute} has more retries than one sweep wakes")]
    Sweep {
        /// The minute, since 1970.
        minute: u64,
    },
    /// Something that a record stands on is not in the table.
    #[error("{what} of record {record} is not there")]
    Missing {
        /// The record.
        record: RecordId,
        /// What is not there.
        what: &'static str,
    },
}

/// How deliveries are made.
#[derive(Clone, Debug)]
pub struct DeliverConfig {
    /// Where the API is reached, without a trailing slash; the root of each `callback_url`.
    pub public_url: String,
    /// Attempts in flight at most.
    pub concurrency: usize,
    /// Attempts in flight at one endpoint at most.
    pub per_endpoint: usize,
    /// How fast an endpoint is sent events that has no rate of its own.
    pub rate: Rate,
    /// Processes that deliver at the same time at most, this one with them. They keep an endpoint's
    /// rate together, by the table; one that is alone keeps it by itself.
    pub processes: u32,
}

impl DeliverConfig {
    /// One process with the usual concurrency: well below the 1,024 files that a Lambda may have open, and enough for
    /// an endpoint to take two whole dispatches at once.
    pub fn new(public_url: impl Into<String>) -> Self {
        Self {
            public_url: public_url.into(),
            concurrency: 256,
            per_endpoint: 64,
            rate: Rate::default(),
            processes: 1,
        }
    }
}

/// Delivers events.
pub struct Deliverer {
    store: Store,
    queues: Queues,
    keyring: Keyring,
    sender: Sender,
    clock: Clock,
    config: DeliverConfig,
    observer: Arc<dyn Observer>,
    random: Random,
    lanes: Lanes,
    pulses: Pulses,
    apps: Cache<AppId, App>,
    banks: Cache<BankId, Arc<BankConfig>>,
}

impl Deliverer {
    /// A deliverer that nobody observes.
    pub fn new(
        store: Store,
        queues: Queues,
        vault: Arc<Vault>,
        sender: Sender,
        clock: Clock,
        config: DeliverConfig,
    ) -> Self {
        Self {
            keyring: Keyring::new(store.clone(), vault),
            store,
            queues,
            sender,
            clock,
            lanes: Lanes::new(config.concurrency, config.per_endpoint),
            pulses: Pulses::default(),
            config,
            observer: Arc::new(Silent),
            random: Random::system(),
            apps: Cache::default(),
            banks: Cache::default(),
        }
    }

    /// The same deliverer, telling `observer` of each attempt.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// The same deliverer, taking the jitter of its retries from `random`.
    #[must_use]
    pub fn drawing_from(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// The secrets of apps and endpoints.
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Tells of feed entries: each that is of the stream to each endpoint that wants it and has not
    /// been told. May be repeated: what is delivered is not sent again.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat the whole dispatch.
    pub async fn dispatch(&self, dispatch: Dispatch) -> Result<DispatchReport, DeliverError> {
        let (dispatch, rest) = split(dispatch);
        if let Some(rest) = rest {
            self.queues.send_dispatches(&[rest], 0).await?;
        }
        let mut report = DispatchReport::default();
        let Some(subject) = Subject::load(self, dispatch.record).await? else {
            return Ok(report);
        };
        let (entries, targets) = Box::pin(async {
            futures::try_join!(
                self.entries(&dispatch),
                self.targets(&subject.head, dispatch.stream)
            )
        })
        .await?;
        report.events = entries.len();
        let (ordered, targets): (Vec<Target>, Vec<Target>) = targets
            .into_iter()
            .partition(|target| target.ordered_since.is_some());
        let lines = self.tell_in_order(&subject, &entries, &ordered, &mut report);
        Box::pin(lines).await?;
        if targets.is_empty() {
            return Ok(report);
        }
        let accounts = self.accounts_of(&entries).await?;
        let events: Vec<Event> = entries.iter().map(Event::of).collect();
        let wanted: Vec<(usize, &Target)> = events
            .iter()
            .enumerate()
            .flat_map(|(at, event)| {
                let wants = move |target: &&Target| target.wants(event.name);
                targets.iter().filter(wants).map(move |target| (at, target))
            })
            .collect();
        let mut rows = self.rows(&events, &wanted).await?;
        let (subject, public_url) = (&subject, self.config.public_url.as_str());
        let mut work = Vec::with_capacity(wanted.len());
        for (at, target) in wanted {
            let (event, entry) = (&events[at], &entries[at]);
            let row = rows.remove(&event.key(target.endpoint));
            let account = accounts.of(entry)?;
            let body = move || subject.body(public_url, account, entry, target);
            // Boxed, because a borrowing closure inside the stream would make it not `Send`.
            let turn = &Turn::Free;
            work.push(
                self.tell(event, target, row, Mode::FIRST, turn, body)
                    .boxed(),
            );
        }
        let told: Vec<_> = stream::iter(work)
            .buffer_unordered(MAX_TOLD_AT_ONCE)
            .collect()
            .await;
        for came in told {
            report.count(came?.told);
        }
        Ok(report)
    }

    /// Tells these entries to endpoints that are told in order: each from the first on that it wants.
    async fn tell_in_order(
        &self,
        subject: &Subject,
        entries: &[FeedEntry],
        targets: &[Target],
        report: &mut DispatchReport,
    ) -> Result<(), DeliverError> {
        let first = |target: &Target| entries.iter().find(|entry| target.takes(entry)).cloned();
        let lines = targets.iter().filter_map(|target| {
            let first = first(target)?;
            let line = async move {
                let key = Event::of(&first).key(target.endpoint);
                let row = self.store.delivery(&key).await?;
                self.line(subject, target, (first, row), Mode::FIRST).await
            };
            Some(line.boxed())
        });
        let lines: Vec<_> = lines.collect();
        for walk in futures::future::join_all(lines).await {
            walk?.told.into_iter().for_each(|told| report.count(told));
        }
        Ok(())
    }

    /// The deliveries that there are of these events to these targets.
    async fn rows(
        &self,
        events: &[Event],
        wanted: &[(usize, &Target)],
    ) -> Result<HashMap<DeliveryKey, Delivery>, DeliverError> {
        let keys: Vec<DeliveryKey> = wanted
            .iter()
            .map(|(at, target)| events[*at].key(target.endpoint))
            .collect();
        let rows = self.store.deliveries(&keys).await?.into_iter();
        Ok(rows.map(|row| (row.key, row)).collect())
    }

    /// Makes the attempt that a wake-up is for, where it is still due.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn retry(&self, retry: Retry) -> Result<Told, DeliverError> {
        let mode = Mode {
            paced: retry.paced,
            ..Mode::AGAIN
        };
        let of = (retry.source, retry.seq, retry.endpoint);
        self.attempt_of(of, retry.attempt > 0, mode).await
    }

    /// Makes an attempt at one delivery, where it is due; `stored` says that it must be stored.
    pub(super) async fn attempt_of(
        &self,
        of: (Source, Seq, EndpointId),
        stored: bool,
        mode: Mode,
    ) -> Result<Told, DeliverError> {
        let told = Box::pin(self.attempts_of(of, stored, mode)).await?;
        Ok(told.first().copied().unwrap_or(Told::Skipped))
    }

    /// The same, and attempts at those behind it whose turn comes by that, where its endpoint is told in
    /// order.
    pub(super) async fn attempts_of(
        &self,
        (source, seq, endpoint): (Source, Seq, EndpointId),
        stored: bool,
        mode: Mode,
    ) -> Result<Vec<Told>, DeliverError> {
        let record = match source {
            Source::Record(record) => record,
            Source::App(app) => {
                let told = self.attempt_of_app(app, seq, endpoint, stored, mode);
                return Ok(vec![told.await?]);
            }
        };
        let Some(entry) = self.store.entry(record, seq).await? else {
            if self.is_removed(record).await? {
                return Ok(vec![Told::Unwanted]);
            }
            return Err(DeliverError::Gap {
                record,
                from: seq,
                to: seq,
            });
        };
        let event = Event::of(&entry);
        let row = self.store.delivery(&event.key(endpoint)).await?;
        // Also where nothing is due for it, those behind it in line may have to be gone on with.
        let in_line = row.as_ref().is_some_and(|row| row.line != Line::None);
        if !in_line && let Some(told) = self.undue(row.as_ref(), stored, mode).await? {
            return Ok(vec![told]);
        }
        let subject = Subject::load(self, record).await?;
        let target = match &subject {
            Some(subject) => self.target_of_record(&subject.head, endpoint).await?,
            None => None,
        };
        let (Some(subject), Some(target)) = (subject, target) else {
            return Ok(vec![self.close(&event, endpoint, row).await?]);
        };
        if !target.takes(&entry) {
            let told = self.close(&event, endpoint, row).await?;
            if in_line || target.ordered_since.is_some() {
                let behind = self.line_behind(&subject, &target, &entry, mode);
                Box::pin(behind).await?;
            }
            return Ok(vec![told]);
        }
        if in_line || target.ordered_since.is_some() {
            let line = self.line(&subject, &target, (entry, row), mode);
            return Ok(Box::pin(line).await?.told);
        }
        let accounts = self.accounts_of(std::slice::from_ref(&entry)).await?;
        let account = accounts.of(&entry)?;
        let body = || subject.body(&self.config.public_url, account, &entry, &target);
        let came = self.tell(&event, &target, row, mode, &Turn::Free, body);
        Ok(vec![Box::pin(came).await?.told])
    }

    /// What is to be said of a delivery for which nothing is due; `None` where something is.
    pub(super) async fn undue(
        &self,
        row: Option<&Delivery>,
        stored: bool,
        mode: Mode,
    ) -> Result<Option<Told>, DeliverError> {
        if row.is_none() && stored {
            return Ok(Some(Told::Skipped));
        }
        match step(row, self.clock.now(), mode) {
            Step::Done => Ok(Some(Told::Skipped)),
            Step::Wait { until } => {
                if let Some(row) = row {
                    self.wake(&row.key, row.attempts, until, false).await?;
                }
                Ok(Some(Told::Skipped))
            }
            Step::Attempt { .. } => Ok(None),
        }
    }

    /// The entries of a dispatch that are of its stream, in order.
    async fn entries(&self, dispatch: &Dispatch) -> Result<Vec<FeedEntry>, DeliverError> {
        let &Dispatch {
            record,
            from,
            to,
            stream,
        } = dispatch;
        let Some(before) = from.0.checked_sub(1).map(Seq) else {
            return Err(DeliverError::Gap { record, from, to });
        };
        let expected = usize::try_from(to.0.saturating_sub(before.0)).unwrap_or(usize::MAX);
        // The commit may be younger than what an eventually consistent read knows.
        for consistency in [Consistency::Eventual, Consistency::Strong] {
            let mut entries = self
                .store
                .feed(record, before, expected, consistency)
                .await?;
            let whole = entries.len() == expected;
            if whole || (consistency == Consistency::Strong && self.is_removed(record).await?) {
                entries.retain(|entry| entry.change.stream() == stream);
                return Ok(entries);
            }
        }
        Err(DeliverError::Gap { record, from, to })
    }

    /// True where a record is gone or going: entries that are missing were removed with it.
    async fn is_removed(&self, record: RecordId) -> Result<bool, DeliverError> {
        let head = self.store.head(record, Consistency::Strong).await?;
        Ok(head.is_none_or(|head| head.status == RecordStatus::Invalid))
    }
}

/// The part of a dispatch that is delivered at once, and the rest.
fn split(dispatch: Dispatch) -> (Dispatch, Option<Dispatch>) {
    let last = dispatch.from.plus(MAX_EVENTS_AT_ONCE - 1);
    if dispatch.to <= last {
        return (dispatch, None);
    }
    let rest = Dispatch {
        from: last.next(),
        ..dispatch
    };
    (
        Dispatch {
            to: last,
            ..dispatch
        },
        Some(rest),
    )
}

/// What is to be done about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, for good.
    Done,
    /// Nothing yet.
    Wait {
        /// When the next attempt is due.
        until: Timestamp,
    },
    /// An attempt.
    Attempt {
        /// Its number, from 1.
        number: u32,
    },
}

/// What a delivery's row says is to be done about it now.
fn step(row: Option<&Delivery>, now: Timestamp, mode: Mode) -> Step {
    let Some(row) = row else {
        return Step::Attempt { number: 1 };
    };
    let attempt = Step::Attempt {
        number: row.attempts.saturating_add(1),
    };
    match (row.state, row.next_at) {
        // Whoever asks for it gets the whole schedule anew.
        _ if mode.kind == Kind::Resend => Step::Attempt { number: 1 },
        _ if row.is_over() => Step::Done,
        // Whoever tends the endpoint sees to it.
        (DeliveryState::Parked, _) if mode.kind == Kind::Scheduled => Step::Done,
        // Somebody else is at it.
        (DeliveryState::Parked, Some(until)) if until > now => Step::Done,
        (DeliveryState::Retry, Some(until)) if until > now => Step::Wait { until },
        _ => attempt,
    }
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is due.
    Scheduled,
    /// To see whether an endpoint is back.
    Probe,
    /// The endpoint is back, and the event was parked.
    Drain,
    /// Somebody asked for it, whatever came of it before.
    Resend,
}

/// How an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) kind: Kind,
    /// By a dispatch, which others wait in: a slow endpoint gets a message of its own.
    pub(super) shared: bool,
    /// A place in the endpoint's pace is reserved.
    pub(super) paced: bool,
}

impl Mode {
    /// By a dispatch.
    pub(super) const FIRST: Self = Self {
        kind: Kind::Scheduled,
        shared: true,
        paced: false,
    };
    /// By a message of its own.
    pub(super) const AGAIN: Self = Self {
        shared: false,
        ..Self::FIRST
    };

    pub(super) const fn of(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::AGAIN
        }
    }
}

/// An event, as deliveries see it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) source: Source,
    pub(super) seq: Seq,
    /// When it was committed.
    pub(super) at: Timestamp,
    /// Okra's name of it.
    pub(super) name: &'static str,
}

impl Event {
    fn of(entry: &FeedEntry) -> Self {
        Self {
            source: entry.record.into(),
            seq: entry.seq,
            at: entry.at,
            name: event_name(&entry.change),
        }
    }

    pub(super) const fn key(&self, endpoint: EndpointId) -> DeliveryKey {
        DeliveryKey {
            endpoint,
            at: self.at,
            source: self.source,
            seq: self.seq,
        }
    }

    pub(super) fn id(&self) -> EventId {
        EventId::of_source(self.source, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use okra_core::feed::Stream;
    use proptest::prelude::*;

    use super::*;

    fn dispatch(from: u64, to: u64) -> Dispatch {
        Dispatch {
            record: RecordId::from_bytes([1; 12]),
            from: Seq(from),
            to: Seq(to),
            stream: Stream::Balance,
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_a_dispatch_cover_it_once(from in 1..1_000_000_u64, length in 0..2_000_u64) {
            let (mut next, to) = (from, from + length);
            let mut rest = Some(dispatch(from, to));
            while let Some(whole) = rest {
                let (part, later) = split(whole);
                prop_assert_eq!(part.from, Seq(next));
                prop_assert!(part.to >= part.from);
                prop_assert!(part.to.0 - part.from.0 < MAX_EVENTS_AT_ONCE);
                next = part.to.0 + 1;
                rest = later;
            }
            prop_assert_eq!(next, to + 1);
        }
    }

    #[test]
    fn the_row_says_what_to_do() {
        let now = Timestamp::from_second(1_000).unwrap();
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let check = |state, next_at, expected| {
            let row = Delivery {
                key: DeliveryKey {
                    endpoint: EndpointId::from_bytes([1; 12]),
                    at: now,
                    source: RecordId::from_bytes([1; 12]).into(),
                    seq: Seq(1),
                },
                event: "balance.success".to_owned(),
                state,
                attempts: 3,
                log: vec![],
                excerpt: None,
                next_at,
                replayed: false,
                line: Line::None,
                version: 3,
            };
            assert_eq!(step(Some(&row), now, Mode::FIRST), expected, "{row:?}");
            // Somebody who asks for it gets it.
            let resend = step(Some(&row), now, Mode::of(Kind::Resend));
            assert_eq!(resend, Step::Attempt { number: 1 }, "{row:?}");
            let drain = step(Some(&row), now, Mode::of(Kind::Drain));
            let expected = match state {
                DeliveryState::Parked => Step::Attempt { number: 4 },
                _ => expected,
            };
            assert_eq!(drain, expected, "{row:?}");
        };
        let until = Timestamp::from_second(1_001).unwrap();
        assert_eq!(step(None, now, Mode::FIRST), Step::Attempt { number: 1 });
        check(DeliveryState::Delivered, None, Step::Done);
        check(DeliveryState::Exhausted, None, Step::Done);
        check(DeliveryState::Cancelled, None, Step::Done);
        check(DeliveryState::Parked, None, Step::Done);
        check(DeliveryState::Retry, at(1_001), Step::Wait { until });
        check(DeliveryState::Retry, at(1_000), Step::Attempt { number: 4 });
        check(DeliveryState::Retry, at(1), Step::Attempt { number: 4 });
        // No row should say so, but one that does must not wait for ever.
        check(DeliveryState::Retry, None, Step::Attempt { number: 4 });
    }
}
