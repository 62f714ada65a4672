//! Order: where an endpoint asked for it, the events of a record come to it one after another.
//!
//! Those of a record that it wants are a line. An event is sent for the first time when none before it
//! holds it up any more: each is over, or was tried in vain for long enough
//! ([`okra_core::delivery::retry::holds_up`]), of which the next that is sent says that it is missing. Other
//! records are other lines.
//!
//! What waits has no row: the feed knows it. Whoever settles an event looks into the feed after that
//! was stored, and goes on with what comes behind; whoever has an event looks at those before it after
//! it was committed. So one of them sees the other, and a message that comes again goes on from a row
//! that is settled. An event that waits for one that nobody has begun looks again after a minute, and
//! then begins it itself.

use std::collections::{BTreeMap, VecDeque};

use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use okra_core::{
    delivery::endpoint_health::EndpointAdmission,
    model::ids::{FeedSource, RecordId, Seq},
    sync::feed::FeedEntry,
};
use okra_queue::EndpointMaintenance;
use okra_store::{Consistency, Delivery, DeliveryKey, DeliveryState, FifoPosition};

use super::{
    AttemptKind, AttemptMode, DeliverError, Deliverer, DeliveryEvent, DeliveryStep, DeliveryTarget,
    LEASE_S,
    attempt::{DeliveryProgress, add_seconds},
    next_step,
    parking::DRAIN_PAUSE_S,
    subject::EventSubject,
};
use crate::report::{DeliveryOutcome, MaintenanceOutcome};

/// Events of a line that one message sends at most; another goes on.
const MAX_ATTEMPTS_PER_MESSAGE: usize = 32;

/// Seconds after which a message leaves what comes next to another: one that hangs may follow, and
/// takes its deadline.
const FIFO_BUDGET_S: i64 = 5;

/// Feed entries that are read at once on the way forward, and how often.
const FEED_PAGE: usize = 32;
const MAX_FEED_PAGES: usize = 32;

/// Feed entries that are looked back through, step by step. What is further back holds nothing up.
const LOOK_BACK_ENTRIES: [u64; 4] = [1, 15, 100, 400];

/// Events that are gone back to where one waits for another, at most.
const MAX_PREDECESSORS: usize = 64;

/// Events that a header names as missing, at most: the newest.
const MAX_MISSING_SEQS: usize = 32;

/// Seconds after its commit from which on an event that nobody has begun is begun by those that wait
/// for it: its own message was lost, or saw the endpoint as it was before.
const BEGIN_AFTER_S: i64 = 60;

/// Parked events that are read at once for a drain, and how often where all of them wait.
const DRAIN_PAGE: usize = 100;
const MAX_DRAIN_PAGES: usize = 32;

/// Whether it is an event's turn.
#[derive(Clone, Debug)]
pub(super) enum FifoStatus {
    /// It is in no line.
    Unordered,
    /// It is.
    AtHead {
        /// Those of its line that did not come before it, though they should have; oldest first.
        missing_seqs: Vec<Seq>,
    },
    /// It is not, and it does not wait for it.
    OutOfOrder,
}

impl FifoStatus {
    /// Where an event stands after an attempt.
    pub(super) fn next_position(&self, position: FifoPosition, settled: bool) -> FifoPosition {
        match self {
            Self::Unordered => position,
            Self::AtHead { .. } if settled => FifoPosition::Released,
            Self::AtHead { .. } | Self::OutOfOrder => position.max(FifoPosition::Queued),
        }
    }

    pub(super) fn missing_seqs(&self) -> &[Seq] {
        match self {
            Self::AtHead { missing_seqs: gap } => gap,
            Self::Unordered | Self::OutOfOrder => &[],
        }
    }
}

/// What came of going along a line.
#[derive(Debug, Default)]
pub(super) struct FifoProgress {
    /// What came of each event, the first being the one it began with.
    pub(super) outcomes: Vec<DeliveryOutcome>,
    /// A parked event's turn has come, and its endpoint takes no more for now.
    needs_drain: bool,
}

