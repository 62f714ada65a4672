//! Replays: jobs that deliver a range of events to an endpoint once more, step by step.

use jiff::Timestamp;
use okra_core::model::ids::{AppId, EndpointId, RecordId, ReplayId, Seq};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    table::{
        attributes::{Attributes, number_value},
        expression::Condition,
        item::{ItemBuilder, read_json_item},
        key_range::{KeyRange, ReadLimit},
    },
};

/// Replays of one app that are listed at most.
pub const MAX_REPLAYS_LISTED: usize = 100;

/// Seconds that a replay is stored after its last step: 30 days.
const REPLAY_RETENTION_S: i64 = 30 * 24 * 3600;

const KIND: &str = "replay";
const VERSION_ATTRIBUTE: &str = "v";

/// Which of the events in its range a replay delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayFilter {
    /// Those whose deliveries are exhausted.
    Failed,
    /// Those of which no delivery is stored.
    Missing,
    /// All.
    All,
}

impl ReplayFilter {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Missing => "missing",
            Self::All => "all",
        }
    }
}

/// The state of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It continues.
    Running,
    /// It reached the end of its range.
    Done,
    /// Its app cancelled it.
    Cancelled,
}

impl ReplayState {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// Its app.
    pub app: AppId,
    /// The endpoint that the events are delivered to.
    pub endpoint: EndpointId,
    /// The record whose events are delivered; `None`: all records of the app.
    pub record: Option<RecordId>,
    /// The first and the last seq of the events.
    #[serde(rename = "places")]
    pub seq_range: (Seq, Seq),
    /// The first and the last commit time of the events.
    #[serde(rename = "times")]
    pub commit_time_range: (Timestamp, Timestamp),
    /// Which of the events in its range it delivers.
    #[serde(rename = "of")]
    pub filter: ReplayFilter,
    /// Events a second.
    #[serde(rename = "rate")]
    pub events_per_second: u16,
    /// Its state.
    pub state: ReplayState,
    /// How far it has come: a record, and the seq in its feed.
    pub cursor: Option<(RecordId, Seq)>,
    /// Events examined so far.
    #[serde(rename = "looked_at")]
    pub examined_count: u64,
    /// Events sent so far.
    #[serde(rename = "sent")]
    pub sent_count: u64,
    /// When it was requested.
    pub created_at: Timestamp,
    /// When its last step was made.
    pub updated_at: Timestamp,
    /// Counts the times it was stored; 0 before the first.
    pub version: u32,
}

impl Replay {
    /// A replay that begins at `now`, of all events of every record; the caller narrows the range.
    pub const fn start_replay(
        id: ReplayId,
        app: AppId,
        endpoint: EndpointId,
        filter: ReplayFilter,
        events_per_second: u16,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            app,
            endpoint,
            record: None,
            seq_range: (Seq(1), Seq(u64::MAX)),
            commit_time_range: (Timestamp::UNIX_EPOCH, Timestamp::MAX),
            filter,
            events_per_second,
            state: ReplayState::Running,
            cursor: None,
            examined_count: 0,
            sent_count: 0,
            created_at: now,
            updated_at: now,
            version: 0,
        }
    }
}

fn read_replay(item: &Attributes) -> Result<Replay, StoreError> {
    read_json_item(KIND, item)
}

impl Store {
    /// Stores a replay where it still is what was read, with its version one higher. False, and nothing stored, where it
    /// is not.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_replay(&self, replay: &mut Replay) -> Result<bool, StoreError> {
        let known = (replay.version > 0).then(|| number_value(replay.version));
        let next = Replay {
            version: replay.version + 1,
            ..replay.clone()
        };
        let key = Key::Replay {
            app: next.app,
            replay: next.id,
        };
        let item = ItemBuilder::new(key)
            .with_attribute(VERSION_ATTRIBUTE, number_value(next.version))
            .with_json(KIND, &next)?
            .with_expiry(next.updated_at, REPLAY_RETENTION_S)
            .build();
        let is_stored = self
            .put_item_if(item, vec![Condition::Equals(VERSION_ATTRIBUTE, known)])
            .await?
            // A failed condition may also mean that the response to the same write was lost.
            || self.find_replay(next.app, next.id).await?.as_ref() == Some(&next);
        if is_stored {
            *replay = next;
        }
        Ok(is_stored)
    }

    /// A replay of an app; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_replay(
        &self,
        app: AppId,
        replay: ReplayId,
    ) -> Result<Option<Replay>, StoreError> {
        let item = self
            .get_item(Key::Replay { app, replay }, Consistency::Strong)
            .await?;
        item.as_ref().map(read_replay).transpose()
    }

    /// The replays of an app, at most [`MAX_REPLAYS_LISTED`], in the order of their ids; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_replays(&self, app: AppId) -> Result<Vec<Replay>, StoreError> {
        let range = KeyRange::with_prefix(key::app_partition(app), key::REPLAY_PREFIX);
        let limit = ReadLimit::First(MAX_REPLAYS_LISTED);
        let items = self
            .query_range(range, limit, Consistency::Eventual)
            .await?;
        items.iter().map(read_replay).collect()
    }
}
