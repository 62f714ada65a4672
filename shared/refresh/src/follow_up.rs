//! The follow-up of a link: a minute after a record was linked, or linked again, somebody looks whether
//! what was begun with it was done.
//!
//! A link stores the record, then tells of it and asks for its first refresh. A crash in between would
//! leave that to the record's next turn, which on `daily` is up to a day away. So the follow-up's message
//! is sent before the record is stored.

use okra_core::{
    model::ids::RecordId,
    schedule::plan::{Chunk, RefreshTrigger},
    sync::state::RecordStatus,
};
use okra_queue::{LinkFollowUp, Queues};
use okra_store::{Consistency, RecordHead};

use crate::{RefreshError, Refresher, announce};

/// Seconds after a link at which it is followed up: longer than an API call can take.
pub const FOLLOW_UP_DELAY_S: u16 = 60;

/// What a follow-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowUpOutcome {
    /// There is no such record: the link was not made, or is gone already.
    NotLinked,
    /// All was done.
    AlreadyDone,
    /// It was not refreshed since, and was now.
    Refreshed,
}

/// Asks for the follow-up of a link that is about to be made.
///
/// # Errors
///
/// [`RefreshError`]; then the link is not to be made.
pub async fn schedule_follow_up(queues: &Queues, head: &RecordHead) -> Result<(), RefreshError> {
    let of = LinkFollowUp {
        record: head.record,
        bank: head.bank,
    };
    Ok(queues.send_follow_up(of, FOLLOW_UP_DELAY_S).await?)
}

impl Refresher {
    /// Tells of a record's link what was not told, and refreshes what was never read or waits for a
    /// user who has been there.
    pub async fn run_follow_up(&self, record: RecordId) -> Result<FollowUpOutcome, RefreshError> {
        let head = self.store.find_head(record, Consistency::Strong).await?;
        let Some(head) = head.filter(|head| head.status != RecordStatus::Invalid) else {
            return Ok(FollowUpOutcome::NotLinked);
        };
        announce::dispatch_state_changes(&self.store, &self.queues, &head).await?;
        let mut followed = FollowUpOutcome::AlreadyDone;
        for key in head.due_keys() {
            let entry = self.store.find_due_entry(key, Consistency::Strong).await?;
            let Some(entry) = entry else { continue };
            let unread = entry
                .watermarks
                .iter()
                .any(|(_, mark)| mark.digest.is_none());
            if !unread && head.status == RecordStatus::Active {
                continue;
            }
            let chunk = Chunk {
                id: format!("follow-up-{record}-{}", key.interval),
                bank: head.bank,
                trigger: RefreshTrigger::OnDemand {
                    product: None,
                    user: None,
                },
                not_after: self.clock.now(),
                delay_s: 0,
                requeue_count: 0,
                records: vec![entry],
            };
            // As if it came again: what a crash left half done is looked for.
            self.refresh_chunk(chunk, true).await?;
            followed = FollowUpOutcome::Refreshed;
        }
        Ok(followed)
    }
}