/// What stands before an event in its line.
enum Predecessors {
    /// Nothing that holds it up.
    Settled { gap: Vec<Seq> },
    /// The next before it that is not settled.
    Unsettled(Box<FeedEntry>, Option<Delivery>),
}

/// Which event of a line is to be sent.
enum FifoHead {
    Entry(Box<FeedEntry>, Option<Delivery>, Vec<Seq>),
    /// None: one before is being seen to. Where nobody may know of it, look again then.
    Waiting(Option<Timestamp>),
    /// None: one before is parked, and so is this.
    Parked,
}

/// How a line goes on.
#[derive(Clone, Debug)]
enum FifoContinuation {
    /// Not by us.
    Stop,
    /// The next has its turn; with what did not come before it, where that is known.
    SendNext(Option<Vec<Seq>>),
    /// What comes behind is parked too.
    ParkNext,
}

/// An endpoint that is told a record's events in order.
struct OrderedContext<'a> {
    subject: &'a EventSubject,
    target: &'a DeliveryTarget,
    mode: AttemptMode,
}

impl Deliverer {
    /// Sees to an event of a line, and to those behind it whose turn comes by that.
    pub(super) async fn deliver_fifo(
        &self,
        subject: &EventSubject,
        target: &DeliveryTarget,
        (first, row): (FeedEntry, Option<Delivery>),
        mode: AttemptMode,
    ) -> Result<FifoProgress, DeliverError> {
        let way = OrderedContext {
            subject,
            target,
            mode,
        };
        let mut walk = FifoProgress::default();
        let (at, then) = self.attempt_first(&way, first, row, &mut walk).await?;
        if mode.kind == AttemptKind::Probe {
            // Whoever asks whether the endpoint is back does that alone.
            if matches!(then, FifoContinuation::SendNext(_)) {
                self.schedule_retry(&at, 0, self.clock.now(), false).await?;
            }
            return Ok(walk);
        }
        self.continue_fifo(&way, at, then, &mut walk).await?;
        Ok(walk)
    }

    /// Goes on behind an event that is not of the line any more.
    pub(super) async fn continue_behind_removed(
        &self,
        subject: &EventSubject,
        target: &DeliveryTarget,
        removed: &FeedEntry,
        mode: AttemptMode,
    ) -> Result<(), DeliverError> {
        let way = OrderedContext {
            subject,
            target,
            mode,
        };
        let at = DeliveryEvent::from_entry(removed).delivery_key(target.endpoint);
        let mut walk = FifoProgress::default();
        self.continue_fifo(&way, at, FifoContinuation::SendNext(None), &mut walk)
            .await
    }

