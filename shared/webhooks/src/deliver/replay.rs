//! Replays, resends and pings: what somebody asked for.

use std::collections::{HashMap, hash_map};

use jiff::Timestamp;
use okra_core::{
    feed::{FeedEntry, Stream},
    ids::{EventId, RecordId, Seq},
};
use okra_queue::{Ping as PingOf, ReplayStep, Resend};
use okra_store::{
    Consistency, DeliveryState, Head, MAX_FEED_PAGE, Ping, Replay, ReplayOf, ReplayState,
};
use okra_wire::operation::{self, Operation};

use super::{DeliverError, Deliverer, Event, Kind, Mode, Target, subject::Subject};
use crate::{
    report::{Replayed, Told},
    sender::Message,
};

/// Events that one step of a replay sends at most.
const MAX_SENT_AT_ONCE: usize = 100;

/// Feed entries that one step of a replay looks at, at most.
const MAX_LOOKED_AT: usize = MAX_FEED_PAGE;

/// Records that one step of a replay goes through at most.
const MAX_RECORDS_AT_ONCE: usize = 100;

impl Deliverer {
    /// Tells an endpoint of an event whatever came of it before, with the whole schedule anew.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn resend(&self, resend: Resend) -> Result<Told, DeliverError> {
        let of = (resend.source, resend.seq, resend.endpoint);
        let mode = Mode {
            paced: resend.paced,
            ..Mode::of(Kind::Resend)
        };
        self.attempt_of(of, false, mode).await
    }

    /// Sends a signed ping to an endpoint and stores what came of it.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn ping(&self, of: PingOf) -> Result<(), DeliverError> {
        let Some(mut target) = self.target_of(of.app, of.endpoint).await? else {
            return Ok(());
        };
        match of.url {
            Some(url) if target.url.is_empty() => target.url = url,
            // It was removed meanwhile.
            None if target.url.is_empty() => return Ok(()),
            Some(_) | None => {}
        }
        let at = self.clock.now();
        let context = operation::Context {
            public_url: &self.config.public_url,
            endpoint_url: &target.url,
            version: target.version,
            app: of.app,
            seq: Seq::ZERO,
            at,
            subject: of.endpoint,
            subject_url: &target.url,
        };
        let event = EventId::ping(of.endpoint, at);
        let message = Message {
            url: &target.url,
            event: &event,
            seq: Seq::ZERO,
            attempt: 1,
            replayed: false,
            gap: &[],
            body: operation::body(&context, &Operation::Ping).into(),
            secrets: &target.secrets,
            bearer: target.bearer.as_ref(),
            sent_at: at,
        };
        let answer = self.sender.send(&message).await?;
        let ping = Ping {
            at: self.clock.now(),
            class: answer.outcome.as_str().to_owned(),
            status: answer.status,
            latency_ms: answer.latency_ms,
        };
        Ok(self.store.put_ping(of.endpoint, &ping).await?)
    }

    /// Takes a replay one step further, and enqueues the next. Its events go at its rate, each with
    /// its own id and bytes, so that a receiver knows what it has.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it; what was sent by then is sent again.
    pub async fn replay(&self, step: ReplayStep) -> Result<Replayed, DeliverError> {
        let Some(mut replay) = self.store.replay(step.app, step.replay).await? else {
            return Ok(Replayed::default());
        };
        // Another message took this step.
        if replay.state != ReplayState::Running || replay.version != step.version {
            return Ok(Replayed::default());
        }
        let mut sent = 0;
        match replay.record {
            Some(record) => sent += self.replay_record(&mut replay, record, 0).await?.0,
            None => sent += self.replay_records(&mut replay).await?,
        }
        replay.updated_at = self.clock.now();
        if !self.store.put_replay(&mut replay).await? {
            return Ok(Replayed::default());
        }
        let running = replay.state == ReplayState::Running;
        if running {
            let pause = sent.div_ceil(usize::from(replay.rate.max(1)));
            let step = ReplayStep {
                version: replay.version,
                ..step
            };
            let delay_s = u16::try_from(pause).unwrap_or(u16::MAX);
            self.queues.send_replay(step, delay_s).await?;
        }
        Ok(Replayed { sent, running })
    }

    /// A step through all records of the app.
    async fn replay_records(&self, replay: &mut Replay) -> Result<usize, DeliverError> {
        let mut sent = 0;
        // The record the cursor is in comes first; the link items are in the order of ids.
        if let Some((record, _)) = replay.cursor {
            let (more, finished) = self.replay_record(replay, record, sent).await?;
            sent += more;
            if !finished {
                return Ok(sent);
            }
        }
        let after = replay.cursor.map(|(record, _)| record);
        let page = self
            .store
            .records_of_app(replay.app, after, MAX_RECORDS_AT_ONCE)
            .await?;
        let mut heads: Vec<Head> = page.items;
        heads.sort_by_key(|head| head.record);
        for head in heads {
            replay.cursor = Some((head.record, Seq::ZERO));
            replay.state = ReplayState::Running;
            let (more, finished) = self.replay_record(replay, head.record, sent).await?;
            sent += more;
            if !finished {
                return Ok(sent);
            }
        }
        if page.next.is_none() {
            replay.state = ReplayState::Done;
        } else {
            replay.state = ReplayState::Running;
        }
        Ok(sent)
    }

    /// A step through the feed of a record; true where its end was reached.
    async fn replay_record(
        &self,
        replay: &mut Replay,
        record: RecordId,
        sent_before: usize,
    ) -> Result<(usize, bool), DeliverError> {
        let (first, last) = replay.places;
        let before = Seq(first.0.saturating_sub(1));
        let after = replay.cursor.map_or(before, |(_, seq)| seq.max(before));
        let entries = self
            .store
            .feed(record, after, MAX_LOOKED_AT, Consistency::Strong)
            .await?;
        let read = entries.len();
        let (since, until) = replay.times;
        let within =
            |entry: &&FeedEntry| entry.seq <= last && entry.at >= since && entry.at <= until;
        let wanted: Vec<FeedEntry> = entries.iter().filter(within).cloned().collect();
        let room = MAX_SENT_AT_ONCE.saturating_sub(sent_before).max(1);
        let chosen = self.choose(replay, record, &wanted).await?;
        let cut = chosen.get(room).copied();
        let chosen = &chosen[..chosen.len().min(room)];
        self.send_again(replay, record, chosen, sent_before).await?;
        replay.sent = replay.sent.saturating_add(chosen.len() as u64);
        let end = match cut {
            // What did not fit is looked at again.
            Some(next) => Seq(next.0.saturating_sub(1)),
            None => entries.last().map_or(after, |entry| entry.seq),
        };
        replay.looked_at = replay
            .looked_at
            .saturating_add(end.0.saturating_sub(after.0));
        replay.cursor = Some((record, end));
        let finished = cut.is_none() && (read < MAX_LOOKED_AT || end >= last);
        if finished && replay.record.is_some() {
            replay.state = ReplayState::Done;
        }
        Ok((chosen.len(), finished))
    }

    /// Which of these entries are to be told again.
    async fn choose(
        &self,
        replay: &Replay,
        record: RecordId,
        entries: &[FeedEntry],
    ) -> Result<Vec<Seq>, DeliverError> {
        let mut chosen = Vec::new();
        let Some(subject) = Subject::load(self, record).await? else {
            return Ok(chosen);
        };
        let mut targets: HashMap<Stream, Option<Target>> = HashMap::new();
        for entries in entries.chunks(MAX_SENT_AT_ONCE) {
            let mut wanted = Vec::new();
            for entry in entries {
                let (event, stream) = (Event::of(entry), entry.change.stream());
                let target = match targets.entry(stream) {
                    hash_map::Entry::Occupied(known) => known.into_mut(),
                    hash_map::Entry::Vacant(place) => {
                        let all = self.targets(&subject.head, stream).await?;
                        let of = |target: &Target| target.endpoint == replay.endpoint;
                        place.insert(all.into_iter().find(of))
                    }
                };
                if target.as_ref().is_some_and(|it| it.wants(event.name)) {
                    wanted.push(event.key(replay.endpoint));
                }
            }
            let rows = self.store.deliveries(&wanted).await?;
            for key in wanted {
                let row = rows.iter().find(|row| row.key == key);
                let takes = match replay.of {
                    ReplayOf::All => true,
                    ReplayOf::Missing => row.is_none(),
                    ReplayOf::Failed => {
                        row.is_some_and(|row| row.state == DeliveryState::Exhausted)
                    }
                };
                if takes {
                    chosen.push(key.seq);
                }
            }
        }
        Ok(chosen)
    }

    async fn send_again(
        &self,
        replay: &Replay,
        record: RecordId,
        chosen: &[Seq],
        sent_before: usize,
    ) -> Result<(), DeliverError> {
        let rate = usize::from(replay.rate.max(1));
        let messages: Vec<(Resend, u16)> = chosen
            .iter()
            .enumerate()
            .map(|(n, &seq)| {
                let resend = Resend {
                    source: record.into(),
                    seq,
                    endpoint: replay.endpoint,
                    paced: false,
                };
                let delay_s = (sent_before + n) / rate;
                (resend, u16::try_from(delay_s).unwrap_or(u16::MAX))
            })
            .collect();
        Ok(self.queues.send_resends(&messages).await?)
    }
}

/// The earliest commit of which deliveries are still known.
pub fn retained_since(now: Timestamp) -> Timestamp {
    super::attempt::later(now, -RETENTION_S)
}

/// Seconds for which events can be replayed.
pub const RETENTION_S: i64 = 30 * 24 * 3600;
