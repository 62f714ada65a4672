//! Commits: a commit moves the head of a record and adds entries to its feed in one transaction, so that seqs are dense
//! and no entry is without its head. It is made only where the head is what was read.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use jiff::Timestamp;
use okra_core::{
    backfill::progress::Backfill,
    model::{ids::Seq, snapshot::ByProduct},
    schedule::consent_clock::ConsentClock,
    sync::{
        decide::Watermark,
        feed::{Change, FeedEntry, FeedStream, MAX_ENTRIES_PER_COMMIT},
        state::RecordStatus,
    },
};

use crate::{
    RecordHead, Store, StoreError,
    key::{self, Key},
    records::{
        backfills, consents, feed, heads,
        watermarks::{STATE_SEQ_ATTRIBUTE, digest_attribute, digest_value, seq_attribute},
    },
    table::{
        attributes::{Attributes, item_size, millis_value, number_value, string_value},
        expression::{Condition, ItemUpdate},
        writes::TransactWriteOutcome,
    },
};

/// Bytes of one entry at most; DynamoDB takes items of 400 KB.
pub const MAX_ENTRY_BYTES: usize = 350 * 1024;

/// Bytes of the entries of one commit at most; DynamoDB takes transactions of 4 MB.
pub const MAX_COMMIT_BYTES: usize = 3_900_000;

/// A change of a record, to be committed.
#[derive(Clone, Copy, Debug)]
pub struct RecordCommit<'a> {
    /// The head as it was read; a conflict where its seq or a watermark has moved since.
    pub head: &'a RecordHead,
    /// The entries, whose seqs follow the head's without a gap. Without entries only watermarks move.
    pub entries: &'a [FeedEntry],
    /// The new watermarks. A product without one keeps its own.
    pub watermarks: ByProduct<Watermark>,
    /// The new status of the record; `None`: it keeps its own.
    pub status: Option<RecordStatus>,
    /// How far the backfill has come with it, where it is a step of one.
    pub backfill: Option<&'a Backfill>,
    /// The time of the commit.
    pub now: Timestamp,
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another commit came first: read the head again and decide again.
    #[error("another commit of the record came first")]
    Conflict,
    /// More than one transaction takes, or an entry of more than [`MAX_ENTRY_BYTES`]: commit fewer
    /// entries at once, or split the entry.
    #[error("the commit is too large: {entries} entries, {bytes} bytes")]
    TooLarge {
        /// How many entries.
        entries: usize,
        /// Their size together.
        bytes: usize,
    },
    /// The entries are of another record, or their seqs do not follow the head's without a gap.
    #[error("the entries do not follow the head of the record")]
    NotContiguous,
    /// The table failed. Whether the commit was made is not known; the head shows it when it is read again.
    #[error("the commit failed")]
    Store(#[from] StoreError),
}

/// The head after the commit, on the condition that it still is what was read. The digests are compared too: two
/// commits that only move watermarks leave the seq as it is.
fn head_update(commit: &RecordCommit<'_>) -> ItemUpdate {
    let (head, seq) = (commit.head, seq_after(commit));
    let mut update = ItemUpdate::new(Key::RecordHead(head.record))
        .set_attribute(heads::CHANGED_ATTRIBUTE, millis_value(commit.now))
        .with_condition(Condition::Equals(
            heads::SEQ_ATTRIBUTE,
            Some(number_value(head.seq)),
        ));
    if seq != head.seq {
        update = update.set_attribute(heads::SEQ_ATTRIBUTE, number_value(seq));
    }
    if let Some(state_seq) = last_state_seq(commit.entries) {
        update = update.set_attribute(STATE_SEQ_ATTRIBUTE, number_value(state_seq));
    }
    if let Some(status) = commit.status {
        update = update.set_attribute(heads::STATUS_ATTRIBUTE, string_value(status.as_str()));
    }
    if let Some(count) = transaction_count_after(commit)
        && head.transaction_count != Some(count)
    {
        update = update.set_attribute(heads::TRANSACTION_COUNT_ATTRIBUTE, number_value(count));
    }
    if completes_first_fetch(commit) {
        update = update.set_attribute(heads::FIRST_FETCH_ATTRIBUTE, AttributeValue::Bool(true));
    }
    for (product, watermark) in commit.watermarks.iter() {
        let known_digest = head.watermarks.get(product).and_then(digest_value);
        update = update
            .set_attribute(seq_attribute(product), number_value(watermark.seq))
            .set_or_remove(digest_attribute(product), digest_value(watermark))
            .with_condition(Condition::Equals(digest_attribute(product), known_digest));
    }
    update
}

/// The seq of the last entry that is a change of state.
fn last_state_seq(entries: &[FeedEntry]) -> Option<Seq> {
    entries
        .iter()
        .rfind(|entry| entry.change.stream() == FeedStream::State)
        .map(|entry| entry.seq)
}

