//! Replays: a range of events sent to an endpoint again ([`StartReplayRequest`]), watched, cancelled and resumed.
//!
//! The rule: a replay has a beginning and an end, by time or by the `seq` of one record, and reaches no further back
//! than deliveries are retained. A replay runs in steps; a change of it competes with them and is tried again.

use jiff::Timestamp;
use okra_core::{
    model::ids::{CustomerId, RecordId, ReplayId, Seq},
    resilience::rate_limiter::SEND_RATE_RANGE,
};
use okra_queue::ReplayStep;
use okra_store::{Consistency, Replay, ReplayFilter, ReplayState};
use okra_webhooks::retained_since;

use crate::{app_scope::AppScope, endpoint_lookup::EndpointSelector, error::AppError};

/// Most attempts at changing a replay that runs meanwhile.
const MAX_UPDATE_ATTEMPTS: usize = 8;

/// Events a second of a replay, unless the request says otherwise.
const DEFAULT_EVENTS_PER_SECOND: u16 = *SEND_RATE_RANGE.start() * 10;

/// A range of events to send to an endpoint again.
#[derive(Clone, Debug)]
pub struct StartReplayRequest {
    /// The endpoint, or the URL of a data sync.
    pub endpoint: EndpointSelector,
    /// Whose data syncs are searched for that URL; by default all customers'.
    pub customer: Option<CustomerId>,
    /// The record whose events are sent; by default all records'.
    pub record: Option<RecordId>,
    /// The first `seq` of the record's events.
    pub from_seq: Option<Seq>,
    /// The last `seq` of the record's events.
    pub to_seq: Option<Seq>,
    /// Of events committed from here on.
    pub since: Option<Timestamp>,
    /// Of events committed until here.
    pub until: Option<Timestamp>,
    /// Which of them.
    pub filter: ReplayFilter,
    /// Events a second; by default ten times the least.
    pub events_per_second: Option<u16>,
}

impl StartReplayRequest {
    /// Refuses a range that is open at an end.
    const fn check_range(&self) -> Result<(), AppError> {
        let has_record = self.record.is_some();
        let begins = self.since.is_some() || has_record && self.from_seq.is_some();
        let ends = self.until.is_some() || has_record && self.to_seq.is_some();
        match begins && ends {
            true => Ok(()),
            false => Err(AppError::InvalidReplayRange(
                "A replay needs a beginning and an end: since and until, or record, from and to",
            )),
        }
    }
}

/// What becomes of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayChange {
    /// It stops where it is.
    Cancel,
    /// It goes on from where it was cancelled.
    Resume,
}

impl AppScope {
    /// Starts a replay.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the endpoint or the record is not the app's, [`AppError::InvalidReplayRange`],
    /// [`AppError::ReplayBeyondRetention`].
    pub async fn start_replay(&self, request: &StartReplayRequest) -> Result<Replay, AppError> {
        let now = self.now();
        let endpoint = self.load_endpoint_or_sync_url(&request.endpoint, request.customer);
        let endpoint = endpoint.await?.id;
        if let Some(record) = request.record {
            self.load_own_record(record, Consistency::Eventual).await?;
        }
        request.check_range()?;
        let oldest = retained_since(now);
        if request.since.is_some_and(|since| since < oldest) {
            return Err(AppError::ReplayBeyondRetention { oldest });
        }
        // Where only one of the two ranges is given, the other is as wide as it can be.
        let times = (
            request.since.unwrap_or(oldest),
            request.until.unwrap_or(now),
        );
        let seqs = (
            request.from_seq.map_or(Seq(1), |seq| seq.max(Seq(1))),
            request.to_seq.unwrap_or(Seq(u64::MAX)),
        );
        if times.1 < times.0 || seqs.1 < seqs.0 {
            return Err(AppError::InvalidReplayRange(
                "The end of a replay must not be before its beginning",
            ));
        }
        let id = ReplayId::from_bytes(self.services().random_bytes()?);
        let rate = request
            .events_per_second
            .unwrap_or(DEFAULT_EVENTS_PER_SECOND);
        let mut replay = Replay {
            record: request.record,
            seq_range: seqs,
            commit_time_range: times,
            ..Replay::start_replay(id, self.app().id, endpoint, request.filter, rate, now)
        };
        self.store().put_replay(&mut replay).await?;
        self.send_replay_step(&replay).await?;
        Ok(replay)
    }

    /// A replay of the app.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app has none with that id.
    pub async fn load_own_replay(&self, id: ReplayId) -> Result<Replay, AppError> {
        let replay = self.store().find_replay(self.app().id, id).await?;
        replay.ok_or(AppError::NotFound { what: "replay" })
    }

    /// The replays of the app.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn list_replays(&self) -> Result<Vec<Replay>, AppError> {
        Ok(self.store().list_replays(self.app().id).await?)
    }

    /// Cancels a replay that runs, or resumes one that was cancelled; any other stays as it is.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app has none with that id.
    pub async fn change_replay(
        &self,
        id: ReplayId,
        change: ReplayChange,
    ) -> Result<Replay, AppError> {
        for _ in 0..MAX_UPDATE_ATTEMPTS {
            let mut replay = self.load_own_replay(id).await?;
            replay.state = match (replay.state, change) {
                (ReplayState::Running, ReplayChange::Cancel) => ReplayState::Cancelled,
                (ReplayState::Cancelled, ReplayChange::Resume) => ReplayState::Running,
                (state, _) => state,
            };
            replay.updated_at = self.now();
            // A step may have stored it meanwhile.
            if self.store().put_replay(&mut replay).await? {
                if replay.state == ReplayState::Running {
                    self.send_replay_step(&replay).await?;
                }
                return Ok(replay);
            }
        }
        Err(AppError::Busy)
    }

    async fn send_replay_step(&self, replay: &Replay) -> Result<(), AppError> {
        let step = ReplayStep {
            app: replay.app,
            replay: replay.id,
            version: replay.version,
        };
        Ok(self.services().queues.send_replay_step(step, 0).await?)
    }
}
