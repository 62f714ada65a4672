//! Changes of state that are not found by a refresh: what a user or an app did with a record.

use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{AccountId, RecordId, Seq},
        snapshot::ByProduct,
    },
    schedule::consent_clock::ConsentClock,
    sync::{
        feed::{Change, FeedEntry, FeedStream},
        state::{StateChange, StatusTrigger, next_record_status},
    },
};
use okra_queue::{FeedDispatch, Queues};
use okra_store::{CommitError, Consistency, RecordCommit, RecordHead, RecordStatus, Store};

use crate::RefreshError;

/// Times a change of state is committed against refreshes that commit at the same time.
const MAX_COMMIT_ATTEMPTS: u32 = 6;

/// The feed entries of changes of state, numbered from after `last` on.
pub fn build_state_entries(
    record: RecordId,
    last_seq: Seq,
    committed_at: Timestamp,
    changes: Vec<(Option<AccountId>, StateChange)>,
) -> Vec<FeedEntry> {
    (1..)
        .zip(changes)
        .map(|(n, (account, change))| FeedEntry {
            record,
            seq: last_seq.plus(n),
            committed_at,
            account,
            change: Change::State(change),
        })
        .collect()
}

/// Commits what `decide` says of the record's head: its new status and changes of state, and
/// dispatches them. Where it says nothing, nothing is written. Returns the head as it is then; `None`
/// where there is no such record.
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
    decide: impl Fn(&RecordHead) -> Option<(RecordStatus, Vec<(Option<AccountId>, StateChange)>)>,
) -> Result<Option<RecordHead>, RefreshError> {
    for _ in 0..MAX_COMMIT_ATTEMPTS {
        let Some(head) = store.find_head(record, Consistency::Strong).await? else {
            return Ok(None);
        };
        let Some((status, changes)) = decide(&head) else {
            return Ok(Some(head));
        };
        if let Some(carrier) = head.state_due_key() {
            store.clear_due_digests(carrier).await?;
        }
        let entries = build_state_entries(record, head.seq, now, changes);
        let commit = RecordCommit {
            head: &head,
            entries: &entries,
            watermarks: ByProduct::default(),
            status: Some(status),
            backfill: None,
            now,
        };
        let committed = match store.commit_record(commit).await {
            Ok(committed) => committed,
            Err(CommitError::Conflict) => continue,
            Err(error) => return Err(RefreshError::Commit(error)),
        };
        store.project_entries(&entries).await?;
        dispatch_state_changes(store, queues, &committed).await?;
        return Ok(Some(committed));
    }
    Err(RefreshError::Commit(CommitError::Conflict))
}

/// Tells what is due of a consent's end: the notices, each once, and that it is over. True once it is
/// over.
pub(crate) async fn announce_consent_expiry(
    store: &Store,
    queues: &Queues,
    record: RecordId,
    consent_clock: ConsentClock,
    now: Timestamp,
) -> Result<bool, RefreshError> {
    let due = consent_clock.due_notices(now);
    for _ in 0..MAX_COMMIT_ATTEMPTS {
        let Some(head) = store.find_head(record, Consistency::Strong).await? else {
            return Ok(true);
        };
        if due.is_empty() || head.status != RecordStatus::Active {
            break;
        }
        if let Some(carrier) = head.state_due_key() {
            store.clear_due_digests(carrier).await?;
        }
        let expires_at = consent_clock.expires_at;
        let notices = due.iter().map(|&days| {
            let notice = StateChange::ConsentExpiring {
                expires_at,
                days_before: days,
            };
            (None, notice)
        });
        let entries = build_state_entries(record, head.seq, now, notices.collect());
        let commit = RecordCommit {
            head: &head,
            entries: &entries,
            watermarks: ByProduct::default(),
            status: None,
            backfill: None,
            now,
        };
        match store
            .commit_consent_notices(commit, consent_clock, consent_clock.after_due_notices(now))
            .await
        {
            Ok(committed) => {
                dispatch_state_changes(store, queues, &committed).await?;
                break;
            }
            Err(CommitError::Conflict) => {
                // Another refresh committed, or gave the notices.
                let consent = store.find_consent(record, Consistency::Strong).await?;
                if consent.and_then(|it| it.consent_clock) != Some(consent_clock) {
                    break;
                }
            }
            Err(error) => return Err(RefreshError::Commit(error)),
        }
    }
    if !consent_clock.is_expired(now) {
        return Ok(false);
    }
    commit_state_changes(store, queues, record, now, |head| {
        let (status, change) = next_record_status(head.status, StatusTrigger::ConsentExpired);
        Some((status, vec![(None, change?)]))
    })
    .await?;
    Ok(true)
}

/// Dispatches the record's changes of state that were not, and moves the watermark.
///
/// # Errors
///
/// [`RefreshError`]; the record's next refresh does it.
pub async fn dispatch_state_changes(
    store: &Store,
    queues: &Queues,
    head: &RecordHead,
) -> Result<(), RefreshError> {
    let carrier = match head.state_due_key() {
        Some(key) => store.find_due_entry(key, Consistency::Strong).await?,
        None => None,
    };
    // A record that is on no interval has nothing that says how far it was told: the last change is.
    let told = carrier.as_ref().and_then(|entry| entry.state_seq);
    let told = told.unwrap_or_else(|| Seq(head.state_seq.0.saturating_sub(1)));
    if told >= head.state_seq {
        return Ok(());
    }
    let dispatch = FeedDispatch {
        record: head.record,
        first_seq: told.next(),
        last_seq: head.state_seq,
        stream: FeedStream::State,
    };
    queues.send_dispatches(&[dispatch], 0).await?;
    if let Some(entry) = carrier {
        let nothing = ByProduct::default();
        store
            .advance_watermarks(entry.key, nothing, Some(head.state_seq))
            .await?;
    }
    Ok(())
}
