//! Replays: events of the last 30 days, sent again to one endpoint at a rate of their own.
//!
//! The rule: a step examines a bounded part of the feeds, stores how far it came, and enqueues the next step. Whoever
//! repeats a step sends its events again, with the same ids and bytes.

use std::collections::{HashMap, hash_map};

use jiff::Timestamp;
use okra_core::{
    model::ids::{RecordId, Seq},
    sync::feed::{FeedEntry, FeedStream},
};
use okra_queue::{MAX_DELAY_S, Redelivery, ReplayStep};
use okra_store::{
    Consistency, Delivery, DeliveryState, MAX_FEED_PAGE, RecordHead, Replay, ReplayFilter,
    ReplayState,
};

use super::{
    deliverer::Deliverer,
    error::DeliverError,
    event::{DeliveryEvent, add_seconds},
    subject::EventSubject,
    targets::DeliveryTarget,
};
use crate::report::ReplayStepReport;

/// Seconds for which events can be replayed.
pub const RETENTION_S: i64 = 30 * 24 * 3600;

/// Events that one step of a replay sends at most.
const MAX_SENT_AT_ONCE: usize = 100;

/// Feed entries of one record that one step of a replay examines at most.
const MAX_ENTRIES_AT_ONCE: usize = MAX_FEED_PAGE;

/// Records that one step of a replay goes through at most.
const MAX_RECORDS_AT_ONCE: usize = 100;

/// What a step did with one record.
#[derive(Clone, Copy, Debug)]
struct RecordStep {
    sent: usize,
    /// The end of the record's feed, or of the replay's range, was reached.
    is_finished: bool,
}

/// The earliest commit whose deliveries are still stored.
pub fn retained_since(now: Timestamp) -> Timestamp {
    add_seconds(now, -RETENTION_S)
}

impl Deliverer {
    /// Takes a replay one step further, and enqueues the next. Its events are sent at its rate, each with its own id and
    /// bytes, so that a receiver recognises what it has.
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
        let sent = match replay.record {
            Some(record) => self.replay_record(&mut replay, record, 0).await?.sent,
            None => self.replay_records(&mut replay).await?,
        };
        replay.updated_at = self.now();
        if !self.store.put_replay(&mut replay).await? {
            return Ok(ReplayStepReport::default());
        }
        let is_running = replay.state == ReplayState::Running;
        if is_running {
            let pause_s = sent.div_ceil(usize::from(replay.events_per_second.max(1)));
            let step = ReplayStep {
                version: replay.version,
                ..step
            };
            self.queues
                .send_replay_step(step, message_delay(pause_s))
                .await?;
        }
        Ok(ReplayStepReport {
            events_sent: sent,
            is_running,
        })
    }

    /// A step through all records of the app.
    async fn replay_records(&self, replay: &mut Replay) -> Result<usize, DeliverError> {
        let mut sent = 0;
        // The record of the cursor comes first; records are listed in the order of their ids.
        if let Some((record, _)) = replay.cursor {
            let step = self.replay_record(replay, record, sent).await?;
            sent += step.sent;
            if !step.is_finished {
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
            let step = self.replay_record(replay, head.record, sent).await?;
            sent += step.sent;
            if !step.is_finished {
                return Ok(sent);
            }
        }
        replay.state = match page.next_cursor {
            None => ReplayState::Done,
            Some(_) => ReplayState::Running,
        };
        Ok(sent)
    }

    /// A step through the feed of a record, after so many events were sent by this step for others.
    async fn replay_record(
        &self,
        replay: &mut Replay,
        record: RecordId,
        sent_before: usize,
    ) -> Result<RecordStep, DeliverError> {
        let (first, last) = replay.seq_range;
        // Sequences begin at 1, so saturation is the beginning of the feed.
        let before = Seq(first.0.saturating_sub(1));
        let after = replay.cursor.map_or(before, |(_, seq)| seq.max(before));
        let entries = self
            .store
            .read_feed(record, after, MAX_ENTRIES_AT_ONCE, Consistency::Strong)
            .await?;
        let (since, until) = replay.commit_time_range;
        let in_range: Vec<&FeedEntry> = entries
            .iter()
            .filter(|entry| entry.seq <= last)
            .filter(|entry| (since..=until).contains(&entry.committed_at))
            .collect();
        let room = MAX_SENT_AT_ONCE.saturating_sub(sent_before).max(1);
        let chosen = self.choose_entries(replay, record, &in_range).await?;
        let cut = chosen.get(room).copied();
        let chosen = &chosen[..chosen.len().min(room)];
        self.enqueue_resends(replay, record, chosen, sent_before)
            .await?;
        replay.sent_count = replay.sent_count.saturating_add(chosen.len() as u64);
        let end = match cut {
            // What did not fit is examined again.
            Some(next) => Seq(next.0.saturating_sub(1)),
            None => entries.last().map_or(after, |entry| entry.seq),
        };
        replay.examined_count = replay
            .examined_count
            .saturating_add(end.0.saturating_sub(after.0));
        replay.cursor = Some((record, end));
        let is_finished = cut.is_none() && (entries.len() < MAX_ENTRIES_AT_ONCE || end >= last);
        if is_finished && replay.record.is_some() {
            replay.state = ReplayState::Done;
        }
        Ok(RecordStep {
            sent: chosen.len(),
            is_finished,
        })
    }

    /// Which of these entries are sent again.
    async fn choose_entries(
        &self,
        replay: &Replay,
        record: RecordId,
        entries: &[&FeedEntry],
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
                    hash_map::Entry::Occupied(loaded) => loaded.into_mut(),
                    hash_map::Entry::Vacant(vacant) => {
                        let all = self.load_stream_targets(&subject.head, stream).await?;
                        let own = all.into_iter().find(|it| it.endpoint == replay.endpoint);
                        vacant.insert(own)
                    }
                };
                if target.as_ref().is_some_and(|it| it.wants_event(event.name)) {
                    wanted.push(event.delivery_key(replay.endpoint));
                }
            }
            let rows = self.store.load_deliveries(&wanted).await?;
            for key in wanted {
                let row = rows.iter().find(|row| row.key == key);
                if is_in_filter(replay.filter, row) {
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
                (resend, message_delay((sent_before + n) / rate))
            })
            .collect();
        Ok(self.queues.send_redeliveries(&messages).await?)
    }
}

/// True where a replay with this filter sends an event with this delivery.
fn is_in_filter(filter: ReplayFilter, row: Option<&Delivery>) -> bool {
    match filter {
        ReplayFilter::All => true,
        ReplayFilter::Missing => row.is_none(),
        ReplayFilter::Failed => row.is_some_and(|row| row.state == DeliveryState::Exhausted),
    }
}

/// Seconds of a delay, as many as a message can wait.
fn message_delay(seconds: usize) -> u16 {
    u16::try_from(seconds).map_or(MAX_DELAY_S, |delay_s| delay_s.min(MAX_DELAY_S))
}
