//! Replays: jobs that tell an endpoint again of a range of events.

use jiff::Timestamp;
use okra_core::ids::{AppId, EndpointId, RecordId, ReplayId, Seq};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError, apps,
    call::{Range, Take},
    expression::When,
    item::{Attributes, Draft, JSON, Key, Reader, json, n},
};

/// Replays of one app that are listed at most.
pub const MAX_REPLAYS_LISTED: usize = 100;

/// Seconds that a replay is kept after its last step.
const KEPT_S: i64 = 30 * 24 * 3600;

const KIND: &str = "replay";
const PREFIX: &str = "RPL#";

/// Which of the events in its range a replay tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayOf {
    /// Those that were given up.
    Failed,
    /// Those that nothing is stored of.
    Missing,
    /// All.
    All,
}

impl ReplayOf {
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
    pub places: (Seq, Seq),
    /// Events committed from the first to the second of these.
    pub times: (Timestamp, Timestamp),
    /// Which of them.
    pub of: ReplayOf,
    /// Events a second.
    pub rate: u16,
    /// Where it stands.
    pub state: ReplayState,
    /// How far it came: a record, and the place in its feed.
    pub cursor: Option<(RecordId, Seq)>,
    /// Events looked at.
    pub looked_at: u64,
    /// Events sent.
    pub sent: u64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last went on.
    pub updated_at: Timestamp,
    /// Counts the times it was stored; 0 before the first.
    pub version: u32,
}

impl Replay {
    /// A replay that begins at `now`: of everything of every record, unless it is said otherwise.
    pub const fn begun(
        id: ReplayId,
        (app, endpoint): (AppId, EndpointId),
        of: ReplayOf,
        rate: u16,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            app,
            endpoint,
            record: None,
            places: (Seq(1), Seq(u64::MAX)),
            times: (Timestamp::UNIX_EPOCH, Timestamp::MAX),
            of,
            rate,
            state: ReplayState::Running,
            cursor: None,
            looked_at: 0,
            sent: 0,
            created_at: now,
            updated_at: now,
            version: 0,
        }
    }
}

fn key(app: AppId, id: ReplayId) -> Key {
    Key::new(apps::partition(app), format!("{PREFIX}{id}"))
}

fn read(item: &Attributes) -> Result<Replay, StoreError> {
    Reader::new(KIND, item).json(JSON)
}

impl Store {
    /// Stores a replay where it still is what was read, with its version one higher. False where it
    /// is not.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_replay(&self, replay: &mut Replay) -> Result<bool, StoreError> {
        let known = (replay.version > 0).then(|| n(replay.version));
        let next = Replay {
            version: replay.version.saturating_add(1),
            ..replay.clone()
        };
        let item = Draft::new(key(next.app, next.id))
            .with("v", n(next.version))
            .with(JSON, json(KIND, &next)?)
            .expiring(next.updated_at, KEPT_S)
            .done();
        let done = self.put_when(item, vec![When::Is("v", known)]).await?;
        // Refused may also mean that the answer to the same write was lost.
        let mine = done || self.replay(next.app, next.id).await?.as_ref() == Some(&next);
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
    pub async fn replay(&self, app: AppId, id: ReplayId) -> Result<Option<Replay>, StoreError> {
        let item = self.get(key(app, id), Consistency::Strong).await?;
        item.as_ref().map(read).transpose()
    }

    /// The replays of an app, at most [`MAX_REPLAYS_LISTED`].
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn replays(&self, app: AppId) -> Result<Vec<Replay>, StoreError> {
        let range = Range::prefix(apps::partition(app), PREFIX);
        let take = Take::First(MAX_REPLAYS_LISTED);
        let items = self.query(range, take, Consistency::Eventual).await?;
        items.iter().map(read).collect()
    }
}
