//! When a backfill begins, goes on, and is opened again for what it lacks.
//!
//! [`FetchedWindow`] is what a refresh read; [`CoverageUpdate`] is the backfill with that noted in it. The rule: what a
//! refresh covered is noted before its commit, so that after a crash [`maintain_backfill`] finds a backfill that is not
//! complete.

use jiff::{Timestamp, civil::Date};
use okra_core::{
    backfill::progress::{Backfill, BackfillStep},
    model::{
        ids::{AccountId, RecordId},
        snapshot::utc_date,
    },
};
use okra_queue::Queues;
use okra_store::{Consistency, RecordHead, Store};

use crate::RefreshError;

/// Seconds that a message can wait in a queue at most.
const MAX_MESSAGE_DELAY_S: u16 = 900;

/// The accounts whose transactions a refresh read, and the first date of what it read.
pub(crate) struct FetchedWindow {
    pub(crate) accounts: Vec<AccountId>,
    pub(crate) from: Date,
}

/// A backfill in which a refresh noted what it read.
pub(crate) struct CoverageUpdate {
    backfill: Backfill,
    /// True where it was opened again just now: its step has no message yet.
    is_reopened: bool,
}

/// Begins the backfill of a record, up to the window's first date, where none was begun, and sees to it that its first
/// step is made.
pub(crate) async fn begin_backfill(
    store: &Store,
    queues: &Queues,
    head: &RecordHead,
    window: &FetchedWindow,
    now: Timestamp,
) -> Result<(), RefreshError> {
    let accounts = window.accounts.iter().copied();
    let months = head.backfill_months;
    let new = Backfill::new(accounts, window.from, utc_date(now), months, now);
    if store.put_backfill(head.record, &new).await? {
        return enqueue_step(queues, head, &new, now).await;
    }
    match store
        .find_backfill(head.record, Consistency::Strong)
        .await?
    {
        // It was stored, and whoever stored it may have crashed.
        Some(stored) if stored.step == 0 => enqueue_step(queues, head, &stored, now).await,
        Some(_) | None => Ok(()),
    }
}

/// Notes which accounts' transactions were read from the window's first date on, and opens the backfill again for the
/// months that no answer covered before. `None` where there is no backfill, or somebody else made a step.
pub(crate) async fn record_covered_window(
    store: &Store,
    record: RecordId,
    window: &FetchedWindow,
    now: Timestamp,
) -> Result<Option<CoverageUpdate>, RefreshError> {
    let Some(backfill) = store.find_backfill(record, Consistency::Eventual).await? else {
        return Ok(None);
    };
    let Some(updated) = backfill.after_refresh(&window.accounts, window.from, now) else {
        return Ok(Some(CoverageUpdate {
            backfill,
            is_reopened: false,
        }));
    };
    let is_stored = store.put_backfill(record, &updated).await?;
    Ok(is_stored.then(|| CoverageUpdate {
        is_reopened: !updated.is_complete(),
        backfill: updated,
    }))
}

/// Opens the backfill of a record again for what it lacks, now that its user was present: they may have allowed more.
///
/// # Errors
///
/// [`RefreshError`].
pub async fn retry_backfill(
    store: &Store,
    record: RecordId,
    now: Timestamp,
) -> Result<(), RefreshError> {
    let backfill = store.find_backfill(record, Consistency::Strong).await?;
    if let Some(reopened) = backfill.and_then(|it| it.reopen_incomplete(true, now)) {
        store.put_backfill(record, &reopened).await?;
    }
    Ok(())
}

/// Enqueues the next step of a backfill that was parked or opened again.
///
/// # Errors
///
/// [`RefreshError`].
pub async fn resume_backfill(
    store: &Store,
    queues: &Queues,
    head: &RecordHead,
    now: Timestamp,
) -> Result<(), RefreshError> {
    match store
        .find_backfill(head.record, Consistency::Strong)
        .await?
    {
        Some(backfill) if !backfill.is_complete() => {
            enqueue_step(queues, head, &backfill, now).await
        }
        Some(_) | None => Ok(()),
    }
}

/// Enqueues the next step of a backfill that was opened again, whose message was lost, or that has lacked something for
/// long enough. Called by each refresh that reads the head, at half a read unit. `is_unsettled` says that whoever began
/// the backfill may have crashed.
pub(crate) async fn maintain_backfill(
    store: &Store,
    queues: &Queues,
    head: &RecordHead,
    coverage: Option<CoverageUpdate>,
    is_unsettled: bool,
    now: Timestamp,
) -> Result<(), RefreshError> {
    let backfill = match coverage {
        Some(CoverageUpdate {
            backfill,
            is_reopened,
        }) => {
            if is_reopened || (is_unsettled && backfill.step == 0) {
                return enqueue_step(queues, head, &backfill, now).await;
            }
            Some(backfill)
        }
        None => {
            store
                .find_backfill(head.record, Consistency::Eventual)
                .await?
        }
    };
    let revived = backfill.and_then(|it| {
        it.revive_lost_step(now)
            .or_else(|| it.reopen_incomplete(false, now))
    });
    if let Some(revived) = revived
        && store.put_backfill(head.record, &revived).await?
    {
        enqueue_step(queues, head, &revived, now).await?;
    }
    Ok(())
}

/// Enqueues the next step of a backfill for the time when it may be made. One that is further off than a message can
/// wait is received early, and enqueued again.
pub(super) async fn enqueue_step(
    queues: &Queues,
    head: &RecordHead,
    backfill: &Backfill,
    now: Timestamp,
) -> Result<(), RefreshError> {
    let step = BackfillStep {
        record: head.record,
        bank: head.bank,
        step: backfill.step,
    };
    // Rounded up: a step that comes a part of a second too soon would enqueue itself at once, over
    // and over, until that second is over.
    let wait_ms = backfill.next_step_at.duration_since(now).as_millis().max(0);
    let wait_s = u16::try_from((wait_ms + 999) / 1000).unwrap_or(MAX_MESSAGE_DELAY_S);
    let delay_s = wait_s.min(MAX_MESSAGE_DELAY_S);
    Ok(queues.send_backfill_step(step, delay_s).await?)
}
