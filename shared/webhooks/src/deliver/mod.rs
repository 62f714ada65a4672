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
//! An endpoint that is down or disabled ([`okra_core::delivery::endpoint_health`]) is sent nothing but a probe now and
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
    model::{
        bank::BankConfig,
        ids::{AppId, BankId, EndpointId, EventId, FeedSource, RecordId, Seq},
    },
    resilience::rate_limiter::SendRate,
    sync::feed::FeedEntry,
};
use okra_queue::{DeliveryRetry, FeedDispatch, Queues, SendError};
use okra_store::{
    App, Consistency, Delivery, DeliveryKey, DeliveryState, FifoPosition, RecordStatus, Store,
    StoreError,
};
use okra_vault::Vault;
use okra_wire::webhook::event_name;

use self::{
    lanes::SendLanes, ordered::FifoStatus, pulse::EndpointActivities, subject::EventSubject,
    targets::DeliveryTarget,
};
pub use self::{
    replay::{RETENTION_S, retained_since},
    subject::render_bodies,
};
use crate::{
    cache::TimedCache,
    keyring::{Keyring, KeyringError},
    random::JitterRandom,
    report::{DeliveryObserver, DeliveryOutcome, DispatchReport, SilentDeliveryObserver},
    sender::{AttemptError, WebhookSender},
};

/// Events of a dispatch that are delivered at once; the rest goes on as another dispatch, so that an
/// endpoint that hangs holds a message up for one deadline and not for hundreds.
const MAX_EVENTS_AT_ONCE: u64 = 32;

