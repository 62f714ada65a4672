//! What an interrupted replay resumes from: [`ReplayProgress`], in the replay's own table.

use jiff::civil::Date;
use okra_store::Store;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The state that holds the progress.
const REPLAY_STATE: &str = "replay";

/// How far a replay has come.
#[derive(Serialize, Deserialize)]
pub(super) struct ReplayProgress {
    /// SHA-256 of the file.
    #[serde(rename = "file")]
    pub(super) file_digest: String,
    /// The seed of what is injected.
    #[serde(default, rename = "inject")]
    pub(super) injection_seed: Option<u64>,
    /// The day to play next.
    #[serde(rename = "next")]
    pub(super) next_day: Date,
    /// True at the end.
    #[serde(rename = "finished")]
    pub(super) is_finished: bool,
}

impl ReplayProgress {
    pub(super) async fn load(store: &Store) -> anyhow::Result<Option<Self>> {
        let state = store.find_system_state(REPLAY_STATE).await?;
        Ok(state.map(serde_json::from_value).transpose()?)
    }

    pub(super) async fn save(&self, store: &Store) -> anyhow::Result<()> {
        store.put_system_state(REPLAY_STATE, &json!(self)).await?;
        Ok(())
    }
}
