//! Replays, resends and pings: what somebody asked for.

use std::collections::{HashMap, hash_map};

use jiff::Timestamp;
use okra_core::{
    model::ids::{EventId, RecordId, Seq},
    sync::feed::{FeedEntry, FeedStream},
};
use okra_queue::{EndpointPing as PingOf, Redelivery, ReplayStep};
use okra_store::{
    Consistency, DeliveryState, MAX_FEED_PAGE, PingResult, RecordHead, Replay, ReplayFilter,
    ReplayState,
};
use okra_wire::operation::{self, OperationalEvent};

use super::{
    AttemptKind, AttemptMode, DeliverError, Deliverer, DeliveryEvent, DeliveryTarget,
    subject::EventSubject,
};
use crate::{
    report::{DeliveryOutcome, ReplayStepReport},
    sender::WebhookMessage,
};

/// Events that one step of a replay sends at most.
const MAX_SENT_AT_ONCE: usize = 100;

/// Feed entries that one step of a replay looks at, at most.
const MAX_ENTRIES_AT_ONCE: usize = MAX_FEED_PAGE;

/// Records that one step of a replay goes through at most.
const MAX_RECORDS_AT_ONCE: usize = 100;

impl Deliverer {
    /// Tells an endpoint of an event whatever came of it before, with the whole schedule anew.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn attempt_resend(
        &self,
        resend: Redelivery,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let of = (resend.source, resend.seq, resend.endpoint);
        let mode = AttemptMode {
            has_permit: resend.has_permit,
            ..AttemptMode::for_kind(AttemptKind::Resend)
        };
        self.attempt_one(of, false, mode).await
    }

    /// Sends a signed ping to an endpoint and stores what came of it.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn send_ping(&self, request: PingOf) -> Result<(), DeliverError> {
        let Some(mut target) = self.load_target(request.app, request.endpoint).await? else {
            return Ok(());
        };
        match request.url {
            Some(url) if target.url.is_empty() => target.url = url,
            // It was removed meanwhile.
            None if target.url.is_empty() => return Ok(()),
            Some(_) | None => {}
        }
        let at = self.clock.now();
        let context = operation::OperationContext {
            public_url: &self.config.public_url,
            endpoint_url: &target.url,
            version: target.body_version,
            app: request.app,
            seq: Seq::ZERO,
            at,
            subject: request.endpoint,
            subject_url: &target.url,
        };
        let event = EventId::for_ping(request.endpoint, at);
        let message = WebhookMessage {
            url: &target.url,
            event_id: &event,
            seq: Seq::ZERO,
            attempt: 1,
            is_replay: false,
            missing_seqs: &[],
            body: operation::render_operation_body(&context, &OperationalEvent::Ping).into(),
            secrets: &target.secrets,
            bearer: target.bearer.as_ref(),
            sent_at: at,
        };
        let answer = self.sender.send_message(&message).await?;
        let ping = PingResult {
            pinged_at: self.clock.now(),
            outcome_class: answer.outcome.as_str().to_owned(),
            status: answer.status,
            latency_ms: answer.latency_ms,
        };
        Ok(self.store.put_ping_result(request.endpoint, &ping).await?)
    }

    /// Takes a replay one step further, and enqueues the next. Its events go at its rate, each with
    /// its own id and bytes, so that a receiver knows what it has.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it; what was sent by then is sent again.
    pub async fn advance_replay(&self, step: ReplayStep) -> Result<ReplayStepReport, DeliverError> {
        let Some(mut replay) = self.store.find_replay(step.app, step.replay).await? else {
            return Ok(ReplayStepReport::default());
        };
        // Another message took this step.
        if replay.state != ReplayState::Running || replay.version != step.version {
            return Ok(ReplayStepReport::default());
        }
        let mut sent = 0;
        match replay.record {
            Some(record) => sent += self.replay_record(&mut replay, record, 0).await?.0,
            None => sent += self.replay_records(&mut replay).await?,
        }
        replay.updated_at = self.clock.now();
        if !self.store.put_replay(&mut replay).await? {
            return Ok(ReplayStepReport::default());
        }
        let running = replay.state == ReplayState::Running;
        if running {
            let pause = sent.div_ceil(usize::from(replay.events_per_second.max(1)));
            let step = ReplayStep {
                version: replay.version,
                ..step
            };
            let delay_s = u16::try_from(pause).unwrap_or(u16::MAX);
            self.queues.send_replay_step(step, delay_s).await?;
        }
        Ok(ReplayStepReport {
            events_sent: sent,
            is_running: running,
        })
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
            .list_records_of_app(replay.app, after, MAX_RECORDS_AT_ONCE)
            .await?;
        let mut heads: Vec<RecordHead> = page.items;
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
        if page.next_cursor.is_none() {
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
        let (first, last) = replay.seq_range;
        let before = Seq(first.0.saturating_sub(1));
        let after = replay.cursor.map_or(before, |(_, seq)| seq.max(before));
        let entries = self
            .store
            .read_feed(record, after, MAX_ENTRIES_AT_ONCE, Consistency::Strong)
            .await?;
        let read = entries.len();
        let (since, until) = replay.commit_time_range;
        let within = |entry: &&FeedEntry| {
            entry.seq <= last && entry.committed_at >= since && entry.committed_at <= until
        };
        let wanted: Vec<FeedEntry> = entries.iter().filter(within).cloned().collect();
        let room = MAX_SENT_AT_ONCE.saturating_sub(sent_before).max(1);
        let chosen = self.choose_entries(replay, record, &wanted).await?;
        let cut = chosen.get(room).copied();
        let chosen = &chosen[..chosen.len().min(room)];
        self.enqueue_resends(replay, record, chosen, sent_before)
            .await?;
        replay.sent_count = replay.sent_count.saturating_add(chosen.len() as u64);
        let end = match cut {
            // What did not fit is looked at again.
            Some(next) => Seq(next.0.saturating_sub(1)),
            None => entries.last().map_or(after, |entry| entry.seq),
        };
        replay.examined_count = replay
            .examined_count
            .saturating_add(end.0.saturating_sub(after.0));
        replay.cursor = Some((record, end));
        let finished = cut.is_none() && (read < MAX_ENTRIES_AT_ONCE || end >= last);
        if finished && replay.record.is_some() {
            replay.state = ReplayState::Done;
        }
        Ok((chosen.len(), finished))
    }

    /// Which of these entries are to be told again.
    async fn choose_entries(
        &self,
        replay: &Replay,
        record: RecordId,
        entries: &[FeedEntry],
    ) -> Result<Vec<Seq>, DeliverError> {
        let mut chosen = Vec::new();
        let Some(subject) = EventSubject::load_subject(self, record).await? else {
            return Ok(chosen);
        };
        let mut targets: HashMap<FeedStream, Option<DeliveryTarget>> = HashMap::new();
        for entries in entries.chunks(MAX_SENT_AT_ONCE) {
            let mut wanted = Vec::new();
            for entry in entries {
                let (event, stream) = (DeliveryEvent::from_entry(entry), entry.change.stream());
                let target = match targets.entry(stream) {
                    hash_map::Entry::Occupied(known) => known.into_mut(),
                    hash_map::Entry::Vacant(place) => {
                        let all = self.load_stream_targets(&subject.head, stream).await?;
                        let of = |target: &DeliveryTarget| target.endpoint == replay.endpoint;
                        place.insert(all.into_iter().find(of))
                    }
                };
                if target.as_ref().is_some_and(|it| it.wants_event(event.name)) {
                    wanted.push(event.delivery_key(replay.endpoint));
                }
            }
            let rows = self.store.load_deliveries(&wanted).await?;
            for key in wanted {
                let row = rows.iter().find(|row| row.key == key);
                let takes = match replay.filter {
                    ReplayFilter::All => true,
                    ReplayFilter::Missing => row.is_none(),
                    ReplayFilter::Failed => {
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

    async fn enqueue_resends(
        &self,
        replay: &Replay,
        record: RecordId,
        chosen: &[Seq],
        sent_before: usize,
    ) -> Result<(), DeliverError> {
        let rate = usize::from(replay.events_per_second.max(1));
        let messages: Vec<(Redelivery, u16)> = chosen
            .iter()
            .enumerate()
            .map(|(n, &seq)| {
                let resend = Redelivery {
                    source: record.into(),
                    seq,
                    endpoint: replay.endpoint,
                    has_permit: false,
                };
                let delay_s = (sent_before + n) / rate;
                (resend, u16::try_from(delay_s).unwrap_or(u16::MAX))
            })
            .collect();
        Ok(self.queues.send_redeliveries(&messages).await?)
    }
}

/// The earliest commit of which deliveries are still known.
pub fn retained_since(now: Timestamp) -> Timestamp {
    super::attempt::add_seconds(now, -RETENTION_S)
}

/// Seconds for which events can be replayed.
pub const RETENTION_S: i64 = 30 * 24 * 3600;
