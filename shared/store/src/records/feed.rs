//! The feed: committed diffs, in order. A commit moves the head and adds the entries in one
//! transaction, so that the numbers of a feed are dense and no entry is without its head.
//!
//! Entries of one commit and one account share an item as long as it stays within a write unit: a
//! transaction pays two units for each item. The item's key has the number of its last entry, so that
//! whatever is read from a number on begins with the item that holds it.

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use okra_core::{
    backfill::progress::Backfill,
    model::{
        ids::{RecordId, Seq},
        snapshot::ByProduct,
    },
    schedule::consent_clock::ConsentClock,
    sync::{
        decide::Watermark,
        feed::{Change, FeedEntry, FeedStream, MAX_ENTRIES_PER_COMMIT},
        state::RecordStatus,
    },
};

use crate::{
    Consistency, RecordHead, Store, StoreError,
    records::{
        backfills, consents, heads,
        watermarks::{STATE_SEQ_ATTRIBUTE, digest_attribute, digest_value, seq_attribute},
    },
    table::{
        call::{KeyRange, ReadLimit, TransactWriteOutcome},
        expression::{Condition, ItemUpdate},
        item::{
            Attributes, ItemBuilder, ItemReader, JSON_ATTRIBUTE, Key, item_size, json_value,
            millis_value, number_value, string_value,
        },
    },
};

/// Entries that are read at once at most.
pub const MAX_FEED_PAGE: usize = 1000;

/// Bytes of one entry at most; DynamoDB takes items of 400 KB.
pub const MAX_ENTRY_BYTES: usize = 350 * 1024;

/// Bytes of the entries of one commit at most; DynamoDB takes transactions of 4 MB.
pub const MAX_COMMIT_BYTES: usize = 3_900_000;

/// The largest number a feed entry's key can hold.
const MAX_KEY_SEQ: u64 = 999_999_999_999;

/// Bytes of an item that several entries share, at most: one write unit.
const MAX_SHARED_ITEM_BYTES: usize = 1024;

const KIND: &str = "feed entry";
const FEED_PREFIX: &str = "FED#";

/// How many entries an item holds; absent where it is one.
const COUNT_ATTRIBUTE: &str = "c";

/// A change of a record, to be committed.
#[derive(Clone, Copy, Debug)]
pub struct RecordCommit<'a> {
    /// The head as it was read; lost where its sequence number or a mark has moved since.
    pub head: &'a RecordHead,
    /// The entries, numbered from the head's sequence number on without a gap. None at all is fine:
    /// then only marks move.
    pub entries: &'a [FeedEntry],
    /// The new marks. A product without one keeps its own.
    pub watermarks: ByProduct<Watermark>,
    /// The new status of the record; `None`: it keeps its own.
    pub status: Option<RecordStatus>,
    /// How far the history has come with it, where it is a step of that.
    pub backfill: Option<&'a Backfill>,
    /// The time of the commit.
    pub now: Timestamp,
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another commit came first: read the head again and decide again.
    #[error("another commit came first")]
    Conflict,
    /// More than one transaction takes, or one entry is more than [`MAX_ENTRY_BYTES`]: commit fewer
    /// entries at once, or cut the entry.
    #[error("the commit is too large: {entries} entries, {bytes} bytes")]
    TooLarge {
        /// How many entries.
        entries: usize,
        /// Their size together.
        bytes: usize,
    },
    /// The entries are of another record, or their numbers do not follow the head's without a gap.
    #[error("the entries do not follow the head")]
    NotContiguous,
    /// The table failed. Whether the commit was made is not known; reading the head tells.
    #[error("the table failed")]
    Store(#[from] StoreError),
}

/// The key of the item of a commit whose last entry has this number.
pub(crate) fn feed_key(record: RecordId, seq: Seq) -> Key {
    Key::new(heads::record_partition(record), feed_sort_key(seq))
}

fn feed_sort_key(seq: Seq) -> String {
    format!("{FEED_PREFIX}{:012}", seq.0)
}

/// The items of the entries of one commit.
pub(crate) fn write_entries(entries: &[FeedEntry]) -> Result<Vec<Attributes>, StoreError> {
    let mut items: Vec<Attributes> = Vec::with_capacity(entries.len());
    let mut first = 0;
    for (at, entry) in entries.iter().enumerate() {
        let shares = entries[first..at].last().is_some_and(|before| {
            before.account == entry.account && before.committed_at == entry.committed_at
        });
        if shares {
            let shared = build_feed_item(&entries[first..=at], entry)?;
            if item_size(&shared) <= MAX_SHARED_ITEM_BYTES {
                items.pop();
                items.push(shared);
                continue;
            }
        }
        first = at;
        items.push(build_feed_item(&entries[at..=at], entry)?);
    }
    Ok(items)
}