fn seq_after(commit: &RecordCommit<'_>) -> Seq {
    commit
        .entries
        .last()
        .map_or(commit.head.seq, |entry| entry.seq)
}

/// How many transactions there are after the commit, where they are counted.
fn transaction_count_after(commit: &RecordCommit<'_>) -> Option<u64> {
    let mut count = commit.head.transaction_count?;
    for entry in commit.entries {
        if let Change::Transactions(diff) = &entry.change {
            // A count that was wrong must not keep the record from being committed: it does not go below 0.
            count = (count + diff.added.len() as u64).saturating_sub(diff.removed.len() as u64);
        }
    }
    Some(count)
}

/// True for the first commit that has a full response for the transactions.
fn completes_first_fetch(commit: &RecordCommit<'_>) -> bool {
    let transactions = commit.watermarks.transactions;
    let is_full = transactions.is_some_and(|watermark| watermark.digest.is_some());
    is_full && !commit.head.first_fetch_done
}

fn follows_head(commit: &RecordCommit<'_>) -> bool {
    (1..).zip(commit.entries).all(|(n, entry)| {
        entry.record == commit.head.record
            && entry.seq == commit.head.seq.plus(n)
            && entry.seq.0 <= key::MAX_KEY_SEQ
    })
}

/// The head as it is after the commit.
fn head_after(commit: &RecordCommit<'_>) -> RecordHead {
    let mut head = commit.head.clone();
    head.seq = seq_after(commit);
    head.state_seq = last_state_seq(commit.entries).unwrap_or(head.state_seq);
    head.status = commit.status.unwrap_or(head.status);
    head.first_fetch_done |= completes_first_fetch(commit);
    head.transaction_count = transaction_count_after(commit);
    head.last_changed_at = commit.now;
    for (product, watermark) in commit.watermarks.iter() {
        *head.watermarks.get_mut(product) = Some(*watermark);
    }
    head
}

/// The items of entries, where one transaction takes them.
fn write_bounded_entries(entries: &[FeedEntry]) -> Result<Vec<Attributes>, CommitError> {
    let items = feed::write_entries(entries)?;
    let bytes = items.iter().map(item_size).sum();
    let has_large_item = items.iter().any(|item| item_size(item) > MAX_ENTRY_BYTES);
    if entries.len() > MAX_ENTRIES_PER_COMMIT || bytes > MAX_COMMIT_BYTES || has_large_item {
        return Err(CommitError::TooLarge {
            entries: entries.len(),
            bytes,
        });
    }
    Ok(items)
}

impl Store {
    /// Moves the head of a record and adds entries to its feed, all or nothing. Returns the head as
    /// it is then. Without entries it costs one write unit, and not the two of a transaction.
    ///
    /// # Errors
    ///
    /// [`CommitError`].
    pub async fn commit_record(&self, commit: RecordCommit<'_>) -> Result<RecordHead, CommitError> {
        self.commit_with_actions(commit, Vec::new()).await
    }

    async fn commit_with_actions(
        &self,
        commit: RecordCommit<'_>,
        further_actions: Vec<TransactWriteItem>,
    ) -> Result<RecordHead, CommitError> {
        if !follows_head(&commit) {
            return Err(CommitError::NotContiguous);
        }
        let items = write_bounded_entries(commit.entries)?;

        // The head alone needs no transaction.
        let is_head_alone =
            items.is_empty() && commit.backfill.is_none() && further_actions.is_empty();
        let is_committed = if is_head_alone {
            self.update_item(head_update(&commit)).await?
        } else {
            let mut actions = vec![self.update_action(head_update(&commit))?];
            for item in items {
                actions.push(self.put_action(item, vec![Condition::Absent])?);
            }
            if let Some(backfill) = commit.backfill {
                let (item, conditions) = backfills::write_backfill(commit.head.record, backfill)?;
                actions.push(self.put_action(item, conditions)?);
            }
            actions.extend(further_actions);
            self.transact_write(actions).await? == TransactWriteOutcome::Committed
        };
        match is_committed {
            true => Ok(head_after(&commit)),
            false => Err(CommitError::Conflict),
        }
    }

    /// Commits notices of a consent's end together with that they were given, all or nothing: each is given once.
    ///
    /// # Errors
    ///
    /// [`CommitError`].
    pub async fn commit_consent_notices(
        &self,
        commit: RecordCommit<'_>,
        expected: ConsentClock,
        updated: ConsentClock,
    ) -> Result<RecordHead, CommitError> {
        let notices = consents::notices_update(commit.head.record, expected, updated);
        let action = self.update_action(notices)?;
        self.commit_with_actions(commit, vec![action]).await
    }
}
