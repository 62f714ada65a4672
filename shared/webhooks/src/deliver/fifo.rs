//! FIFO: executes the order of a record's events that [`okra_core::delivery::fifo`] decides.
//!
//! An event that waits has no row: the feed has it. Whoever settles an event reads the feed after that was stored, and
//! continues with the event behind; whoever has an event looks at those before it after it was committed. So one of
//! them sees the other, and a message that comes again continues from a row that is settled. An event that waits for
//! one that nobody has begun is looked at again after a minute, and then begins that one itself.
//!
//! [`FifoHead`] is the event that is sent, [`FifoContinuation`] how the events behind go on. The rule: each message
//! sends a bounded number of events, and another message continues.

use std::collections::VecDeque;

use futures::FutureExt;
use jiff::Timestamp;
use okra_core::{
    delivery::{
        attempt::AttemptKind,
        endpoint_health::EndpointAdmission,
        fifo::{
            BEGIN_AFTER_S, FifoStatus, PredecessorAction, PredecessorScan, PredecessorStep,
            predecessor_action,
        },
        state_machine::{AttemptDue, attempt_due},
    },
    model::ids::{FeedSource, RecordId, Seq},
    sync::feed::FeedEntry,
};
use okra_queue::EndpointMaintenance;
use okra_store::{Consistency, Delivery, DeliveryKey, DeliveryState, FifoPosition};

use super::{
    attempt::{AttemptContext, DeliveryProgress},
    deliverer::Deliverer,
    error::DeliverError,
    event::{AttemptMode, DeliveryEvent, add_seconds},
    subject::EventSubject,
    targets::DeliveryTarget,
};
use crate::report::DeliveryOutcome;

/// Events of a record that one message sends at most; another continues.
const MAX_ATTEMPTS_PER_MESSAGE: usize = 32;

/// Seconds after which a message leaves the next event to another: one that hangs may follow, and takes its deadline.
const MESSAGE_BUDGET_S: i64 = 5;

/// Feed entries that are read at once on the way forward, and how often.
const FEED_PAGE: usize = 32;
const MAX_FEED_PAGES: usize = 32;

/// Feed entries that are looked back through, step by step. What is further back blocks nothing.
const LOOK_BACK_ENTRIES: [u64; 4] = [1, 15, 100, 400];

/// Events that are gone back through at most where each waits for the one before.
const MAX_PREDECESSORS: usize = 64;

/// Seconds until a drain goes on whose endpoint takes no more for now.
pub(super) const DRAIN_PAUSE_S: i64 = 1;

/// What came of the events that one message was for.
#[derive(Debug, Default)]
pub(super) struct FifoProgress {
    /// What came of each event, in the order of attempts.
    pub(super) outcomes: Vec<DeliveryOutcome>,
    /// A parked event is at the head, and its endpoint takes no more for now.
    needs_drain: bool,
}

/// An endpoint that gets a record's events in order, and why it is sent some.
#[derive(Clone, Copy)]
pub(super) struct FifoContext<'a> {
    pub(super) subject: &'a EventSubject,
    pub(super) target: &'a DeliveryTarget,
    pub(super) mode: AttemptMode,
}

/// An event with its delivery, where it has one.
pub(super) struct QueuedEvent {
    pub(super) entry: FeedEntry,
    pub(super) row: Option<Delivery>,
}

/// Where the next event of a record is, and what is missing before it.
#[derive(Clone, Debug)]
enum FifoContinuation {
    /// Another message continues.
    Stop,
    /// The next event is at the head. The events that are missing before it, where they are known.
    SendNext(Option<Vec<Seq>>),
    /// The events behind are parked too.
    ParkNext,
}

/// Which event of a record is sent.
enum FifoHead {
    /// This one.
    Send(Box<QueuedEvent>, Vec<Seq>),
    /// None: one before is attempted elsewhere. Where that is not certain, look again then.
    Wait(Option<Timestamp>),
    /// None: one before is parked, and so is this.
    Park,
}

/// The events before another.
enum Predecessors {
    /// None blocks it; these are missing.
    Settled(Vec<Seq>),
    /// The newest that blocks it.
    Unsettled(Box<QueuedEvent>),
}

