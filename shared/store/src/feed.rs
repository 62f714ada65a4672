//! The feed: committed diffs, in order. A commit moves the head and adds the entries in one
//! transaction, so that the numbers of a feed are dense and no entry is without its head.
//!
//! Entries of one commit and one account share an item as long as it stays within a write unit: a
//! transaction pays two units for each item. The item's key has the number of its last entry, so that
//! whatever is read from a number on begins with the item that holds it.

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use okra_core::{
    consent::ConsentClock,
    decide::Mark,
    feed::{Change, FeedEntry, MAX_ENTRIES_PER_COMMIT, Stream},
    history::History,
    ids::{RecordId, Seq},
    model::ByProduct,
    state::RecordStatus,
};

use crate::{
    Consistency, Head, Store, StoreError,
    call::{Range, Take, Transacted},
    consents,
    expression::{Update, When},
    histories,
    item::{Attributes, Draft, JSON, Key, Reader, json, millis, n, s, size},
    marks::{STATE_SEQ, digest_name, digest_value, seq_name},
    records,
};

/// Entries that are read at once at most.
pub const MAX_FEED_PAGE: usize = 1000;

/// Bytes of one entry at most; DynamoDB takes items of 400 KB.
pub const MAX_ENTRY_BYTES: usize = 350 * 1024;

/// Bytes of the entries of one commit at most; DynamoDB takes transactions of 4 MB.
pub const MAX_COMMIT_BYTES: usize = 3_900_000;

/// The largest number a feed entry's key can hold.
const MAX_SEQ: u64 = 999_999_999_999;

/// Bytes of an item that several entries share, at most: one write unit.
const MAX_SHARED_BYTES: usize = 1024;

const KIND: &str = "feed entry";
const PREFIX: &str = "FED#";

/// How many entries an item holds; absent where it is one.
const COUNT: &str = "c";

/// A change of a record, to be committed.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// The head as it was read; lost where its sequence number or a mark has moved since.
    pub head: &'a Head,
    /// The entries, numbered from the head's sequence number on without a gap. None at all is fine:
    /// then only marks move.
    pub entries: &'a [FeedEntry],
    /// The new marks. A product without one keeps its own.
    pub marks: ByProduct<Mark>,
    /// The new status of the record; `None`: it keeps its own.
    pub status: Option<RecordStatus>,
    /// How far the history has come with it, where it is a step of that.
    pub history: Option<&'a History>,
    /// The time of the commit.
    pub now: Timestamp,
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another commit came first: read the head again and decide again.
    #[error("another commit came first")]
    Lost,
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
    NotNext,
    /// The table failed. Whether the commit was made is not known; reading the head tells.
    #[error("the table failed")]
    Store(#[from] StoreError),
}

/// The key of the item of a commit whose last entry has this number.
pub(crate) fn key(record: RecordId, seq: Seq) -> Key {
    Key::new(records::partition(record), sort_key(seq))
}

fn sort_key(seq: Seq) -> String {
    format!("{PREFIX}{:012}", seq.0)
}

/// The items of the entries of one commit.
pub(crate) fn write(entries: &[FeedEntry]) -> Result<Vec<Attributes>, StoreError> {
    let mut items: Vec<Attributes> = Vec::with_capacity(entries.len());
    let mut first = 0;
    for (at, entry) in entries.iter().enumerate() {
        let shares = entries[first..at]
            .last()
            .is_some_and(|before| before.account == entry.account && before.at == entry.at);
        if shares {
            let shared = draft(&entries[first..=at], entry)?;
            if size(&shared) <= MAX_SHARED_BYTES {
                items.pop();
                items.push(shared);
                continue;
            }
        }
        first = at;
        items.push(draft(&entries[at..=at], entry)?);
    }
    Ok(items)
}

/// The item of entries of one account and time; `last` is the last of them.
fn draft(entries: &[FeedEntry], last: &FeedEntry) -> Result<Attributes, StoreError> {
    let changes: Vec<&Change> = entries.iter().map(|entry| &entry.change).collect();
    let (count, changes) = match changes.as_slice() {
        [one] => (None, json(KIND, one)?),
        several => (Some(n(several.len())), json(KIND, &several)?),
    };
    Ok(Draft::new(Key::new(
        records::partition(last.record),
        sort_key(last.seq),
    ))
    .maybe("a", last.account.map(|account| s(account.to_string())))
    .maybe(COUNT, count)
    .with("t", millis(last.at))
    .with(JSON, changes)
    .done())
}

/// The entries of an item, in order.
fn read(record: RecordId, item: &Attributes) -> Result<Vec<FeedEntry>, StoreError> {
    let reader = Reader::new(KIND, item);
    let last: u64 = reader
        .after(PREFIX)?
        .parse()
        .map_err(|_| reader.corrupt("sk"))?;
    let changes: Vec<Change> = if reader.has(COUNT) {
        reader.json(JSON)?
    } else {
        vec![reader.json(JSON)?]
    };
    let (at, account) = (reader.millis("t")?, reader.optional("a", Reader::parse)?);
    let count = u64::try_from(changes.len()).unwrap_or(u64::MAX);
    let before = last
        .checked_sub(count)
        .ok_or_else(|| reader.corrupt("sk"))?;
    let entry = |(seq, change)| FeedEntry {
        record,
        seq: Seq(seq),
        at,
        account,
        change,
    };
    Ok((before + 1..).zip(changes).map(entry).collect())
}