    /// The event that a message is for, or the one that it waits for; how the line goes on behind it.
    async fn attempt_first(
        &self,
        context: &OrderedContext<'_>,
        first: FeedEntry,
        row: Option<Delivery>,
        progress: &mut FifoProgress,
    ) -> Result<(DeliveryKey, FifoContinuation), DeliverError> {
        let (target, mode, now) = (context.target, context.mode, self.clock.now());
        let key = DeliveryEvent::from_entry(&first).delivery_key(target.endpoint);
        let gate = target.health.health.admission(now);
        let asked = mode.kind == AttemptKind::Resend;
        let begun = row
            .as_ref()
            .filter(|row| asked || row.state == DeliveryState::Retry);
        let over = match next_step(row.as_ref(), now, mode) {
            DeliveryStep::Done => true,
            DeliveryStep::Wait { until } if mode.kind != AttemptKind::Probe => {
                let made = row.as_ref().map_or(0, |row| row.attempt_count);
                self.schedule_retry(&key, made, until, false).await?;
                true
            }
            DeliveryStep::Wait { .. } | DeliveryStep::Attempt { .. } => false,
        };
        if over {
            progress.outcomes.push(DeliveryOutcome::Skipped);
            let then = match row {
                Some(row) if row.releases_next_event() => FifoContinuation::SendNext(None),
                // What came behind it may have been left when its message broke off.
                Some(row) if row.state == DeliveryState::Parked => FifoContinuation::ParkNext,
                _ => FifoContinuation::Stop,
            };
            return Ok((key, then));
        }
        let parks = gate == EndpointAdmission::Park && mode.kind == AttemptKind::Scheduled;
        if asked || parks {
            let then = self
                .attempt_entry(context, &first, row, FifoStatus::OutOfOrder, mode, progress)
                .await?;
            return Ok((
                key,
                if parks {
                    FifoContinuation::ParkNext
                } else {
                    then
                },
            ));
        }
        if begun.is_some() && mode.kind != AttemptKind::Probe {
            let turn = match self
                .check_predecessors(target, first.record, first.seq)
                .await?
            {
                Predecessors::Settled { gap } => FifoStatus::AtHead { missing_seqs: gap },
                Predecessors::Unsettled(..) => FifoStatus::OutOfOrder,
            };
            let then = self
                .attempt_entry(context, &first, row, turn, mode, progress)
                .await?;
            return Ok((key, then));
        }
        let is_new = row.is_none();
        let head = self.find_fifo_head(context, first.clone(), row).await?;
        let until = match (head, gate) {
            (FifoHead::Entry(entry, ..), EndpointAdmission::Wait { until })
                if entry.seq != first.seq && mode.kind == AttemptKind::Scheduled =>
            {
                Some(until)
            }
            (FifoHead::Entry(entry, row, gap), _) => {
                let at = DeliveryEvent::from_entry(&entry).delivery_key(target.endpoint);
                let turn = FifoStatus::AtHead { missing_seqs: gap };
                let then = self
                    .attempt_entry(context, &entry, row, turn, mode, progress)
                    .await?;
                return Ok((at, then));
            }
            (FifoHead::Parked, _) => {
                let told = self
                    .park_delivery(
                        &DeliveryEvent::from_entry(&first),
                        target,
                        None,
                        FifoPosition::Queued,
                    )
                    .await?;
                progress.outcomes.push(told);
                return Ok((key, FifoContinuation::ParkNext));
            }
            (FifoHead::Waiting(until), _) => until,
        };
        if let Some(until) = until.filter(|_| is_new) {
            self.schedule_retry(&key, 0, until, false).await?;
        }
        progress.outcomes.push(DeliveryOutcome::AwaitingPredecessor);
        Ok((key, FifoContinuation::Stop))
    }

    /// Goes along the line behind `at` as long as one settles the other.
    async fn continue_fifo(
        &self,
        context: &OrderedContext<'_>,
        mut at: DeliveryKey,
        mut continuation: FifoContinuation,
        progress: &mut FifoProgress,
    ) -> Result<(), DeliverError> {
        let FeedSource::Record(record) = at.source else {
            return Ok(());
        };
        let (target, started) = (context.target, self.clock.now());
        let (mut page, mut pages) = (VecDeque::new(), 0);
        loop {
            if matches!(continuation, FifoContinuation::Stop) {
                break;
            }
            if page.is_empty() {
                let more = self
                    .store
                    .read_feed(record, at.seq, FEED_PAGE, Consistency::Strong)
                    .await?;
                page = VecDeque::from(more);
                pages += 1;
            }
            let Some(entry) = page.pop_front() else {
                break;
            };
            let late = add_seconds(started, FIFO_BUDGET_S) <= self.clock.now();
            if late || pages > MAX_FEED_PAGES || progress.outcomes.len() >= MAX_ATTEMPTS_PER_MESSAGE
            {
                self.schedule_retry(&at, 0, self.clock.now(), false).await?;
                break;
            }
            let event = DeliveryEvent::from_entry(&entry);
            at = event.delivery_key(target.endpoint);
            if !target.wants_entry(&entry) {
                continue;
            }
            let row = self.store.find_delivery(&at).await?;
            if row.as_ref().is_some_and(Delivery::releases_next_event) {
                if let FifoContinuation::SendNext(known) = &mut continuation {
                    *known = None;
                }
                continue;
            }
            let parked = match &row {
                None => false,
                Some(row) if row.state == DeliveryState::Parked => true,
                // It has its own time, and whoever settles it goes on. Who tried it came from here, and
                // may have ended before it had a wake-up.
                Some(row) => {
                    let next = row.next_attempt_at.unwrap_or_else(|| self.clock.now());
                    self.schedule_retry(&at, row.attempt_count, next, false)
                        .await?;
                    break;
                }
            };
            continuation = match continuation {
                FifoContinuation::ParkNext if parked => FifoContinuation::ParkNext,
                FifoContinuation::ParkNext => {
                    let told = self
                        .park_delivery(&event, target, None, FifoPosition::Queued)
                        .await?;
                    progress.outcomes.push(told);
                    FifoContinuation::ParkNext
                }
                FifoContinuation::SendNext(known) => {
                    let gap = match known {
                        Some(gap) => gap,
                        None => match self.check_predecessors(target, record, entry.seq).await? {
                            Predecessors::Settled { gap } => gap,
                            Predecessors::Unsettled(..) => break,
                        },
                    };
                    let mode = AttemptMode {
                        kind: if parked {
                            AttemptKind::Drain
                        } else {
                            AttemptKind::Scheduled
                        },
                        has_permit: false,
                        ..context.mode
                    };
                    let turn = FifoStatus::AtHead { missing_seqs: gap };
                    self.attempt_entry(context, &entry, row, turn, mode, progress)
                        .await?
                }
                FifoContinuation::Stop => break,
            };
        }
        if progress.needs_drain && context.mode.kind != AttemptKind::Drain {
            let (app, endpoint) = (target.app, target.endpoint);
            let soon = add_seconds(self.clock.now(), DRAIN_PAUSE_S);
            self.schedule_maintenance(EndpointMaintenance { app, endpoint }, soon)
                .await?;
        }
        Ok(())
    }

