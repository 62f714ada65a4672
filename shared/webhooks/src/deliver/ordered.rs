//! Order: where an endpoint asked for it, the events of a record come to it one after another.
//!
//! Those of a record that it wants are a line. An event is sent for the first time when none before it
//! holds it up any more: each is over, or was tried in vain for long enough
//! ([`okra_core::retry::holds_up`]), of which the next that is sent says that it is missing. Other
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
    feed::FeedEntry,
    health::Gate,
    ids::{RecordId, Seq, Source},
};
use okra_queue::Tend;
use okra_store::{Consistency, Delivery, DeliveryKey, DeliveryState, Line};

use super::{
    DeliverError, Deliverer, Event, Kind, LEASE_S, Mode, Step, Target,
    attempt::{Came, later},
    parking::DRAIN_AGAIN_S,
    step,
    subject::Subject,
};
use crate::report::{Tended, Told};

/// Events of a line that one message sends at most; another goes on.
const MAX_IN_LINE: usize = 32;

/// Seconds after which a message leaves what comes next to another: one that hangs may follow, and
/// takes its deadline.
const LINE_S: i64 = 5;

/// Feed entries that are read at once on the way forward, and how often.
const PAGE: usize = 32;
const MAX_PAGES: usize = 32;

/// Feed entries that are looked back through, step by step. What is further back holds nothing up.
const LOOK_BACK: [u64; 4] = [1, 15, 100, 400];

/// Events that are gone back to where one waits for another, at most.
const MAX_BACK: usize = 64;

/// Events that a header names as missing, at most: the newest.
const MAX_GAP: usize = 32;

/// Seconds after its commit from which on an event that nobody has begun is begun by those that wait
/// for it: its own message was lost, or saw the endpoint as it was before.
const BEGIN_S: i64 = 60;

/// Parked events that are read at once for a drain, and how often where all of them wait.
const DRAIN_PAGE: usize = 100;
const MAX_DRAIN_PAGES: usize = 32;

/// Whether it is an event's turn.
#[derive(Clone, Debug)]
pub(super) enum Turn {
    /// It is in no line.
    Free,
    /// It is.
    Now {
        /// Those of its line that did not come before it, though they should have; oldest first.
        gap: Vec<Seq>,
    },
    /// It is not, and it does not wait for it.
    Out,
}

impl Turn {
    /// Where an event stands after an attempt.
    pub(super) fn line(&self, before: Line, settled: bool) -> Line {
        match self {
            Self::Free => before,
            Self::Now { .. } if settled => Line::Past,
            Self::Now { .. } | Self::Out => before.max(Line::In),
        }
    }

    pub(super) fn gap(&self) -> &[Seq] {
        match self {
            Self::Now { gap } => gap,
            Self::Free | Self::Out => &[],
        }
    }
}

/// What came of going along a line.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// What came of each event, the first being the one it began with.
    pub(super) told: Vec<Told>,
    /// A parked event's turn has come, and its endpoint takes no more for now.
    drains: bool,
}

/// What stands before an event in its line.
enum Ahead {
    /// Nothing that holds it up.
    Nothing { gap: Vec<Seq> },
    /// The next before it that is not settled.
    Event(Box<FeedEntry>, Option<Delivery>),
}

/// Which event of a line is to be sent.
enum Head {
    This(Box<FeedEntry>, Option<Delivery>, Vec<Seq>),
    /// None: one before is being seen to. Where nobody may know of it, look again then.
    Waits(Option<Timestamp>),
    /// None: one before is parked, and so is this.
    Parks,
}

/// How a line goes on.
#[derive(Clone, Debug)]
enum Then {
    /// Not by us.
    Stop,
    /// The next has its turn; with what did not come before it, where that is known.
    Next(Option<Vec<Seq>>),
    /// What comes behind is parked too.
    Park,
}

/// An endpoint that is told a record's events in order.
struct Way<'a> {
    subject: &'a Subject,
    target: &'a Target,
    mode: Mode,
}