/// Reads the entries of a feed one by one.
struct FeedCursor {
    record: RecordId,
    page: VecDeque<FeedEntry>,
    pages_read: usize,
}

impl Deliverer {
    /// Attempts an event, and those behind it that it no longer blocks.
    pub(super) async fn deliver_fifo(
        &self,
        context: FifoContext<'_>,
        first: QueuedEvent,
    ) -> Result<FifoProgress, DeliverError> {
        let mut progress = FifoProgress::default();
        let (key, continuation) = self.attempt_first(context, first, &mut progress).await?;
        if context.mode.kind == AttemptKind::Probe {
            // A probe sends one event only.
            if matches!(continuation, FifoContinuation::SendNext(_)) {
                self.schedule_retry(&key, 0, self.now(), false).await?;
            }
            return Ok(progress);
        }
        self.continue_fifo(context, key, continuation, &mut progress)
            .await?;
        Ok(progress)
    }

    /// Continues behind an event that its endpoint does not want any more.
    pub(super) async fn continue_behind_removed(
        &self,
        context: FifoContext<'_>,
        removed: &FeedEntry,
    ) -> Result<(), DeliverError> {
        let key = DeliveryEvent::from_entry(removed).delivery_key(context.target.endpoint);
        let mut progress = FifoProgress::default();
        self.continue_fifo(
            context,
            key,
            FifoContinuation::SendNext(None),
            &mut progress,
        )
        .await
    }

    /// Attempts the event that a message is for, or the one that blocks it. The event that was attempted, and how
    /// those behind it go on.
    async fn attempt_first(
        &self,
        context: FifoContext<'_>,
        first: QueuedEvent,
        progress: &mut FifoProgress,
    ) -> Result<(DeliveryKey, FifoContinuation), DeliverError> {
        let FifoContext { target, mode, .. } = context;
        let key = DeliveryEvent::from_entry(&first.entry).delivery_key(target.endpoint);
        if self
            .is_attempt_due(&key, first.row.as_ref(), mode.kind)
            .await?
        {
            return self.attempt_due_event(context, key, first, progress).await;
        }
        progress.outcomes.push(DeliveryOutcome::Skipped);
        let continuation = match first.row {
            Some(row) if row.releases_next_event() => FifoContinuation::SendNext(None),
            // The events behind it may not be parked yet: the message that did it may have ended early.
            Some(row) if row.state == DeliveryState::Parked => FifoContinuation::ParkNext,
            _ => FifoContinuation::Stop,
        };
        Ok((key, continuation))
    }

    /// True where an attempt is due now. One that is due later is scheduled; a probe does not wait for its event.
    async fn is_attempt_due(
        &self,
        key: &DeliveryKey,
        row: Option<&Delivery>,
        kind: AttemptKind,
    ) -> Result<bool, DeliverError> {
        match attempt_due(row, kind, self.now()) {
            AttemptDue::Never => Ok(false),
            AttemptDue::At { due_at } if kind != AttemptKind::Probe => {
                let attempts_made = row.map_or(0, |row| row.attempt_count);
                self.schedule_retry(key, attempts_made, due_at, false)
                    .await?;
                Ok(false)
            }
            AttemptDue::At { .. } | AttemptDue::Now { .. } => Ok(true),
        }
    }

    async fn attempt_due_event(
        &self,
        context: FifoContext<'_>,
        key: DeliveryKey,
        first: QueuedEvent,
        progress: &mut FifoProgress,
    ) -> Result<(DeliveryKey, FifoContinuation), DeliverError> {
        let FifoContext { target, mode, .. } = context;

        // What somebody requested, and what is going to be parked, does not wait for its turn.
        let is_parking = mode.kind == AttemptKind::Scheduled
            && target.health.health.admission(self.now()) == EndpointAdmission::Park;
        if mode.kind == AttemptKind::Resend || is_parking {
            let continuation = self
                .attempt_entry(context, first, FifoStatus::OutOfOrder, progress)
                .await?;
            return Ok(match is_parking {
                true => (key, FifoContinuation::ParkNext),
                false => (key, continuation),
            });
        }

        // An event that was sent before is sent again when it is due, also where one before it is not settled.
        let has_begun = first
            .row
            .as_ref()
            .is_some_and(|row| row.state == DeliveryState::Retry);
        if has_begun && mode.kind != AttemptKind::Probe {
            let status = match self.check_predecessors(target, &first.entry).await? {
                Predecessors::Settled(missing_seqs) => FifoStatus::AtHead { missing_seqs },
                Predecessors::Unsettled(_) => FifoStatus::OutOfOrder,
            };
            let continuation = self.attempt_entry(context, first, status, progress).await?;
            return Ok((key, continuation));
        }

        // Any other is sent only at the head of its record's events.
        self.attempt_head(context, key, first, progress).await
    }