/// Deliveries of one dispatch that are attempted at once.
const MAX_DELIVERIES_AT_ONCE: usize = 1024;

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
    Send(#[from] AttemptError),
    /// Feed entries that were dispatched are not in the table.
    #[error("feed entries {from} to {to} of record {record} are not all there")]
    MissingEntries {
        /// The record.
        record: RecordId,
        /// First entry.
        from: Seq,
        /// Last entry.
        to: Seq,
    },
    /// A minute had more retries than one sweep wakes; the next sweep goes on with it.
    #[error("minute {minute} has more retries than one sweep wakes")]
    SweepIncomplete {
        /// The minute, since 1970.
        minute: u64,
    },
    /// Something that a record stands on is not in the table.
    #[error("{what} of record {record} is not there")]
    MissingItem {
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
    pub endpoint_concurrency: usize,
    /// How fast an endpoint is sent events that has no rate of its own.
    pub default_rate: SendRate,
    /// Processes that deliver at the same time at most, this one with them. They keep an endpoint's
    /// rate together, by the table; one that is alone keeps it by itself.
    pub max_processes: u32,
}

impl DeliverConfig {
    /// One process with the usual concurrency: well below the 1,024 files that a Lambda may have open, and enough for
    /// an endpoint to take two whole dispatches at once.
    pub fn new(public_url: impl Into<String>) -> Self {
        Self {
            public_url: public_url.into(),
            concurrency: 256,
            endpoint_concurrency: 64,
            default_rate: SendRate::default(),
            max_processes: 1,
        }
    }
}

/// Delivers events.
pub struct Deliverer {
    store: Store,
    queues: Queues,
    keyring: Keyring,
    sender: WebhookSender,
    clock: Clock,
    config: DeliverConfig,
    observer: Arc<dyn DeliveryObserver>,
    random: JitterRandom,
    send_lanes: SendLanes,
    endpoint_activities: EndpointActivities,
    app_cache: TimedCache<AppId, App>,
    bank_cache: TimedCache<BankId, Arc<BankConfig>>,
}

impl Deliverer {
    /// A deliverer that nobody observes.
    pub fn new(
        store: Store,
        queues: Queues,
        vault: Arc<Vault>,
        sender: WebhookSender,
        clock: Clock,
        config: DeliverConfig,
    ) -> Self {
        Self {
            keyring: Keyring::new(store.clone(), vault),
            store,
            queues,
            sender,
            clock,
            send_lanes: SendLanes::new(config.concurrency, config.endpoint_concurrency),
            endpoint_activities: EndpointActivities::default(),
            config,
            observer: Arc::new(SilentDeliveryObserver),
            random: JitterRandom::from_system(),
            app_cache: TimedCache::default(),
            bank_cache: TimedCache::default(),
        }
    }

    /// The same deliverer, telling `observer` of each attempt.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn DeliveryObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// The same deliverer, taking the jitter of its retries from `random`.
    #[must_use]
    pub fn with_random(mut self, random: JitterRandom) -> Self {
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
    pub async fn deliver_dispatch(
        &self,
        dispatch: FeedDispatch,
    ) -> Result<DispatchReport, DeliverError> {
        let (dispatch, rest) = split_dispatch(dispatch);
        if let Some(rest) = rest {
            self.queues.send_dispatches(&[rest], 0).await?;
        }
        let mut report = DispatchReport::default();
        let Some(subject) = EventSubject::load_subject(self, dispatch.record).await? else {
            return Ok(report);
        };
        let (entries, targets) = Box::pin(async {
            futures::try_join!(
                self.load_dispatch_entries(&dispatch),
                self.load_stream_targets(&subject.head, dispatch.stream)
            )
        })
        .await?;
        report.events = entries.len();
        let (ordered, targets): (Vec<DeliveryTarget>, Vec<DeliveryTarget>) = targets
            .into_iter()
            .partition(|target| target.ordered_since.is_some());
        let lines = self.deliver_in_order(&subject, &entries, &ordered, &mut report);
        Box::pin(lines).await?;
        if targets.is_empty() {
            return Ok(report);
        }
        let accounts = self.load_entry_accounts(&entries).await?;
        let events: Vec<DeliveryEvent> = entries.iter().map(DeliveryEvent::from_entry).collect();
        let wanted: Vec<(usize, &DeliveryTarget)> = events
            .iter()
            .enumerate()
            .flat_map(|(at, event)| {
                let wants = move |target: &&DeliveryTarget| target.wants_event(event.name);
                targets.iter().filter(wants).map(move |target| (at, target))
            })
            .collect();
        let mut rows = self.load_deliveries(&events, &wanted).await?;
        let (subject, public_url) = (&subject, self.config.public_url.as_str());
        let mut work = Vec::with_capacity(wanted.len());
        for (at, target) in wanted {
            let (event, entry) = (&events[at], &entries[at]);
            let row = rows.remove(&event.delivery_key(target.endpoint));
            let account = accounts.account_for_entry(entry)?;
            let body = move || subject.render_body(public_url, account, entry, target);
            // Boxed, because a borrowing closure inside the stream would make it not `Send`.
            let turn = &FifoStatus::Unordered;
            work.push(
                self.attempt_delivery(event, target, row, AttemptMode::BY_DISPATCH, turn, body)
                    .boxed(),
            );
        }
        let told: Vec<_> = stream::iter(work)
            .buffer_unordered(MAX_DELIVERIES_AT_ONCE)
            .collect()
            .await;
        for came in told {
            report.count_outcome(came?.outcome);
        }
        Ok(report)
    }

    /// Tells these entries to endpoints that are told in order: each from the first on that it wants.
    async fn deliver_in_order(
        &self,
        subject: &EventSubject,
        entries: &[FeedEntry],
        targets: &[DeliveryTarget],
        report: &mut DispatchReport,
    ) -> Result<(), DeliverError> {
        let first = |target: &DeliveryTarget| {
            entries
                .iter()
                .find(|entry| target.wants_entry(entry))
                .cloned()
        };
        let lines = targets.iter().filter_map(|target| {
            let first = first(target)?;
            let line = async move {
                let key = DeliveryEvent::from_entry(&first).delivery_key(target.endpoint);
                let row = self.store.find_delivery(&key).await?;
                self.deliver_fifo(subject, target, (first, row), AttemptMode::BY_DISPATCH)
                    .await
            };
            Some(line.boxed())
        });
        let lines: Vec<_> = lines.collect();
        for walk in futures::future::join_all(lines).await {
            walk?
                .outcomes
                .into_iter()
                .for_each(|told| report.count_outcome(told));
        }
        Ok(())
    }

    /// The deliveries that there are of these events to these targets.
    async fn load_deliveries(
        &self,
        events: &[DeliveryEvent],
        wanted: &[(usize, &DeliveryTarget)],
    ) -> Result<HashMap<DeliveryKey, Delivery>, DeliverError> {
        let keys: Vec<DeliveryKey> = wanted
            .iter()
            .map(|(at, target)| events[*at].delivery_key(target.endpoint))
            .collect();
        let rows = self.store.load_deliveries(&keys).await?.into_iter();
        Ok(rows.map(|row| (row.key, row)).collect())
    }

    /// Makes the attempt that a wake-up is for, where it is still due.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn attempt_retry(
        &self,
        retry: DeliveryRetry,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let mode = AttemptMode {
            has_permit: retry.has_permit,
            ..AttemptMode::BY_OWN_MESSAGE
        };
        let of = (retry.source, retry.seq, retry.endpoint);
        self.attempt_one(of, retry.attempts_made > 0, mode).await
    }

    /// Makes an attempt at one delivery, where it is due; `stored` says that it must be stored.
    pub(super) async fn attempt_one(
        &self,
        of: (FeedSource, Seq, EndpointId),
        must_be_stored: bool,
        mode: AttemptMode,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let told = Box::pin(self.attempt_with_successors(of, must_be_stored, mode)).await?;
        Ok(told.first().copied().unwrap_or(DeliveryOutcome::Skipped))
    }

    /// The same, and attempts at those behind it whose turn comes by that, where its endpoint is told in
    /// order.
    pub(super) async fn attempt_with_successors(
        &self,
        (source, seq, endpoint): (FeedSource, Seq, EndpointId),
        must_be_stored: bool,
        mode: AttemptMode,
    ) -> Result<Vec<DeliveryOutcome>, DeliverError> {
        let record = match source {
            FeedSource::Record(record) => record,
            FeedSource::App(app) => {
                let told = self.attempt_app_delivery(app, seq, endpoint, must_be_stored, mode);
                return Ok(vec![told.await?]);
            }
        };
        let Some(entry) = self.store.find_feed_entry(record, seq).await? else {
            if self.is_record_removed(record).await? {
                return Ok(vec![DeliveryOutcome::Unwanted]);
            }
            return Err(DeliverError::MissingEntries {
                record,
                from: seq,
                to: seq,
            });
        };
        let event = DeliveryEvent::from_entry(&entry);
        let row = self
            .store
            .find_delivery(&event.delivery_key(endpoint))
            .await?;
        // Also where nothing is due for it, those behind it in line may have to be gone on with.
        let in_line = row
            .as_ref()
            .is_some_and(|row| row.fifo_position != FifoPosition::Unordered);
        if !in_line
            && let Some(told) = self
                .outcome_if_not_due(row.as_ref(), must_be_stored, mode)
                .await?
        {
            return Ok(vec![told]);
        }
        let subject = EventSubject::load_subject(self, record).await?;
        let target = match &subject {
            Some(subject) => self.load_record_target(&subject.head, endpoint).await?,
            None => None,
        };
        let (Some(subject), Some(target)) = (subject, target) else {
            return Ok(vec![self.cancel_delivery(&event, endpoint, row).await?]);
        };
        if !target.wants_entry(&entry) {
            let told = self.cancel_delivery(&event, endpoint, row).await?;
            if in_line || target.ordered_since.is_some() {
                let behind = self.continue_behind_removed(&subject, &target, &entry, mode);
                Box::pin(behind).await?;
            }
            return Ok(vec![told]);
        }
        if in_line || target.ordered_since.is_some() {
            let line = self.deliver_fifo(&subject, &target, (entry, row), mode);
            return Ok(Box::pin(line).await?.outcomes);
        }
        let accounts = self
            .load_entry_accounts(std::slice::from_ref(&entry))
            .await?;
        let account = accounts.account_for_entry(&entry)?;
        let body = || subject.render_body(&self.config.public_url, account, &entry, &target);
        let came = self.attempt_delivery(&event, &target, row, mode, &FifoStatus::Unordered, body);
        Ok(vec![Box::pin(came).await?.outcome])
    }

    /// What is to be said of a delivery for which nothing is due; `None` where something is.
    pub(super) async fn outcome_if_not_due(
        &self,
        row: Option<&Delivery>,
        must_be_stored: bool,
        mode: AttemptMode,
    ) -> Result<Option<DeliveryOutcome>, DeliverError> {
        if row.is_none() && must_be_stored {
            return Ok(Some(DeliveryOutcome::Skipped));
        }
        match next_step(row, self.clock.now(), mode) {
            DeliveryStep::Done => Ok(Some(DeliveryOutcome::Skipped)),
            DeliveryStep::Wait { until } => {
                if let Some(row) = row {
                    self.schedule_retry(&row.key, row.attempt_count, until, false)
                        .await?;
                }
                Ok(Some(DeliveryOutcome::Skipped))
            }
            DeliveryStep::Attempt { .. } => Ok(None),
        }
    }

    /// The entries of a dispatch that are of its stream, in order.
    async fn load_dispatch_entries(
        &self,
        dispatch: &FeedDispatch,
    ) -> Result<Vec<FeedEntry>, DeliverError> {
        let &FeedDispatch {
            record,
            first_seq: from,
            last_seq: to,
            stream,
        } = dispatch;
        let Some(before) = from.0.checked_sub(1).map(Seq) else {
            return Err(DeliverError::MissingEntries { record, from, to });
        };
        let expected = usize::try_from(to.0.saturating_sub(before.0)).unwrap_or(usize::MAX);
        // The commit may be younger than what an eventually consistent read knows.
        for consistency in [Consistency::Eventual, Consistency::Strong] {
            let mut entries = self
                .store
                .read_feed(record, before, expected, consistency)
                .await?;
            let whole = entries.len() == expected;
            if whole
                || (consistency == Consistency::Strong && self.is_record_removed(record).await?)
            {
                entries.retain(|entry| entry.change.stream() == stream);
                return Ok(entries);
            }
        }
        Err(DeliverError::MissingEntries { record, from, to })
    }

    /// True where a record is gone or going: entries that are missing were removed with it.
    async fn is_record_removed(&self, record: RecordId) -> Result<bool, DeliverError> {
        let head = self.store.find_head(record, Consistency::Strong).await?;
        Ok(head.is_none_or(|head| head.status == RecordStatus::Invalid))
    }
}

/// The part of a dispatch that is delivered at once, and the rest.
fn split_dispatch(dispatch: FeedDispatch) -> (FeedDispatch, Option<FeedDispatch>) {
    let last = dispatch.first_seq.plus(MAX_EVENTS_AT_ONCE - 1);
    if dispatch.last_seq <= last {
        return (dispatch, None);
    }
    let rest = FeedDispatch {
        first_seq: last.next(),
        ..dispatch
    };
    (
        FeedDispatch {
            last_seq: last,
            ..dispatch
        },
        Some(rest),
    )
}

/// What is to be done about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeliveryStep {
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
fn next_step(row: Option<&Delivery>, now: Timestamp, mode: AttemptMode) -> DeliveryStep {
    let Some(row) = row else {
        return DeliveryStep::Attempt { number: 1 };
    };
    let attempt = DeliveryStep::Attempt {
        number: row.attempt_count.saturating_add(1),
    };
    match (row.state, row.next_attempt_at) {
        // Whoever asks for it gets the whole schedule anew.
        _ if mode.kind == AttemptKind::Resend => DeliveryStep::Attempt { number: 1 },
        _ if row.is_final() => DeliveryStep::Done,
        // Whoever tends the endpoint sees to it.
        (DeliveryState::Parked, _) if mode.kind == AttemptKind::Scheduled => DeliveryStep::Done,
        // Somebody else is at it.
        (DeliveryState::Parked, Some(until)) if until > now => DeliveryStep::Done,
        (DeliveryState::Retry, Some(until)) if until > now => DeliveryStep::Wait { until },
        _ => attempt,
    }
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptKind {
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
pub(super) struct AttemptMode {
    pub(super) kind: AttemptKind,
    /// By a dispatch, which others wait in: a slow endpoint gets a message of its own.
    pub(super) is_shared_message: bool,
    /// A place in the endpoint's pace is reserved.
    pub(super) has_permit: bool,
}

impl AttemptMode {
    /// By a dispatch.
    pub(super) const BY_DISPATCH: Self = Self {
        kind: AttemptKind::Scheduled,
        is_shared_message: true,
        has_permit: false,
    };
    /// By a message of its own.
    pub(super) const BY_OWN_MESSAGE: Self = Self {
        is_shared_message: false,
        ..Self::BY_DISPATCH
    };

    pub(super) const fn for_kind(kind: AttemptKind) -> Self {
        Self {
            kind,
            ..Self::BY_OWN_MESSAGE
        }
    }
}

/// An event, as deliveries see it.
#[derive(Clone, Debug)]
pub(super) struct DeliveryEvent {
    pub(super) source: FeedSource,
    pub(super) seq: Seq,
    /// When it was committed.
    pub(super) committed_at: Timestamp,
    /// Okra's name of it.
    pub(super) name: &'static str,
}

impl DeliveryEvent {
    fn from_entry(entry: &FeedEntry) -> Self {
        Self {
            source: entry.record.into(),
            seq: entry.seq,
            committed_at: entry.committed_at,
            name: event_name(&entry.change),
        }
    }

    pub(super) const fn delivery_key(&self, endpoint: EndpointId) -> DeliveryKey {
        DeliveryKey {
            endpoint,
            committed_at: self.committed_at,
            source: self.source,
            seq: self.seq,
        }
    }

    pub(super) fn event_id(&self) -> EventId {
        EventId::for_feed_entry(self.source, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use okra_core::sync::feed::FeedStream;
    use proptest::prelude::*;

    use super::*;

    fn sample_dispatch(from: u64, to: u64) -> FeedDispatch {
        FeedDispatch {
            record: RecordId::from_bytes([1; 12]),
            first_seq: Seq(from),
            last_seq: Seq(to),
            stream: FeedStream::Balance,
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_a_dispatch_cover_it_once(from in 1..1_000_000_u64, length in 0..2_000_u64) {
            let (mut next, to) = (from, from + length);
            let mut rest = Some(sample_dispatch(from, to));
            while let Some(whole) = rest {
                let (part, later) = split_dispatch(whole);
                prop_assert_eq!(part.first_seq, Seq(next));
                prop_assert!(part.last_seq >= part.first_seq);
                prop_assert!(part.last_seq.0 - part.first_seq.0 < MAX_EVENTS_AT_ONCE);
                next = part.last_seq.0 + 1;
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
                    committed_at: now,
                    source: RecordId::from_bytes([1; 12]).into(),
                    seq: Seq(1),
                },
                event_name: "balance.success".to_owned(),
                state,
                attempt_count: 3,
                attempt_log: vec![],
                response_excerpt: None,
                next_attempt_at: next_at,
                is_redelivery: false,
                fifo_position: FifoPosition::Unordered,
                version: 3,
            };
            assert_eq!(
                next_step(Some(&row), now, AttemptMode::BY_DISPATCH),
                expected,
                "{row:?}"
            );
            // Somebody who asks for it gets it.
            let resend = next_step(Some(&row), now, AttemptMode::for_kind(AttemptKind::Resend));
            assert_eq!(resend, DeliveryStep::Attempt { number: 1 }, "{row:?}");
            let drain = next_step(Some(&row), now, AttemptMode::for_kind(AttemptKind::Drain));
            let expected = match state {
                DeliveryState::Parked => DeliveryStep::Attempt { number: 4 },
                _ => expected,
            };
            assert_eq!(drain, expected, "{row:?}");
        };
        let until = Timestamp::from_second(1_001).unwrap();
        assert_eq!(
            next_step(None, now, AttemptMode::BY_DISPATCH),
            DeliveryStep::Attempt { number: 1 }
        );
        check(DeliveryState::Delivered, None, DeliveryStep::Done);
        check(DeliveryState::Exhausted, None, DeliveryStep::Done);
        check(DeliveryState::Cancelled, None, DeliveryStep::Done);
        check(DeliveryState::Parked, None, DeliveryStep::Done);
        check(
            DeliveryState::Retry,
            at(1_001),
            DeliveryStep::Wait { until },
        );
        check(
            DeliveryState::Retry,
            at(1_000),
            DeliveryStep::Attempt { number: 4 },
        );
        check(
            DeliveryState::Retry,
            at(1),
            DeliveryStep::Attempt { number: 4 },
        );
        // No row should say so, but one that does must not wait for ever.
        check(
            DeliveryState::Retry,
            None,
            DeliveryStep::Attempt { number: 4 },
        );
    }
}