impl Deliverer {
    /// Sees to an event of a line, and to those behind it whose turn comes by that.
    pub(super) async fn line(
        &self,
        subject: &Subject,
        target: &Target,
        (first, row): (FeedEntry, Option<Delivery>),
        mode: Mode,
    ) -> Result<Walk, DeliverError> {
        let way = Way {
            subject,
            target,
            mode,
        };
        let mut walk = Walk::default();
        let (at, then) = self.first(&way, first, row, &mut walk).await?;
        if mode.kind == Kind::Probe {
            // Whoever asks whether the endpoint is back does that alone.
            if matches!(then, Then::Next(_)) {
                self.wake(&at, 0, self.clock.now(), false).await?;
            }
            return Ok(walk);
        }
        self.go_on(&way, at, then, &mut walk).await?;
        Ok(walk)
    }

    /// Goes on behind an event that is not of the line any more.
    pub(super) async fn line_behind(
        &self,
        subject: &Subject,
        target: &Target,
        gone: &FeedEntry,
        mode: Mode,
    ) -> Result<(), DeliverError> {
        let way = Way {
            subject,
            target,
            mode,
        };
        let at = Event::of(gone).key(target.endpoint);
        let mut walk = Walk::default();
        self.go_on(&way, at, Then::Next(None), &mut walk).await
    }

    /// The event that a message is for, or the one that it waits for; how the line goes on behind it.
    async fn first(
        &self,
        way: &Way<'_>,
        first: FeedEntry,
        row: Option<Delivery>,
        walk: &mut Walk,
    ) -> Result<(DeliveryKey, Then), DeliverError> {
        let (target, mode, now) = (way.target, way.mode, self.clock.now());
        let key = Event::of(&first).key(target.endpoint);
        let gate = target.health.health.gate(now);
        let asked = mode.kind == Kind::Resend;
        let begun = row
            .as_ref()
            .filter(|row| asked || row.state == DeliveryState::Retry);
        let over = match step(row.as_ref(), now, mode) {
            Step::Done => true,
            Step::Wait { until } if mode.kind != Kind::Probe => {
                let made = row.as_ref().map_or(0, |row| row.attempts);
                self.wake(&key, made, until, false).await?;
                true
            }
            Step::Wait { .. } | Step::Attempt { .. } => false,
        };
        if over {
            walk.told.push(Told::Skipped);
            let then = match row {
                Some(row) if row.is_settled() => Then::Next(None),
                // What came behind it may have been left when its message broke off.
                Some(row) if row.state == DeliveryState::Parked => Then::Park,
                _ => Then::Stop,
            };
            return Ok((key, then));
        }
        let parks = gate == Gate::Park && mode.kind == Kind::Scheduled;
        if asked || parks {
            let then = self.step(way, &first, row, Turn::Out, mode, walk).await?;
            return Ok((key, if parks { Then::Park } else { then }));
        }
        if begun.is_some() && mode.kind != Kind::Probe {
            let turn = match self.ahead(target, first.record, first.seq).await? {
                Ahead::Nothing { gap } => Turn::Now { gap },
                Ahead::Event(..) => Turn::Out,
            };
            let then = self.step(way, &first, row, turn, mode, walk).await?;
            return Ok((key, then));
        }
        let is_new = row.is_none();
        let head = self.head(way, first.clone(), row).await?;
        let until = match (head, gate) {
            (Head::This(entry, ..), Gate::Wait { until })
                if entry.seq != first.seq && mode.kind == Kind::Scheduled =>
            {
                Some(until)
            }
            (Head::This(entry, row, gap), _) => {
                let at = Event::of(&entry).key(target.endpoint);
                let turn = Turn::Now { gap };
                let then = self.step(way, &entry, row, turn, mode, walk).await?;
                return Ok((at, then));
            }
            (Head::Parks, _) => {
                let told = self
                    .park_row(&Event::of(&first), target, None, Line::In)
                    .await?;
                walk.told.push(told);
                return Ok((key, Then::Park));
            }
            (Head::Waits(until), _) => until,
        };
        if let Some(until) = until.filter(|_| is_new) {
            self.wake(&key, 0, until, false).await?;
        }
        walk.told.push(Told::Held);
        Ok((key, Then::Stop))
    }