    /// Attempts the event at the head: this one, or one before it that nobody else attempts.
    async fn attempt_head(
        &self,
        context: FifoContext<'_>,
        key: DeliveryKey,
        first: QueuedEvent,
        progress: &mut FifoProgress,
    ) -> Result<(DeliveryKey, FifoContinuation), DeliverError> {
        let FifoContext { target, mode, .. } = context;
        let (is_new, first_seq) = (first.row.is_none(), first.entry.seq);
        let first_event = DeliveryEvent::from_entry(&first.entry);
        let admission = target.health.health.admission(self.now());
        let look_again_at = match self.find_fifo_head(context, first).await? {
            FifoHead::Park => {
                let outcome = self
                    .park_delivery(&first_event, target, None, FifoPosition::Queued)
                    .await?;
                progress.outcomes.push(outcome);
                return Ok((key, FifoContinuation::ParkNext));
            }
            FifoHead::Wait(until) => until,
            FifoHead::Send(head, missing_seqs) => match admission {
                EndpointAdmission::Wait { until }
                    if head.entry.seq != first_seq && mode.kind == AttemptKind::Scheduled =>
                {
                    Some(until)
                }
                _ => {
                    let head_event = DeliveryEvent::from_entry(&head.entry);
                    let status = FifoStatus::AtHead { missing_seqs };
                    let continuation = self.attempt_entry(context, *head, status, progress).await?;
                    return Ok((head_event.delivery_key(target.endpoint), continuation));
                }
            },
        };
        if let Some(at) = look_again_at.filter(|_| is_new) {
            self.schedule_retry(&key, 0, at, false).await?;
        }
        progress.outcomes.push(DeliveryOutcome::AwaitingPredecessor);
        Ok((key, FifoContinuation::Stop))
    }

    /// Continues behind an event as long as each one settles.
    async fn continue_fifo(
        &self,
        context: FifoContext<'_>,
        mut key: DeliveryKey,
        mut continuation: FifoContinuation,
        progress: &mut FifoProgress,
    ) -> Result<(), DeliverError> {
        let FeedSource::Record(record) = key.source else {
            return Ok(());
        };
        let target = context.target;
        let deadline = add_seconds(self.now(), MESSAGE_BUDGET_S);
        let mut feed = FeedCursor {
            record,
            page: VecDeque::new(),
            pages_read: 0,
        };
        while !matches!(continuation, FifoContinuation::Stop)
            && let Some(entry) = self.next_feed_entry(&mut feed, key.seq).await?
        {
            if deadline <= self.now()
                || feed.pages_read > MAX_FEED_PAGES
                || progress.outcomes.len() >= MAX_ATTEMPTS_PER_MESSAGE
            {
                self.schedule_retry(&key, 0, self.now(), false).await?;
                break;
            }
            key = DeliveryEvent::from_entry(&entry).delivery_key(target.endpoint);
            if target.wants_entry(&entry) {
                continuation = self
                    .continue_with_entry(context, entry, continuation, progress)
                    .await?;
            }
        }
        if progress.needs_drain && context.mode.kind != AttemptKind::Drain {
            let (app, endpoint) = (target.app, target.endpoint);
            let soon = add_seconds(self.now(), DRAIN_PAUSE_S);
            self.schedule_maintenance(EndpointMaintenance { app, endpoint }, soon)
                .await?;
        }
        Ok(())
    }

