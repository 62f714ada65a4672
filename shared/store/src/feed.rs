//! The feed: committed diffs, in order. A commit moves the head and adds the entries in one
//! transaction, so that the numbers of a feed are dense and no entry is without its head.

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use okra_core::{
    consent::ConsentClock,
    decide::Mark,
    feed::{FeedEntry, MAX_ENTRIES_PER_COMMIT, Stream},
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

const KIND: &str = "feed entry";
const PREFIX: &str = "FED#";

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

fn key(record: RecordId, seq: Seq) -> Key {
    Key::new(records::partition(record), sort_key(seq))
}

fn sort_key(seq: Seq) -> String {
    format!("{PREFIX}{:012}", seq.0)
}

pub(crate) fn write(entry: &FeedEntry) -> Result<Attributes, StoreError> {
    Ok(Draft::new(key(entry.record, entry.seq))
        .maybe("a", entry.account.map(|account| s(account.to_string())))
        .with("t", millis(entry.at))
        .with(JSON, json(KIND, &entry.change)?)
        .done())
}

fn read(record: RecordId, item: &Attributes) -> Result<FeedEntry, StoreError> {
    let reader = Reader::new(KIND, item);
    let seq = reader.after(PREFIX)?.parse();
    Ok(FeedEntry {
        record,
        seq: Seq(seq.map_err(|_| reader.corrupt("sk"))?),
        at: reader.millis("t")?,
        account: reader.optional("a", Reader::parse)?,
        change: reader.json(JSON)?,
    })
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
        let items = commit
            .entries
            .iter()
            .map(write)
            .collect::<Result<Vec<_>, _>>()?;
        let bytes = items.iter().map(size).sum();
        if items.len() > MAX_ENTRIES_PER_COMMIT
            || bytes > MAX_COMMIT_BYTES
            || items.iter().any(|item| size(item) > MAX_ENTRY_BYTES)
        {
            return Err(CommitError::TooLarge {
                entries: items.len(),
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
        let take = Take::First(limit.min(MAX_FEED_PAGE));
        let items = self.query(range, take, consistency).await?;
        items.iter().map(|item| read(record, item)).collect()
    }

    /// One entry of a feed; read eventually, and strongly where it was not found so.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn entry(&self, record: RecordId, seq: Seq) -> Result<Option<FeedEntry>, StoreError> {
        for consistency in [Consistency::Eventual, Consistency::Strong] {
            if let Some(item) = self.get(key(record, seq), consistency).await? {
                return read(record, &item).map(Some);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use okra_core::{
        feed::{Change, Pull, TransactionsDiff},
        ids::{AccountId, Day, TransactionId},
        model::{BookingStatus, Direction, Transaction, TransactionFacts},
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

    #[test]
    fn an_entry_of_three_usual_rows_is_one_write_unit() {
        let account = AccountId::derive(&[b"account"]);
        let entry = FeedEntry {
            record: RecordId::derive(&[b"record"]),
            seq: Seq(123_456),
            at: Timestamp::from_second(1_774_828_805).unwrap(),
            account: Some(account),
            change: Change::Transactions(TransactionsDiff {
                pull: Pull::Periodic,
                added: (0..3).map(|n| usual_row(account, n)).collect(),
                modified: vec![],
                removed: vec![],
                previous: std::collections::BTreeMap::new(),
            }),
        };
        let item = write(&entry).unwrap();
        assert!(size(&item) <= 1024, "{} bytes", size(&item));
        assert_eq!(read(entry.record, &item).unwrap(), entry);
    }

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_the_feed(a in 0..=MAX_SEQ, b in 0..=MAX_SEQ) {
            prop_assert_eq!(sort_key(Seq(a)).cmp(&sort_key(Seq(b))), a.cmp(&b));
            prop_assert_eq!(sort_key(Seq(a)).strip_prefix(PREFIX).unwrap().parse(), Ok(a));
        }
    }
}
