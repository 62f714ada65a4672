//! Changes of state that no refresh finds: what a user or an app did with a record, and the end of its consent.
//!
//! [`commit_state_changes`] commits and dispatches what its caller decides of the head;
//! [`dispatch_state_changes`] dispatches what was committed elsewhere. The rule: they take the same pipeline as the
//! changes of a refresh (`commit.rs`), so that a crash is repaired in the same way.

use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{AccountId, RecordId, Seq},
        snapshot::ByProduct,
    },
    refresh::{commit_plan::number_entries, outcome::DispatchedChanges},
    schedule::consent_clock::ConsentClock,
    sync::{
        feed::FeedEntry,
        state::{StateChange, StatusTrigger, next_record_status},
    },
};
use okra_queue::Queues;
use okra_store::{CommitError, Consistency, RecordHead, RecordStatus, Store};

use crate::{
    RefreshError,
    commit::{CommitExtra, CommitPipeline, CommitRequest, DueUpdate, PublishOutcome},
    report::SilentRefreshObserver,
};

/// Times a change of state is committed against refreshes that commit at the same time.
const MAX_COMMIT_ATTEMPTS: u32 = 6;

/// The feed entries of changes of state, numbered from after `last_seq` on.
pub fn build_state_entries(
    record: RecordId,
    last_seq: Seq,
    committed_at: Timestamp,
    changes: Vec<(Option<AccountId>, StateChange)>,
) -> Vec<FeedEntry> {
    number_entries(record, last_seq, committed_at, Vec::new(), changes)
}

const fn state_pipeline<'a>(store: &'a Store, queues: &'a Queues) -> CommitPipeline<'a> {
    CommitPipeline {
        store,
        queues,
        observer: &SilentRefreshObserver,
    }
}

/// A record's new status, and the changes of state that go with it.
pub struct StatusTransition {
    /// The new status.
    pub status: RecordStatus,
    /// The changes, each with its account; `None` where it is about the record as a whole.
    pub changes: Vec<(Option<AccountId>, StateChange)>,
}

/// Commits and dispatches what `decide` makes of the record's head: its new status and changes of state. Where it
/// returns `None`, nothing is written. Returns the head as it is then; `None` where there is no such record.
///
/// # Errors
///
/// [`RefreshError`]. Where the changes were committed but not dispatched, the record's next refresh
/// dispatches them.
pub async fn commit_state_changes(
    store: &Store,
    queues: &Queues,
    record: RecordId,
    now: Timestamp,
    decide: impl Fn(&RecordHead) -> Option<StatusTransition>,
) -> Result<Option<RecordHead>, RefreshError> {
    for _ in 0..MAX_COMMIT_ATTEMPTS {
        let Some(head) = store.find_head(record, Consistency::Strong).await? else {
            return Ok(None);
        };
        let Some(StatusTransition { status, changes }) = decide(&head) else {
            return Ok(Some(head));
        };
        let entries = build_state_entries(record, head.seq, now, changes);
        let change = StateCommit {
            head: &head,
            entries: &entries,
            status: Some(status),
            extra: CommitExtra::None,
        };
        match commit_states(store, queues, change, now).await? {
            PublishOutcome::Published(published) => {
                return Ok(Some(published.head.unwrap_or(head)));
            }
            PublishOutcome::Conflict => {}
        }
    }
    Err(RefreshError::Commit(CommitError::Conflict))
}

/// Changes of state to be committed.
struct StateCommit<'a> {
    head: &'a RecordHead,
    entries: &'a [FeedEntry],
    status: Option<RecordStatus>,
    extra: CommitExtra<'a>,
}

/// Takes changes of state through the pipeline.
async fn commit_states(
    store: &Store,
    queues: &Queues,
    change: StateCommit<'_>,
    now: Timestamp,
) -> Result<PublishOutcome, RefreshError> {
    let pipeline = state_pipeline(store, queues);
    let request = CommitRequest {
        head: change.head,
        due: None,
        entries: change.entries,
        watermarks: ByProduct::default(),
        status: change.status,
        extra: change.extra,
        now,
    };
    let nothing = DispatchedChanges::default();
    let outcome = pipeline.publish(request, nothing).await?;
    if let PublishOutcome::Published(published) = &outcome {
        pipeline.advance(published, DueUpdate::None).await?;
    }
    Ok(outcome)
}

/// Announces what is due of a consent's end: the notices, each once, and that it is over. True once it is over.
pub(crate) async fn announce_consent_expiry(
    store: &Store,
    queues: &Queues,
    record: RecordId,
    consent_clock: ConsentClock,
    now: Timestamp,
) -> Result<bool, RefreshError> {
    let due_notices = consent_clock.due_notices(now);
    for _ in 0..MAX_COMMIT_ATTEMPTS {
        let Some(head) = store.find_head(record, Consistency::Strong).await? else {
            return Ok(true);
        };
        if due_notices.is_empty() || head.status != RecordStatus::Active {
            break;
        }
        let notices = due_notices.iter().map(|&days_before| {
            let notice = StateChange::ConsentExpiring {
                expires_at: consent_clock.expires_at,
                days_before,
            };
            (None, notice)
        });
        let entries = build_state_entries(record, head.seq, now, notices.collect());
        let change = StateCommit {
            head: &head,
            entries: &entries,
            status: None,
            extra: CommitExtra::ConsentNotices {
                before: consent_clock,
                after: consent_clock.after_due_notices(now),
            },
        };
        let outcome = commit_states(store, queues, change, now).await?;
        if matches!(outcome, PublishOutcome::Published(_)) {
            break;
        }
        // Another refresh committed, or gave the notices.
        let consent = store.find_consent(record, Consistency::Strong).await?;
        if consent.and_then(|it| it.consent_clock) != Some(consent_clock) {
            break;
        }
    }
    if !consent_clock.is_expired(now) {
        return Ok(false);
    }
    commit_state_changes(store, queues, record, now, |head| {
        let (status, change) = next_record_status(head.status, StatusTrigger::ConsentExpired);
        Some(StatusTransition {
            status,
            changes: vec![(None, change?)],
        })
    })
    .await?;
    Ok(true)
}

/// Dispatches the record's changes of state that were committed and not dispatched, and advances the watermark.
///
/// # Errors
///
/// [`RefreshError`]; the record's next refresh does it.
pub async fn dispatch_state_changes(
    store: &Store,
    queues: &Queues,
    head: &RecordHead,
) -> Result<(), RefreshError> {
    state_pipeline(store, queues).dispatch_states(head).await
}