    /// Attempts or parks the event behind the last; how those behind this one go on.
    async fn continue_with_entry(
        &self,
        context: FifoContext<'_>,
        entry: FeedEntry,
        continuation: FifoContinuation,
        progress: &mut FifoProgress,
    ) -> Result<FifoContinuation, DeliverError> {
        let target = context.target;
        let event = DeliveryEvent::from_entry(&entry);
        let key = event.delivery_key(target.endpoint);
        let row = self.store.find_delivery(&key).await?;
        if row.as_ref().is_some_and(Delivery::releases_next_event) {
            return Ok(match continuation {
                // What is missing before the next event has to be looked up.
                FifoContinuation::SendNext(_) => FifoContinuation::SendNext(None),
                other => other,
            });
        }
        let is_parked = match &row {
            None => false,
            Some(row) if row.state == DeliveryState::Parked => true,
            // It has its own time, and whoever settles it continues. Whoever attempted it came from here, and may have
            // crashed before its wake-up was scheduled.
            Some(row) => {
                let next_at = row.next_attempt_at.unwrap_or_else(|| self.now());
                self.schedule_retry(&key, row.attempt_count, next_at, false)
                    .await?;
                return Ok(FifoContinuation::Stop);
            }
        };
        let missing_seqs = match continuation {
            FifoContinuation::Stop => return Ok(FifoContinuation::Stop),
            FifoContinuation::ParkNext => {
                if !is_parked {
                    let outcome = self
                        .park_delivery(&event, target, None, FifoPosition::Queued)
                        .await?;
                    progress.outcomes.push(outcome);
                }
                return Ok(FifoContinuation::ParkNext);
            }
            FifoContinuation::SendNext(Some(missing_seqs)) => missing_seqs,
            FifoContinuation::SendNext(None) => {
                match self.check_predecessors(target, &entry).await? {
                    Predecessors::Settled(missing_seqs) => missing_seqs,
                    Predecessors::Unsettled(_) => return Ok(FifoContinuation::Stop),
                }
            }
        };
        let kind = match is_parked {
            true => AttemptKind::Drain,
            false => AttemptKind::Scheduled,
        };
        let mode = AttemptMode {
            kind,
            has_permit: false,
            ..context.mode
        };
        let status = FifoStatus::AtHead { missing_seqs };
        self.attempt_entry(
            FifoContext { mode, ..context },
            QueuedEvent { entry, row },
            status,
            progress,
        )
        .await
    }

    /// The next entry of a feed after `after`, which is the last that was returned.
    async fn next_feed_entry(
        &self,
        feed: &mut FeedCursor,
        after: Seq,
    ) -> Result<Option<FeedEntry>, DeliverError> {
        if feed.page.is_empty() {
            let entries = self
                .store
                .read_feed(feed.record, after, FEED_PAGE, Consistency::Strong)
                .await?;
            feed.page = entries.into();
            feed.pages_read += 1;
        }
        Ok(feed.page.pop_front())
    }

    /// Attempts an event; how those behind it go on.
    async fn attempt_entry(
        &self,
        context: FifoContext<'_>,
        queued: QueuedEvent,
        status: FifoStatus,
        progress: &mut FifoProgress,
    ) -> Result<FifoContinuation, DeliverError> {
        let FifoContext {
            subject,
            target,
            mode,
        } = context;
        let QueuedEvent { entry, mut row } = queued;
        let event = DeliveryEvent::from_entry(&entry);
        let is_parked = row
            .as_ref()
            .is_some_and(|row| row.state == DeliveryState::Parked);
        // A probe does not wait until its event is due.
        if mode.kind == AttemptKind::Probe
            && !is_parked
            && let Some(row) = &mut row
        {
            row.next_attempt_at = None;
        }
        let accounts = self
            .load_entry_accounts(std::slice::from_ref(&entry))
            .await?;
        let account = accounts.account_for_entry(&entry)?;
        let attempt = AttemptContext {
            event: &event,
            target,
            mode,
            fifo: &status,
        };
        let DeliveryProgress {
            outcome,
            is_settled,
        } = self
            .attempt_delivery(attempt, row, || {
                subject.render_body(&self.config.public_url, account, &entry, target)
            })
            .boxed()
            .await?;
        progress.outcomes.push(outcome);
        progress.needs_drain |= is_parked && outcome == DeliveryOutcome::RateLimited;
        let stays_parked = matches!(
            outcome,
            DeliveryOutcome::Parked | DeliveryOutcome::RateLimited | DeliveryOutcome::Skipped
        );
        if is_parked && !stays_parked {
            self.store
                .unpark_event(&event.delivery_key(target.endpoint))
                .await?;
        }
        Ok(if is_settled {
            let is_delivered = outcome == DeliveryOutcome::Delivered;
            FifoContinuation::SendNext(status.missing_before_next(event.seq, is_delivered))
        } else if outcome == DeliveryOutcome::Parked {
            FifoContinuation::ParkNext
        } else {
            FifoContinuation::Stop
        })
    }