    /// An attempt at an event; how the line goes on behind it.
    async fn attempt_entry(
        &self,
        context: &OrderedContext<'_>,
        entry: &FeedEntry,
        row: Option<Delivery>,
        fifo: FifoStatus,
        mode: AttemptMode,
        progress: &mut FifoProgress,
    ) -> Result<FifoContinuation, DeliverError> {
        let (subject, target) = (context.subject, context.target);
        let event = DeliveryEvent::from_entry(entry);
        let parked = row
            .as_ref()
            .is_some_and(|row| row.state == DeliveryState::Parked);
        let row = match row {
            // A probe does not wait for the time of the event it asks with.
            Some(row) if mode.kind == AttemptKind::Probe && !parked => Some(Delivery {
                next_attempt_at: None,
                ..row
            }),
            row => row,
        };
        let accounts = self
            .load_entry_accounts(std::slice::from_ref(entry))
            .await?;
        let account = accounts.account_for_entry(entry)?;
        let body = || subject.render_body(&self.config.public_url, account, entry, target);
        let DeliveryProgress {
            outcome: told,
            is_settled: settled,
        } = self
            .attempt_delivery(&event, target, row, mode, &fifo, body)
            .boxed()
            .await?;
        progress.outcomes.push(told);
        progress.needs_drain |= parked && told == DeliveryOutcome::RateLimited;
        if parked
            && !matches!(
                told,
                DeliveryOutcome::Parked | DeliveryOutcome::RateLimited | DeliveryOutcome::Skipped
            )
        {
            self.store
                .unpark_event(&event.delivery_key(target.endpoint))
                .await?;
        }
        Ok(match (told, fifo) {
            (DeliveryOutcome::Delivered, FifoStatus::AtHead { .. }) if settled => {
                FifoContinuation::SendNext(Some(Vec::new()))
            }
            (
                _,
                FifoStatus::AtHead {
                    missing_seqs: mut gap,
                },
            ) if settled => {
                gap.push(event.seq);
                gap.drain(..gap.len().saturating_sub(MAX_MISSING_SEQS));
                FifoContinuation::SendNext(Some(gap))
            }
            _ if settled => FifoContinuation::SendNext(None),
            (DeliveryOutcome::Parked, _) => FifoContinuation::ParkNext,
            _ => FifoContinuation::Stop,
        })
    }