/// The item of entries of one account and time; `last` is the last of them.
fn build_feed_item(entries: &[FeedEntry], last: &FeedEntry) -> Result<Attributes, StoreError> {
    let changes: Vec<&Change> = entries.iter().map(|entry| &entry.change).collect();
    let (count, changes) = match changes.as_slice() {
        [one] => (None, json_value(KIND, one)?),
        several => (
            Some(number_value(several.len())),
            json_value(KIND, &several)?,
        ),
    };
    Ok(ItemBuilder::new(Key::new(
        heads::record_partition(last.record),
        feed_sort_key(last.seq),
    ))
    .with_optional(
        "a",
        last.account
            .map(|account| string_value(account.to_string())),
    )
    .with_optional(COUNT_ATTRIBUTE, count)
    .with_attribute("t", millis_value(last.committed_at))
    .with_attribute(JSON_ATTRIBUTE, changes)
    .build())
}

/// The entries of an item, in order.
fn read_entries(record: RecordId, item: &Attributes) -> Result<Vec<FeedEntry>, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let last: u64 = reader
        .sort_key_after(FEED_PREFIX)?
        .parse()
        .map_err(|_| reader.corrupt_error("sk"))?;
    let changes: Vec<Change> = if reader.has_attribute(COUNT_ATTRIBUTE) {
        reader.read_json(JSON_ATTRIBUTE)?
    } else {
        vec![reader.read_json(JSON_ATTRIBUTE)?]
    };
    let (at, account) = (
        reader.read_millis("t")?,
        reader.read_optional("a", ItemReader::read_parsed)?,
    );
    let count = u64::try_from(changes.len()).unwrap_or(u64::MAX);
    let before = last
        .checked_sub(count)
        .ok_or_else(|| reader.corrupt_error("sk"))?;
    let entry = |(seq, change)| FeedEntry {
        record,
        seq: Seq(seq),
        committed_at: at,
        account,
        change,
    };
    Ok((before + 1..).zip(changes).map(entry).collect())
}

/// The head after the commit, where it still is what was read. The digests are compared too: two
/// commits that only move marks leave the sequence number alone.
fn head_update(commit: &RecordCommit<'_>) -> ItemUpdate {
    let (head, seq) = (commit.head, seq_after(commit));
    let mut update = ItemUpdate::new(heads::head_key(head.record))
        .set_attribute("u", millis_value(commit.now))
        .with_condition(Condition::Equals("q", Some(number_value(head.seq))));
    if seq != head.seq {
        update = update.set_attribute("q", number_value(seq));
    }
    if let Some(state) = last_state_seq(commit.entries) {
        update = update.set_attribute(STATE_SEQ_ATTRIBUTE, number_value(state));
    }
    if let Some(status) = commit.status {
        update = update.set_attribute("st", string_value(status.as_str()));
    }
    let rows = transaction_count_after(commit);
    if let Some(rows) = rows.filter(|_| rows != head.transaction_count) {
        update = update.set_attribute(heads::TRANSACTION_COUNT_ATTRIBUTE, number_value(rows));
    }
    if completes_first_fetch(commit) {
        update = update.set_attribute("fp", aws_sdk_dynamodb::types::AttributeValue::Bool(true));
    }
    for (product, mark) in commit.watermarks.iter() {
        let known = head.watermarks.get(product);
        update = update
            .set_attribute(seq_attribute(product), number_value(mark.seq))
            .set_or_remove(digest_attribute(product), digest_value(mark))
            .with_condition(Condition::Equals(
                digest_attribute(product),
                known.and_then(digest_value),
            ));
    }
    update
}

/// The last of the entries that is of the state stream.
pub(crate) fn last_state_seq(entries: &[FeedEntry]) -> Option<Seq> {
    let mut states = entries
        .iter()
        .filter(|entry| entry.change.stream() == FeedStream::State);
    states.next_back().map(|entry| entry.seq)
}

fn seq_after(commit: &RecordCommit<'_>) -> Seq {
    commit
        .entries
        .last()
        .map_or(commit.head.seq, |entry| entry.seq)
}