    /// Goes along the line behind `at` as long as one settles the other.
    async fn go_on(
        &self,
        way: &Way<'_>,
        mut at: DeliveryKey,
        mut then: Then,
        walk: &mut Walk,
    ) -> Result<(), DeliverError> {
        let Source::Record(record) = at.source else {
            return Ok(());
        };
        let (target, started) = (way.target, self.clock.now());
        let (mut page, mut pages) = (VecDeque::new(), 0);
        loop {
            if matches!(then, Then::Stop) {
                break;
            }
            if page.is_empty() {
                let more = self
                    .store
                    .feed(record, at.seq, PAGE, Consistency::Strong)
                    .await?;
                page = VecDeque::from(more);
                pages += 1;
            }
            let Some(entry) = page.pop_front() else {
                break;
            };
            let late = later(started, LINE_S) <= self.clock.now();
            if late || pages > MAX_PAGES || walk.told.len() >= MAX_IN_LINE {
                self.wake(&at, 0, self.clock.now(), false).await?;
                break;
            }
            let event = Event::of(&entry);
            at = event.key(target.endpoint);
            if !target.takes(&entry) {
                continue;
            }
            let row = self.store.delivery(&at).await?;
            if row.as_ref().is_some_and(Delivery::is_settled) {
                if let Then::Next(known) = &mut then {
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
                    let next = row.next_at.unwrap_or_else(|| self.clock.now());
                    self.wake(&at, row.attempts, next, false).await?;
                    break;
                }
            };
            then = match then {
                Then::Park if parked => Then::Park,
                Then::Park => {
                    let told = self.park_row(&event, target, None, Line::In).await?;
                    walk.told.push(told);
                    Then::Park
                }
                Then::Next(known) => {
                    let gap = match known {
                        Some(gap) => gap,
                        None => match self.ahead(target, record, entry.seq).await? {
                            Ahead::Nothing { gap } => gap,
                            Ahead::Event(..) => break,
                        },
                    };
                    let mode = Mode {
                        kind: if parked { Kind::Drain } else { Kind::Scheduled },
                        paced: false,
                        ..way.mode
                    };
                    let turn = Turn::Now { gap };
                    self.step(way, &entry, row, turn, mode, walk).await?
                }
                Then::Stop => break,
            };
        }
        if walk.drains && way.mode.kind != Kind::Drain {
            let (app, endpoint) = (target.app, target.endpoint);
            let soon = later(self.clock.now(), DRAIN_AGAIN_S);
            self.tend_at(Tend { app, endpoint }, soon).await?;
        }
        Ok(())
    }

    /// An attempt at an event; how the line goes on behind it.
    async fn step(
        &self,
        way: &Way<'_>,
        entry: &FeedEntry,
        row: Option<Delivery>,
        turn: Turn,
        mode: Mode,
        walk: &mut Walk,
    ) -> Result<Then, DeliverError> {
        let (subject, target) = (way.subject, way.target);
        let event = Event::of(entry);
        let parked = row
            .as_ref()
            .is_some_and(|row| row.state == DeliveryState::Parked);
        let row = match row {
            // A probe does not wait for the time of the event it asks with.
            Some(row) if mode.kind == Kind::Probe && !parked => Some(Delivery {
                next_at: None,
                ..row
            }),
            row => row,
        };
        let accounts = self.accounts_of(std::slice::from_ref(entry)).await?;
        let account = accounts.of(entry)?;
        let body = || subject.body(&self.config.public_url, account, entry, target);
        let Came { told, settled } = self
            .tell(&event, target, row, mode, &turn, body)
            .boxed()
            .await?;
        walk.told.push(told);
        walk.drains |= parked && told == Told::Paced;
        if parked && !matches!(told, Told::Parked | Told::Paced | Told::Skipped) {
            self.store.unpark(&event.key(target.endpoint)).await?;
        }
        Ok(match (told, turn) {
            (Told::Delivered, Turn::Now { .. }) if settled => Then::Next(Some(Vec::new())),
            (_, Turn::Now { mut gap }) if settled => {
                gap.push(event.seq);
                gap.drain(..gap.len().saturating_sub(MAX_GAP));
                Then::Next(Some(gap))
            }
            _ if settled => Then::Next(None),
            (Told::Parked, _) => Then::Park,
            _ => Then::Stop,
        })
    }