    /// The event whose turn it is: this one, or one before it that nobody else sees to.
    async fn find_fifo_head(
        &self,
        context: &OrderedContext<'_>,
        first: FeedEntry,
        row: Option<Delivery>,
    ) -> Result<FifoHead, DeliverError> {
        let (kind, now) = (context.mode.kind, self.clock.now());
        let (mut entry, mut row) = (Box::new(first), row);
        for _ in 0..MAX_PREDECESSORS {
            match self
                .check_predecessors(context.target, entry.record, entry.seq)
                .await?
            {
                Predecessors::Settled { gap } => return Ok(FifoHead::Entry(entry, row, gap)),
                Predecessors::Unsettled(before, its) => {
                    match its.as_ref().map(|it| (it.state, it.next_attempt_at)) {
                        Some((DeliveryState::Parked, _)) if kind == AttemptKind::Scheduled => {
                            return Ok(FifoHead::Parked);
                        }
                        // Somebody else is at it.
                        Some((DeliveryState::Parked, Some(until))) if until > now => {
                            return Ok(FifoHead::Waiting(None));
                        }
                        Some((DeliveryState::Parked, _)) => {}
                        Some(_) if kind != AttemptKind::Probe => {
                            return Ok(FifoHead::Waiting(None));
                        }
                        Some(_) => {}
                        None => {
                            let begin = add_seconds(before.committed_at, BEGIN_AFTER_S);
                            if begin > now && kind != AttemptKind::Probe {
                                return Ok(FifoHead::Waiting(Some(begin)));
                            }
                        }
                    }
                    (entry, row) = (before, its);
                }
            }
        }
        Ok(FifoHead::Waiting(Some(add_seconds(now, BEGIN_AFTER_S))))
    }