    /// The event at the head: this one, or one before it that nobody else attempts.
    async fn find_fifo_head(
        &self,
        context: FifoContext<'_>,
        first: QueuedEvent,
    ) -> Result<FifoHead, DeliverError> {
        let (kind, now) = (context.mode.kind, self.now());
        let mut head = Box::new(first);
        for _ in 0..MAX_PREDECESSORS {
            let before = match self.check_predecessors(context.target, &head.entry).await? {
                Predecessors::Settled(missing_seqs) => {
                    return Ok(FifoHead::Send(head, missing_seqs));
                }
                Predecessors::Unsettled(before) => before,
            };
            let committed_at = before.entry.committed_at;
            match predecessor_action(before.row.as_ref(), committed_at, kind, now) {
                PredecessorAction::ParkBehind => return Ok(FifoHead::Park),
                PredecessorAction::AwaitSettlement => return Ok(FifoHead::Wait(None)),
                PredecessorAction::AwaitBegin { until } => return Ok(FifoHead::Wait(Some(until))),
                PredecessorAction::TakeOver => head = before,
            }
        }
        Ok(FifoHead::Wait(Some(add_seconds(now, BEGIN_AFTER_S))))
    }

    /// Looks back from an event for one that blocks it, and for those that are missing. Deliveries are read strongly.
    async fn check_predecessors(
        &self,
        target: &DeliveryTarget,
        entry: &FeedEntry,
    ) -> Result<Predecessors, DeliverError> {
        let mut scan = PredecessorScan::default();
        let Some(ordered_since) = target.ordered_since else {
            return Ok(Predecessors::Settled(Vec::new()));
        };
        let mut before = entry.seq;
        'back: for count in LOOK_BACK_ENTRIES {
            // Sequences begin at 1, so saturation is the beginning of the feed.
            let last = Seq(before.0.saturating_sub(1));
            let after = Seq(last.0.saturating_sub(count));
            let entries = self.load_entries_between(entry.record, after, last).await?;
            for entry in entries.into_iter().rev() {
                // To the millisecond, as it is stored.
                if entry.committed_at.as_millisecond() < ordered_since.as_millisecond() {
                    break 'back;
                }
                if !target.wants_entry(&entry) {
                    continue;
                }
                let key = DeliveryEvent::from_entry(&entry).delivery_key(target.endpoint);
                let row = self.store.find_delivery(&key).await?;
                match scan.examine(entry.seq, row.as_ref()) {
                    PredecessorStep::Continue => {}
                    PredecessorStep::Finish => break 'back,
                    PredecessorStep::Block => {
                        return Ok(Predecessors::Unsettled(Box::new(QueuedEvent {
                            entry,
                            row,
                        })));
                    }
                }
            }
            before = after.next();
            if after == Seq::ZERO {
                break;
            }
        }
        Ok(Predecessors::Settled(scan.into_missing_seqs()))
    }

    /// The entries after `after` until `last`, which is committed: all of them, as long as their record is there.
    async fn load_entries_between(
        &self,
        record: RecordId,
        after: Seq,
        last: Seq,
    ) -> Result<Vec<FeedEntry>, DeliverError> {
        // At most the largest of `LOOK_BACK_ENTRIES`.
        let count = usize::try_from(last.0 - after.0).unwrap_or(usize::MAX);
        if count == 0 {
            return Ok(Vec::new());
        }
        let entries = self
            .store
            .read_feed(record, after, count, Consistency::Eventual)
            .await?;
        if entries.len() == count {
            return Ok(entries);
        }
        Ok(self
            .store
            .read_feed(record, after, count, Consistency::Strong)
            .await?)
    }
}