    /// The event whose turn it is: this one, or one before it that nobody else sees to.
    async fn head(
        &self,
        way: &Way<'_>,
        first: FeedEntry,
        row: Option<Delivery>,
    ) -> Result<Head, DeliverError> {
        let (kind, now) = (way.mode.kind, self.clock.now());
        let (mut entry, mut row) = (Box::new(first), row);
        for _ in 0..MAX_BACK {
            match self.ahead(way.target, entry.record, entry.seq).await? {
                Ahead::Nothing { gap } => return Ok(Head::This(entry, row, gap)),
                Ahead::Event(before, its) => {
                    match its.as_ref().map(|it| (it.state, it.next_at)) {
                        Some((DeliveryState::Parked, _)) if kind == Kind::Scheduled => {
                            return Ok(Head::Parks);
                        }
                        // Somebody else is at it.
                        Some((DeliveryState::Parked, Some(until))) if until > now => {
                            return Ok(Head::Waits(None));
                        }
                        Some((DeliveryState::Parked, _)) => {}
                        Some(_) if kind != Kind::Probe => return Ok(Head::Waits(None)),
                        Some(_) => {}
                        None => {
                            let begin = later(before.at, BEGIN_S);
                            if begin > now && kind != Kind::Probe {
                                return Ok(Head::Waits(Some(begin)));
                            }
                        }
                    }
                    (entry, row) = (before, its);
                }
            }
        }
        Ok(Head::Waits(Some(later(now, BEGIN_S))))
    }

