//! Changes of state that are not found by a refresh: what a user or an app did with a record.

use jiff::Timestamp;
use okra_core::{
    consent::ConsentClock,
    feed::{Change, FeedEntry, Stream},
    ids::{AccountId, RecordId, Seq},
    model::ByProduct,
    state::{Happening, StateChange, status_after},
};
use okra_queue::{Dispatch, Queues};
use okra_store::{Commit, CommitError, Consistency, Head, RecordStatus, Store};

use crate::RefreshError;

/// Times a change of state is committed against refreshes that commit at the same time.
const MAX_COMMITS: u32 = 6;

/// The feed entries of changes of state, numbered from after `last` on.
pub fn entries(
    record: RecordId,
    last: Seq,
    at: Timestamp,
    changes: Vec<(Option<AccountId>, StateChange)>,
) -> Vec<FeedEntry> {
    (1..)
        .zip(changes)
        .map(|(n, (account, change))| FeedEntry {
            record,
            seq: last.plus(n),
            at,
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
pub async fn announce(
    store: &Store,
    queues: &Queues,
    record: RecordId,
    now: Timestamp,
    decide: impl Fn(&Head) -> Option<(RecordStatus, Vec<(Option<AccountId>, StateChange)>)>,
) -> Result<Option<Head>, RefreshError> {
    for _ in 0..MAX_COMMITS {
        let Some(head) = store.head(record, Consistency::Strong).await? else {
            return Ok(None);
        };
        let Some((status, changes)) = decide(&head) else {
            return Ok(Some(head));
        };
        if let Some(carrier) = head.state_key() {
            store.unsettle(carrier).await?;
        }
        let entries = entries(record, head.seq, now, changes);
        let commit = Commit {
            head: &head,
            entries: &entries,
            marks: ByProduct::default(),
            status: Some(status),
            history: None,
            now,
        };
        let committed = match store.commit(commit).await {
            Ok(committed) => committed,
            Err(CommitError::Lost) => continue,
            Err(error) => return Err(RefreshError::Commit(error)),
        };
        store.project(&entries).await?;
        tell(store, queues, &committed).await?;
        return Ok(Some(committed));
    }
    Err(RefreshError::Commit(CommitError::Lost))
}

/// Tells what is due of a consent's end: the notices, each once, and that it is over. True once it is
/// over.
pub(crate) async fn consent_clock(
    store: &Store,
    queues: &Queues,
    record: RecordId,
    clock: ConsentClock,
    now: Timestamp,
) -> Result<bool, RefreshError> {
    let due = clock.due(now);
    for _ in 0..MAX_COMMITS {
        let Some(head) = store.head(record, Consistency::Strong).await? else {
            return Ok(true);
        };
        if due.is_empty() || head.status != RecordStatus::Active {
            break;
        }
        if let Some(carrier) = head.state_key() {
            store.unsettle(carrier).await?;
        }
        let expires_at = clock.expires_at;
        let notices = due.iter().map(|&days| {
            let notice = StateChange::ConsentExpiring { expires_at, days };
            (None, notice)
        });
        let entries = entries(record, head.seq, now, notices.collect());
        let commit = Commit {
            head: &head,
            entries: &entries,
            marks: ByProduct::default(),
            status: None,
            history: None,
            now,
        };
        match store.commit_notices(commit, clock, clock.told(now)).await {
            Ok(committed) => {
                tell(store, queues, &committed).await?;
                break;
            }
            Err(CommitError::Lost) => {
                // Another refresh committed, or gave the notices.
                let consent = store.consent(record, Consistency::Strong).await?;
                if consent.and_then(|it| it.clock) != Some(clock) {
                    break;
                }
            }
            Err(error) => return Err(RefreshError::Commit(error)),
        }
    }
    if !clock.is_over(now) {
        return Ok(false);
    }
    announce(store, queues, record, now, |head| {
        let (status, change) = status_after(head.status, Happening::Expired);
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
pub async fn tell(store: &Store, queues: &Queues, head: &Head) -> Result<(), RefreshError> {
    let carrier = match head.state_key() {
        Some(key) => store.due_entry(key, Consistency::Strong).await?,
        None => None,
    };
    // A record that is on no interval has nothing that says how far it was told: the last change is.
    let told = carrier.as_ref().and_then(|entry| entry.state);
    let told = told.unwrap_or_else(|| Seq(head.state.0.saturating_sub(1)));
    if told >= head.state {
        return Ok(());
    }
    let dispatch = Dispatch {
        record: head.record,
        from: told.next(),
        to: head.state,
        stream: Stream::State,
    };
    queues.send_dispatches(&[dispatch], 0).await?;
    if let Some(entry) = carrier {
        let nothing = ByProduct::default();
        store.advance(entry.key, nothing, Some(head.state)).await?;
    }
    Ok(())
}