/// How many transactions there are after the commit, where they are counted.
fn transaction_count_after(commit: &RecordCommit<'_>) -> Option<u64> {
    let diffs = commit
        .entries
        .iter()
        .filter_map(|entry| match &entry.change {
            Change::Transactions(diff) => {
                Some((diff.added.len() as u64, diff.removed.len() as u64))
            }
            Change::Balance { .. } | Change::State(_) => None,
        });
    let rows = commit.head.transaction_count?;
    Some(diffs.fold(rows, |rows, (added, removed)| {
        rows.saturating_add(added).saturating_sub(removed)
    }))
}

/// True for the first commit with a full answer for the transactions.
fn completes_first_fetch(commit: &RecordCommit<'_>) -> bool {
    let answered = commit
        .watermarks
        .transactions
        .is_some_and(|mark| mark.digest.is_some());
    answered && !commit.head.first_fetch_done
}

fn follows_head(commit: &RecordCommit<'_>) -> bool {
    (1..).zip(commit.entries).all(|(n, entry)| {
        entry.record == commit.head.record
            && entry.seq == commit.head.seq.plus(n)
            && entry.seq.0 <= MAX_KEY_SEQ
    })
}

impl Store {
    /// Moves the head of a record and adds entries to its feed, all or nothing. Returns the head as
    /// it is now. Without entries it costs one write unit and not two.
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
        let items = write_entries(commit.entries)?;
        let bytes = items.iter().map(item_size).sum();
        if commit.entries.len() > MAX_ENTRIES_PER_COMMIT
            || bytes > MAX_COMMIT_BYTES
            || items.iter().any(|item| item_size(item) > MAX_ENTRY_BYTES)
        {
            return Err(CommitError::TooLarge {
                entries: commit.entries.len(),
                bytes,
            });
        }
        let alone = items.is_empty() && commit.backfill.is_none() && further_actions.is_empty();
        let committed = if alone {
            self.update_item(head_update(&commit)).await?
        } else {
            let mut actions = vec![self.update_action(head_update(&commit))];
            actions.extend(
                items
                    .into_iter()
                    .map(|item| self.put_action(item, vec![Condition::Absent])),
            );
            if let Some(history) = commit.backfill {
                let (item, conditions) = backfills::write_backfill(commit.head.record, history)?;
                actions.push(self.put_action(item, conditions));
            }
            actions.extend(further_actions);
            self.transact_write(actions).await? == TransactWriteOutcome::Committed
        };
        if !committed {
            return Err(CommitError::Conflict);
        }
        let mut head = commit.head.clone();
        head.seq = seq_after(&commit);
        head.state_seq = last_state_seq(commit.entries).unwrap_or(head.state_seq);
        head.status = commit.status.unwrap_or(head.status);
        head.first_fetch_done |= completes_first_fetch(&commit);
        head.transaction_count = transaction_count_after(&commit);
        head.last_changed_at = commit.now;
        for (product, mark) in commit.watermarks.iter() {
            *head.watermarks.get_mut(product) = Some(*mark);
        }
        Ok(head)
    }

    /// Commits notices of a consent's end, and that they were given, all or nothing: each is given once.
    ///
    /// # Errors
    ///
    /// [`CommitError`].
    pub async fn commit_consent_notices(
        &self,
        commit: RecordCommit<'_>,
        before: ConsentClock,
        after: ConsentClock,
    ) -> Result<RecordHead, CommitError> {
        let noticed = consents::notices_update(commit.head.record, before, after);
        self.commit_with_actions(commit, vec![self.update_action(noticed)])
            .await
    }

    /// At most `limit` entries, and [`MAX_FEED_PAGE`], after `after`, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn read_feed(
        &self,
        record: RecordId,
        after: Seq,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Vec<FeedEntry>, StoreError> {
        if after.0 >= MAX_KEY_SEQ {
            return Ok(Vec::new());
        }
        let range = KeyRange::between_keys(
            heads::record_partition(record),
            feed_sort_key(after.next()),
            feed_sort_key(Seq(MAX_KEY_SEQ)),
        );
        let limit = limit.min(MAX_FEED_PAGE);
        let items = self
            .query_range(range, ReadLimit::First(limit), consistency)
            .await?;
        let mut entries = Vec::with_capacity(items.len());
        for item in &items {
            entries.extend(read_entries(record, item)?);
        }
        entries.retain(|entry| entry.seq > after);
        entries.truncate(limit);
        Ok(entries)
    }

    /// One entry of a feed; read eventually, and strongly where it was not found so.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_feed_entry(
        &self,
        record: RecordId,
        seq: Seq,
    ) -> Result<Option<FeedEntry>, StoreError> {
        let before = Seq(seq.0.saturating_sub(1));
        for consistency in [Consistency::Eventual, Consistency::Strong] {
            let found = self.read_feed(record, before, 1, consistency).await?;
            if let Some(entry) = found.into_iter().find(|entry| entry.seq == seq) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use okra_core::{
        model::{
            ids::{AccountId, EpochDay, TransactionId},
            money::{Currency, Money},
            snapshot::{BalanceFacts, BookingStatus, Direction, Transaction, TransactionFacts},
        },
        sync::feed::{FetchKind, TransactionsDiff},
    };
    use proptest::prelude::*;

    use super::*;

    /// A row as Nigerian banks have them: an id, a description of about 40 letters, a balance.
    fn usual_row(account: AccountId, n: u8) -> Transaction {
        Transaction {
            id: TransactionId::new(account, EpochDay(20_000), &[&[n]]),
            facts: TransactionFacts {
                bank_id: Some(format!("0900232603301{n:06}")),
                status: BookingStatus::Booked,
                direction: Direction::Debit,
                amount: Money::new(1_250_050, Currency::NGN),
                booked_at: Timestamp::from_second(1_774_828_800).unwrap(),
                value_at: None,
                description: "NIP/UBA/ADAEZE OKONKWO/RENT MARCH PART 2".to_owned(),
                reference: Some("NIP0900232603301".to_owned()),
                code: Some("NIP".to_owned()),
                balance_after: Some(Money::new(98_765_432, Currency::NGN)),
            },
        }
    }

    fn feed_entry(seq: u64, account: AccountId, change: Change) -> FeedEntry {
        FeedEntry {
            record: RecordId::derive(&[b"record"]),
            seq: Seq(seq),
            committed_at: Timestamp::from_second(1_774_828_805).unwrap(),
            account: Some(account),
            change,
        }
    }

    fn added_rows(account: AccountId, count: u8) -> Change {
        Change::Transactions(TransactionsDiff {
            fetch_kind: FetchKind::Periodic,
            added: (0..count).map(|n| usual_row(account, n)).collect(),
            modified: vec![],
            removed: vec![],
            previous_seqs: std::collections::BTreeMap::new(),
        })
    }

    fn balance_change(minor: i64) -> Change {
        let facts = |minor| BalanceFacts {
            available: Some(Money::new(minor, Currency::NGN)),
            ledger: Some(Money::new(minor, Currency::NGN)),
        };
        Change::Balance {
            before: Some(facts(98_765_432)),
            after: facts(minor),
        }
    }

    fn read_all_entries(items: &[Attributes]) -> Vec<FeedEntry> {
        let record = RecordId::derive(&[b"record"]);
        let read = items
            .iter()
            .flat_map(|item| read_entries(record, item).unwrap());
        read.collect()
    }

    #[test]
    fn three_usual_rows_and_the_balance_are_one_write_unit() {
        let account = AccountId::derive(&[b"account"]);
        let entries = [
            feed_entry(123_456, account, balance_change(95_015_282)),
            feed_entry(123_457, account, added_rows(account, 3)),
        ];
        let items = write_entries(&entries).unwrap();
        assert_eq!(items.len(), 1);
        assert!(
            item_size(&items[0]) <= 1024,
            "{} bytes",
            item_size(&items[0])
        );
        assert_eq!(read_all_entries(&items), entries);
    }

    proptest! {
        /// Whatever is committed together comes back in order, and what shares an item is small, of one
        /// account and without a gap.
        #[test]
        fn entries_that_share_an_item_come_back(made in prop::collection::vec((0..3_u8, 0..6_u8), 0..12)) {
            let entries: Vec<FeedEntry> = (1..)
                .zip(made)
                .map(|(seq, (account, count))| {
                    let account = AccountId::derive(&[&[account]]);
                    let change = if count == 0 { balance_change(i64::from(count)) } else { added_rows(account, count) };
                    feed_entry(seq, account, change)
                })
                .collect();
            let items = write_entries(&entries).unwrap();
            for item in items.iter().filter(|item| item.contains_key(COUNT_ATTRIBUTE)) {
                prop_assert!(item_size(item) <= MAX_SHARED_ITEM_BYTES);
            }
            prop_assert_eq!(read_all_entries(&items), entries);
        }
    }

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_the_feed(a in 0..=MAX_KEY_SEQ, b in 0..=MAX_KEY_SEQ) {
            prop_assert_eq!(feed_sort_key(Seq(a)).cmp(&feed_sort_key(Seq(b))), a.cmp(&b));
            prop_assert_eq!(feed_sort_key(Seq(a)).strip_prefix(FEED_PREFIX).unwrap().parse(), Ok(a));
        }
    }
}
