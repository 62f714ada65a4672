//! The follow-up of a link: a minute after a record was linked, or linked again, it is checked whether what the link
//! began was done ([`FollowUpOutcome`]).
//!
//! A link stores the record, then dispatches that it was linked and enqueues its first refresh. A crash in between would
//! leave that to the record's next turn, which on `daily` is up to a day away. So the rule: the follow-up's message is
//! sent before the record is stored.

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
    /// There is no such record: it was not linked, or was unlinked already.
    NotLinked,
    /// Everything was done.
    AlreadyDone,
    /// It was not refreshed since the link, and was refreshed now.
    Refreshed,
}

/// Enqueues the follow-up of a link that is about to be made.
///
/// # Errors
///
/// [`RefreshError`]; then the link must not be made.
pub async fn schedule_follow_up(queues: &Queues, head: &RecordHead) -> Result<(), RefreshError> {
    let follow_up = LinkFollowUp {
        record: head.record,
        bank: head.bank,
    };
    Ok(queues.send_follow_up(follow_up, FOLLOW_UP_DELAY_S).await?)
}

impl Refresher {
    /// Dispatches what was not dispatched of a record's link, and refreshes what was never read, or waits for a user who
    /// has authorised again.
    pub async fn run_follow_up(&self, record: RecordId) -> Result<FollowUpOutcome, RefreshError> {
        let head = self.store.find_head(record, Consistency::Strong).await?;
        let Some(head) = head.filter(|head| head.status != RecordStatus::Invalid) else {
            return Ok(FollowUpOutcome::NotLinked);
        };
        announce::dispatch_state_changes(&self.store, &self.queues, &head).await?;
        let mut outcome = FollowUpOutcome::AlreadyDone;
        for key in head.due_keys() {
            let entry = self.store.find_due_entry(key, Consistency::Strong).await?;
            let Some(entry) = entry else { continue };
            let is_unread = entry
                .watermarks
                .iter()
                .any(|(_, mark)| mark.digest.is_none());
            if !is_unread && head.status == RecordStatus::Active {
                continue;
            }
            let chunk = Chunk {
                id: format!("follow-up-{record}-{}", key.interval),
                bank: head.bank,
                trigger: RefreshTrigger::OnDemand {
                    product: None,
                    user: None,
                    is_job: false,
                },
                not_after: self.clock.now(),
                delay_s: 0,
                requeue_count: 0,
                records: vec![entry],
            };
            // As if it were redelivered: what a crash left half done is looked for.
            self.refresh_chunk(chunk, true).await?;
            outcome = FollowUpOutcome::Refreshed;
        }
        Ok(outcome)
    }
}