    /// What of its line stands before an event and is not settled, and what did not come. Rows are
    /// read strongly.
    async fn check_predecessors(
        &self,
        target: &DeliveryTarget,
        record: RecordId,
        seq: Seq,
    ) -> Result<Predecessors, DeliverError> {
        let mut gap = VecDeque::new();
        // What comes before one that had its turn holds nothing up: it is looked for gaps alone.
        let (mut past, mut before) = (false, seq);
        let Some(since) = target.ordered_since else {
            return Ok(Predecessors::Settled { gap: Vec::new() });
        };
        'back: for count in LOOK_BACK_ENTRIES {
            let last = Seq(before.0.saturating_sub(1));
            let after = Seq(last.0.saturating_sub(count));
            for entry in self
                .load_entries_between(record, after, last)
                .await?
                .into_iter()
                .rev()
            {
                // To the millisecond, as it is stored.
                if entry.committed_at.as_millisecond() < since.as_millisecond() {
                    break 'back;
                }
                if !target.wants_entry(&entry) {
                    continue;
                }
                let key = DeliveryEvent::from_entry(&entry).delivery_key(target.endpoint);
                let row = self.store.find_delivery(&key).await?;
                let Some(row) = row.as_ref().filter(|row| row.releases_next_event()) else {
                    if past {
                        continue;
                    }
                    return Ok(Predecessors::Unsettled(Box::new(entry), row));
                };
                past |= row.fifo_position == FifoPosition::Released;
                let came = row.state == DeliveryState::Delivered || row.is_redelivery;
                if !came {
                    gap.push_front(entry.seq);
                }
                if past && (came || gap.len() >= MAX_MISSING_SEQS) {
                    break 'back;
                }
            }
            before = after.next();
            if after == Seq::ZERO {
                break;
            }
        }
        gap.drain(..gap.len().saturating_sub(MAX_MISSING_SEQS));
        Ok(Predecessors::Settled { gap: gap.into() })
    }

    /// The entries after `after` until `last`, which is committed: all of them, as long as their record
    /// is there.
    async fn load_entries_between(
        &self,
        record: RecordId,
        after: Seq,
        last: Seq,
    ) -> Result<Vec<FeedEntry>, DeliverError> {
        let count = usize::try_from(last.0 - after.0).unwrap_or(usize::MAX);
        if count == 0 {
            return Ok(Vec::new());
        }
        let read = |consistency| self.store.read_feed(record, after, count, consistency);
        let entries = read(Consistency::Eventual).await?;
        if entries.len() == count {
            return Ok(entries);
        }
        Ok(read(Consistency::Strong).await?)
    }

    /// Sends what is parked for an endpoint that is told in order: of each record the first, and what
    /// follows it.
    pub(super) async fn drain_ordered_endpoint(
        &self,
        task: EndpointMaintenance,
        at_once: usize,
    ) -> Result<MaintenanceOutcome, DeliverError> {
        let (mut sent, mut moved, mut left) = (0, 0, 0);
        let mut after: Option<DeliveryKey> = None;
        'pages: for _ in 0..MAX_DRAIN_PAGES {
            let keys = self
                .store
                .list_parked_events_after(task.endpoint, after.as_ref(), DRAIN_PAGE)
                .await?;
            let is_last = keys.len() < DRAIN_PAGE;
            after = keys.last().copied();
            let mut lines: Vec<Vec<DeliveryKey>> = Vec::new();
            let mut known: BTreeMap<FeedSource, usize> = BTreeMap::new();
            for key in keys {
                let at = *known.entry(key.source).or_insert_with(|| {
                    lines.push(Vec::new());
                    lines.len() - 1
                });
                lines[at].push(key);
            }
            for some in lines.chunks(at_once) {
                // Boxed, because a borrowing closure inside the stream would make it not `Send`.
                let work: Vec<_> = some
                    .iter()
                    .map(|line| self.drain_ordered_source(line).boxed())
                    .collect();
                let told: Vec<_> = stream::iter(work).buffer_unordered(at_once).collect().await;
                for told in told {
                    for told in told? {
                        match told {
                            DeliveryOutcome::Delivered => (sent, moved) = (sent + 1, moved + 1),
                            DeliveryOutcome::RetryScheduled
                            | DeliveryOutcome::Exhausted
                            | DeliveryOutcome::Unwanted => moved += 1,
                            DeliveryOutcome::RateLimited | DeliveryOutcome::Parked => left += 1,
                            DeliveryOutcome::AwaitingPredecessor | DeliveryOutcome::Skipped => {}
                        }
                    }
                }
                if moved + left > 0 {
                    break 'pages;
                }
            }
            if is_last {
                break;
            }
        }
        if self
            .store
            .list_parked_events(task.endpoint, 1)
            .await?
            .is_empty()
        {
            self.store.reset_parked_count(task.endpoint).await?;
        } else {
            let pause = match (left, moved) {
                // All wait: whoever settles what they wait for goes on with them.
                (0, 0) => LEASE_S,
                (0, _) => 0,
                _ => DRAIN_PAUSE_S,
            };
            self.schedule_maintenance(task, add_seconds(self.clock.now(), pause))
                .await?;
        }
        Ok(MaintenanceOutcome::Drained { sent })
    }

    /// Sends what is parked of one source, from the first on.
    async fn drain_ordered_source(
        &self,
        keys: &[DeliveryKey],
    ) -> Result<Vec<DeliveryOutcome>, DeliverError> {
        let mut told = Vec::new();
        if let Some(FeedSource::App(_)) = keys.first().map(|key| key.source) {
            for key in keys {
                told.push(self.drain_parked_event(*key).await?);
            }
            return Ok(told);
        }
        let mut waits: Vec<DeliveryKey> = Vec::new();
        for row in self.store.load_deliveries(keys).await? {
            if row.state == DeliveryState::Parked {
                waits.push(row.key);
            }
        }
        for key in keys.iter().filter(|key| !waits.contains(key)) {
            self.store.unpark_event(key).await?;
            told.push(DeliveryOutcome::Unwanted);
        }
        let Some(first) = waits.iter().min_by_key(|key| key.seq) else {
            return Ok(told);
        };
        let of = (first.source, first.seq, first.endpoint);
        match self
            .attempt_with_successors(of, false, AttemptMode::for_kind(AttemptKind::Drain))
            .await
        {
            Ok(more) => told.extend(more),
            // Its feed entry is gone: there is nothing to tell any more.
            Err(DeliverError::MissingEntries { .. }) => {
                self.store.unpark_event(first).await?;
                told.push(DeliveryOutcome::Unwanted);
            }
            Err(error) => return Err(error),
        }
        Ok(told)
    }
}