/// The head after the commit, where it still is what was read. The digests are compared too: two
/// commits that only move marks leave the sequence number alone.
fn moved(commit: &Commit<'_>) -> Update {
    let (head, seq) = (commit.head, last_seq(commit));
    let mut update = Update::new(records::key(head.record))
        .set("u", millis(commit.now))
        .when(When::Is("q", Some(n(head.seq))));
    if seq != head.seq {
        update = update.set("q", n(seq));
    }
    if let Some(state) = last_state(commit.entries) {
        update = update.set(STATE_SEQ, n(state));
    }
    if let Some(status) = commit.status {
        update = update.set("st", s(status.as_str()));
    }
    let rows = rows(commit);
    if let Some(rows) = rows.filter(|_| rows != head.rows) {
        update = update.set(records::ROWS, n(rows));
    }
    if pulls(commit) {
        update = update.set("fp", aws_sdk_dynamodb::types::AttributeValue::Bool(true));
    }
    for (product, mark) in commit.marks.iter() {
        let known = head.marks.get(product);
        update = update
            .set(seq_name(product), n(mark.seq))
            .assign(digest_name(product), digest_value(mark))
            .when(When::Is(digest_name(product), known.and_then(digest_value)));
    }
    update
}

/// The last of the entries that is of the state stream.
pub(crate) fn last_state(entries: &[FeedEntry]) -> Option<Seq> {
    let mut states = entries
        .iter()
        .filter(|entry| entry.change.stream() == Stream::State);
    states.next_back().map(|entry| entry.seq)
}

fn last_seq(commit: &Commit<'_>) -> Seq {
    commit
        .entries
        .last()
        .map_or(commit.head.seq, |entry| entry.seq)
}

/// How many transactions there are after the commit, where they are counted.
fn rows(commit: &Commit<'_>) -> Option<u64> {
    let diffs = commit
        .entries
        .iter()
        .filter_map(|entry| match &entry.change {
            Change::Transactions(diff) => {
                Some((diff.added.len() as u64, diff.removed.len() as u64))
            }
            Change::Balance { .. } | Change::State(_) => None,
        });
    let rows = commit.head.rows?;
    Some(diffs.fold(rows, |rows, (added, removed)| {
        rows.saturating_add(added).saturating_sub(removed)
    }))
}

/// True for the first commit with a full answer for the transactions.
fn pulls(commit: &Commit<'_>) -> bool {
    let answered = commit
        .marks
        .transactions
        .is_some_and(|mark| mark.digest.is_some());
    answered && !commit.head.first_pull_done
}

fn follows(commit: &Commit<'_>) -> bool {
    (1..).zip(commit.entries).all(|(n, entry)| {
        entry.record == commit.head.record
            && entry.seq == commit.head.seq.plus(n)
            && entry.seq.0 <= MAX_SEQ
    })
}

impl Store {
    /// Moves the head of a record and adds entries to its feed, all or nothing. Returns the head as
    /// it is now. Without entries it costs one write unit and not two.
    ///
    /// # Errors
    ///
    /// [`CommitError`].
    pub async fn commit(&self, commit: Commit<'_>) -> Result<Head, CommitError> {
        self.commit_with(commit, Vec::new()).await
    }

    async fn commit_with(
        &self,
        commit: Commit<'_>,
        further: Vec<TransactWriteItem>,
    ) -> Result<Head, CommitError> {
        if !follows(&commit) {
            return Err(CommitError::NotNext);
        }
        let items = write(commit.entries)?;
        let bytes = items.iter().map(size).sum();
        if commit.entries.len() > MAX_ENTRIES_PER_COMMIT
            || bytes > MAX_COMMIT_BYTES
            || items.iter().any(|item| size(item) > MAX_ENTRY_BYTES)
        {
            return Err(CommitError::TooLarge {
                entries: commit.entries.len(),
                bytes,
            });
        }
        let alone = items.is_empty() && commit.history.is_none() && further.is_empty();
        let committed = if alone {
            self.update(moved(&commit)).await?
        } else {
            let mut actions = vec![self.update_action(moved(&commit))];
            actions.extend(
                items
                    .into_iter()
                    .map(|item| self.put_action(item, vec![When::Absent])),
            );
            if let Some(history) = commit.history {
                let (item, conditions) = histories::write(commit.head.record, history)?;
                actions.push(self.put_action(item, conditions));
            }
            actions.extend(further);
            self.transact(actions).await? == Transacted::Done
        };
        if !committed {
            return Err(CommitError::Lost);
        }
        let mut head = commit.head.clone();
        head.seq = last_seq(&commit);
        head.state = last_state(commit.entries).unwrap_or(head.state);
        head.status = commit.status.unwrap_or(head.status);
        head.first_pull_done |= pulls(&commit);
        head.rows = rows(&commit);
        head.last_changed_at = commit.now;
        for (product, mark) in commit.marks.iter() {
            *head.marks.slot(product) = Some(*mark);
        }
        Ok(head)
    }