    /// What of its line stands before an event and is not settled, and what did not come. Rows are
    /// read strongly.
    async fn ahead(
        &self,
        target: &Target,
        record: RecordId,
        seq: Seq,
    ) -> Result<Ahead, DeliverError> {
        let mut gap = VecDeque::new();
        // What comes before one that had its turn holds nothing up: it is looked for gaps alone.
        let (mut past, mut before) = (false, seq);
        let Some(since) = target.ordered_since else {
            return Ok(Ahead::Nothing { gap: Vec::new() });
        };
        'back: for count in LOOK_BACK {
            let last = Seq(before.0.saturating_sub(1));
            let after = Seq(last.0.saturating_sub(count));
            for entry in self.between(record, after, last).await?.into_iter().rev() {
                // To the millisecond, as it is stored.
                if entry.at.as_millisecond() < since.as_millisecond() {
                    break 'back;
                }
                if !target.takes(&entry) {
                    continue;
                }
                let key = Event::of(&entry).key(target.endpoint);
                let row = self.store.delivery(&key).await?;
                let Some(row) = row.as_ref().filter(|row| row.is_settled()) else {
                    if past {
                        continue;
                    }
                    return Ok(Ahead::Event(Box::new(entry), row));
                };
                past |= row.line == Line::Past;
                let came = row.state == DeliveryState::Delivered || row.replayed;
                if !came {
                    gap.push_front(entry.seq);
                }
                if past && (came || gap.len() >= MAX_GAP) {
                    break 'back;
                }
            }
            before = after.next();
            if after == Seq::ZERO {
                break;
            }
        }
        gap.drain(..gap.len().saturating_sub(MAX_GAP));
        Ok(Ahead::Nothing { gap: gap.into() })
    }

    /// The entries after `after` until `last`, which is committed: all of them, as long as their record
    /// is there.
    async fn between(
        &self,
        record: RecordId,
        after: Seq,
        last: Seq,
    ) -> Result<Vec<FeedEntry>, DeliverError> {
        let count = usize::try_from(last.0 - after.0).unwrap_or(usize::MAX);
        if count == 0 {
            return Ok(Vec::new());
        }
        let read = |consistency| self.store.feed(record, after, count, consistency);
        let entries = read(Consistency::Eventual).await?;
        if entries.len() == count {
            return Ok(entries);
        }
        Ok(read(Consistency::Strong).await?)
    }

    /// Sends what is parked for an endpoint that is told in order: of each record the first, and what
    /// follows it.
    pub(super) async fn drain_lines(
        &self,
        tend: Tend,
        at_once: usize,
    ) -> Result<Tended, DeliverError> {
        let (mut sent, mut moved, mut left) = (0, 0, 0);
        let mut after: Option<DeliveryKey> = None;
        'pages: for _ in 0..MAX_DRAIN_PAGES {
            let keys = self
                .store
                .parked_after(tend.endpoint, after.as_ref(), DRAIN_PAGE)
                .await?;
            let is_last = keys.len() < DRAIN_PAGE;
            after = keys.last().copied();
            let mut lines: Vec<Vec<DeliveryKey>> = Vec::new();
            let mut known: BTreeMap<Source, usize> = BTreeMap::new();
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
                    .map(|line| self.drain_line(line).boxed())
                    .collect();
                let told: Vec<_> = stream::iter(work).buffer_unordered(at_once).collect().await;
                for told in told {
                    for told in told? {
                        match told {
                            Told::Delivered => (sent, moved) = (sent + 1, moved + 1),
                            Told::Deferred | Told::Exhausted | Told::Unwanted => moved += 1,
                            Told::Paced | Told::Parked => left += 1,
                            Told::Held | Told::Skipped => {}
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
        if self.store.parked(tend.endpoint, 1).await?.is_empty() {
            self.store.none_parked(tend.endpoint).await?;
        } else {
            let pause = match (left, moved) {
                // All wait: whoever settles what they wait for goes on with them.
                (0, 0) => LEASE_S,
                (0, _) => 0,
                _ => DRAIN_AGAIN_S,
            };
            self.tend_at(tend, later(self.clock.now(), pause)).await?;
        }
        Ok(Tended::Drained { sent })
    }

    /// Sends what is parked of one source, from the first on.
    async fn drain_line(&self, keys: &[DeliveryKey]) -> Result<Vec<Told>, DeliverError> {
        let mut told = Vec::new();
        if let Some(Source::App(_)) = keys.first().map(|key| key.source) {
            for key in keys {
                told.push(self.drain_one(*key).await?);
            }
            return Ok(told);
        }
        let mut waits: Vec<DeliveryKey> = Vec::new();
        for row in self.store.deliveries(keys).await? {
            if row.state == DeliveryState::Parked {
                waits.push(row.key);
            }
        }
        for key in keys.iter().filter(|key| !waits.contains(key)) {
            self.store.unpark(key).await?;
            told.push(Told::Unwanted);
        }
        let Some(first) = waits.iter().min_by_key(|key| key.seq) else {
            return Ok(told);
        };
        let of = (first.source, first.seq, first.endpoint);
        match self.attempts_of(of, false, Mode::of(Kind::Drain)).await {
            Ok(more) => told.extend(more),
            // Its feed entry is gone: there is nothing to tell any more.
            Err(DeliverError::Gap { .. }) => {
                self.store.unpark(first).await?;
                told.push(Told::Unwanted);
            }
            Err(error) => return Err(error),
        }
        Ok(told)
    }
}
