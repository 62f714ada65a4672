//! Replays: jobs that tell an endpoint again of a range of events.

use jiff::Timestamp;
use okra_core::model::ids::{AppId, EndpointId, RecordId, ReplayId, Seq};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    table::{
        call::{KeyRange, ReadLimit},
        expression::Condition,
        item::{
            Attributes, ItemBuilder, ItemReader, JSON_ATTRIBUTE, Key, json_value, number_value,
        },
    },
    tenants::apps,
};

/// Replays of one app that are listed at most.
pub const MAX_REPLAYS_LISTED: usize = 100;

/// Seconds that a replay is kept after its last step.
const REPLAY_RETENTION_S: i64 = 30 * 24 * 3600;

const KIND: &str = "replay";
const REPLAY_PREFIX: &str = "RPL#";

/// Which of the events in its range a replay tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayFilter {
    /// Those that were given up.
    Failed,
    /// Those that nothing is stored of.
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

/// Where a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It goes on.
    Running,
    /// It came to the end of its range.
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
    /// Who is told.
    pub endpoint: EndpointId,
    /// The record whose events are told; all of the app's where there is none.
    pub record: Option<RecordId>,
    /// The first and the last place in the record's feed.
    #[serde(rename = "places")]
    pub seq_range: (Seq, Seq),
    /// Events committed from the first to the second of these.
    #[serde(rename = "times")]
    pub commit_time_range: (Timestamp, Timestamp),
    /// Which of them.
    #[serde(rename = "of")]
    pub filter: ReplayFilter,
    /// Events a second.
    #[serde(rename = "rate")]
    pub events_per_second: u16,
    /// Where it stands.
    pub state: ReplayState,
    /// How far it came: a record, and the place in its feed.
    pub cursor: Option<(RecordId, Seq)>,
    /// Events looked at.
    #[serde(rename = "looked_at")]
    pub examined_count: u64,
    /// Events sent.
    #[serde(rename = "sent")]
    pub sent_count: u64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last went on.
    pub updated_at: Timestamp,
    /// Counts the times it was stored; 0 before the first.
    pub version: u32,
}

impl Replay {
    /// A replay that begins at `now`: of everything of every record, unless it is said otherwise.
    pub const fn start_replay(
        id: ReplayId,
        (app, endpoint): (AppId, EndpointId),
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

fn replay_key(app: AppId, id: ReplayId) -> Key {
    Key::new(apps::app_partition(app), format!("{REPLAY_PREFIX}{id}"))
}

fn read_replay(item: &Attributes) -> Result<Replay, StoreError> {
    ItemReader::new(KIND, item).read_json(JSON_ATTRIBUTE)
}

impl Store {
    /// Stores a replay where it still is what was read, with its version one higher. False where it
    /// is not.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_replay(&self, replay: &mut Replay) -> Result<bool, StoreError> {
        let known = (replay.version > 0).then(|| number_value(replay.version));
        let next = Replay {
            version: replay.version.saturating_add(1),
            ..replay.clone()
        };
        let item = ItemBuilder::new(replay_key(next.app, next.id))
            .with_attribute("v", number_value(next.version))
            .with_attribute(JSON_ATTRIBUTE, json_value(KIND, &next)?)
            .with_expiry(next.updated_at, REPLAY_RETENTION_S)
            .build();
        let done = self
            .put_item_if(item, vec![Condition::Equals("v", known)])
            .await?;
        // Refused may also mean that the answer to the same write was lost.
        let mine = done || self.find_replay(next.app, next.id).await?.as_ref() == Some(&next);
        if mine {
            *replay = next;
        }
        Ok(mine)
    }

    /// A replay of an app; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_replay(
        &self,
        app: AppId,
        id: ReplayId,
    ) -> Result<Option<Replay>, StoreError> {
        let item = self
            .get_item(replay_key(app, id), Consistency::Strong)
            .await?;
        item.as_ref().map(read_replay).transpose()
    }

    /// The replays of an app, at most [`MAX_REPLAYS_LISTED`].
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_replays(&self, app: AppId) -> Result<Vec<Replay>, StoreError> {
        let range = KeyRange::with_prefix(apps::app_partition(app), REPLAY_PREFIX);
        let take = ReadLimit::First(MAX_REPLAYS_LISTED);
        let items = self.query_range(range, take, Consistency::Eventual).await?;
        items.iter().map(read_replay).collect()
    }
}