    /// Commits notices of a consent's end, and that they were given, all or nothing: each is given once.
    ///
    /// # Errors
    ///
    /// [`CommitError`].
    pub async fn commit_notices(
        &self,
        commit: Commit<'_>,
        before: ConsentClock,
        after: ConsentClock,
    ) -> Result<Head, CommitError> {
        let noticed = consents::noticed(commit.head.record, before, after);
        self.commit_with(commit, vec![self.update_action(noticed)])
            .await
    }

    /// At most `limit` entries, and [`MAX_FEED_PAGE`], after `after`, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn feed(
        &self,
        record: RecordId,
        after: Seq,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Vec<FeedEntry>, StoreError> {
        if after.0 >= MAX_SEQ {
            return Ok(Vec::new());
        }
        let range = Range::between(
            records::partition(record),
            sort_key(after.next()),
            sort_key(Seq(MAX_SEQ)),
        );
        let limit = limit.min(MAX_FEED_PAGE);
        let items = self.query(range, Take::First(limit), consistency).await?;
        let mut entries = Vec::with_capacity(items.len());
        for item in &items {
            entries.extend(read(record, item)?);
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
    pub async fn entry(&self, record: RecordId, seq: Seq) -> Result<Option<FeedEntry>, StoreError> {
        let before = Seq(seq.0.saturating_sub(1));
        for consistency in [Consistency::Eventual, Consistency::Strong] {
            let found = self.feed(record, before, 1, consistency).await?;
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
        feed::{Pull, TransactionsDiff},
        ids::{AccountId, Day, TransactionId},
        model::{BalanceFacts, BookingStatus, Direction, Transaction, TransactionFacts},
        money::{Currency, Money},
    };
    use proptest::prelude::*;

    use super::*;

    /// A row as Nigerian banks have them: an id, a description of about 40 letters, a balance.
    fn usual_row(account: AccountId, n: u8) -> Transaction {
        Transaction {
            id: TransactionId::new(account, Day(20_000), &[&[n]]),
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

    fn entry(seq: u64, account: AccountId, change: Change) -> FeedEntry {
        FeedEntry {
            record: RecordId::derive(&[b"record"]),
            seq: Seq(seq),
            at: Timestamp::from_second(1_774_828_805).unwrap(),
            account: Some(account),
            change,
        }
    }

    fn rows(account: AccountId, count: u8) -> Change {
        Change::Transactions(TransactionsDiff {
            pull: Pull::Periodic,
            added: (0..count).map(|n| usual_row(account, n)).collect(),
            modified: vec![],
            removed: vec![],
            previous: std::collections::BTreeMap::new(),
        })
    }

    fn balance(minor: i64) -> Change {
        let facts = |minor| BalanceFacts {
            available: Some(Money::new(minor, Currency::NGN)),
            ledger: Some(Money::new(minor, Currency::NGN)),
        };
        Change::Balance {
            before: Some(facts(98_765_432)),
            after: facts(minor),
        }
    }

    fn read_all(items: &[Attributes]) -> Vec<FeedEntry> {
        let record = RecordId::derive(&[b"record"]);
        let read = items.iter().flat_map(|item| read(record, item).unwrap());
        read.collect()
    }

    #[test]
    fn three_usual_rows_and_the_balance_are_one_write_unit() {
        let account = AccountId::derive(&[b"account"]);
        let entries = [
            entry(123_456, account, balance(95_015_282)),
            entry(123_457, account, rows(account, 3)),
        ];
        let items = write(&entries).unwrap();
        assert_eq!(items.len(), 1);
        assert!(size(&items[0]) <= 1024, "{} bytes", size(&items[0]));
        assert_eq!(read_all(&items), entries);
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
                    let change = if count == 0 { balance(i64::from(count)) } else { rows(account, count) };
                    entry(seq, account, change)
                })
                .collect();
            let items = write(&entries).unwrap();
            for item in items.iter().filter(|item| item.contains_key(COUNT)) {
                prop_assert!(size(item) <= MAX_SHARED_BYTES);
            }
            prop_assert_eq!(read_all(&items), entries);
        }
    }

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_the_feed(a in 0..=MAX_SEQ, b in 0..=MAX_SEQ) {
            prop_assert_eq!(sort_key(Seq(a)).cmp(&sort_key(Seq(b))), a.cmp(&b));
            prop_assert_eq!(sort_key(Seq(a)).strip_prefix(PREFIX).unwrap().parse(), Ok(a));
        }
    }
}
