//! The feed of a record: committed changes, in the order of their seqs, which are dense. The feed is the truth; balances
//! and transactions are a projection of it.
//!
//! Entries of one commit and one account share an item as long as it stays within a write unit: a
//! transaction pays two units for each item. The item's key has the seq of its last entry, so that
//! what is read from a seq on begins with the item that holds it.

use okra_core::{
    model::ids::{RecordId, Seq},
    sync::feed::{Change, FeedEntry},
};

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    table::{
        attributes::{
            Attributes, JSON_ATTRIBUTE, SK, item_size, json_value, millis_value, number_value,
            text_value,
        },
        item::{ItemBuilder, ItemReader},
        key_range::{KeyRange, ReadLimit},
    },
};

/// Feed entries that are read at once at most.
pub const MAX_FEED_PAGE: usize = 1000;

/// Bytes of an item that several entries share, at most: one write unit.
const MAX_SHARED_ITEM_BYTES: usize = 1024;

const KIND: &str = "feed entry";

/// How many entries an item holds; absent where it is one.
const COUNT_ATTRIBUTE: &str = "c";
const ACCOUNT_ATTRIBUTE: &str = "a";
const COMMITTED_ATTRIBUTE: &str = "t";

/// The items of the entries of one commit: consecutive entries of one account share one while it is small.
pub(crate) fn write_entries(entries: &[FeedEntry]) -> Result<Vec<Attributes>, StoreError> {
    let mut items: Vec<Attributes> = Vec::with_capacity(entries.len());
    // The last item holds the entries from this one on.
    let mut first = 0;
    for (at, entry) in entries.iter().enumerate() {
        let may_share = entries[first..at].last().is_some_and(|before| {
            before.account == entry.account && before.committed_at == entry.committed_at
        });
        if may_share {
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

/// The item of entries of one account and commit; `last` is the last of them.
fn build_feed_item(entries: &[FeedEntry], last: &FeedEntry) -> Result<Attributes, StoreError> {
    let changes: Vec<&Change> = entries.iter().map(|entry| &entry.change).collect();
    let (count, changes) = match changes.as_slice() {
        [one] => (None, json_value(KIND, one)?),
        several => (
            Some(number_value(several.len())),
            json_value(KIND, &several)?,
        ),
    };
    let key = Key::FeedEntry {
        record: last.record,
        last_seq: last.seq,
    };
    Ok(ItemBuilder::new(key)
        .with_optional(ACCOUNT_ATTRIBUTE, last.account.map(text_value))
        .with_optional(COUNT_ATTRIBUTE, count)
        .with_attribute(COMMITTED_ATTRIBUTE, millis_value(last.committed_at))
        .with_attribute(JSON_ATTRIBUTE, changes)
        .build())
}

/// The entries of an item, in order.
fn read_entries(record: RecordId, item: &Attributes) -> Result<Vec<FeedEntry>, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let last_seq: u64 = reader.parse_sort_key_after(key::FEED_PREFIX)?;
    let changes: Vec<Change> = if reader.has_attribute(COUNT_ATTRIBUTE) {
        reader.read_json(JSON_ATTRIBUTE)?
    } else {
        vec![reader.read_json(JSON_ATTRIBUTE)?]
    };
    let committed_at = reader.read_millis(COMMITTED_ATTRIBUTE)?;
    let account = reader.read_optional(ACCOUNT_ATTRIBUTE, ItemReader::read_parsed)?;
    let seq_before = last_seq
        .checked_sub(changes.len() as u64)
        .ok_or_else(|| reader.corrupt_error(SK))?;
    Ok((seq_before + 1..)
        .zip(changes)
        .map(|(seq, change)| FeedEntry {
            record,
            seq: Seq(seq),
            committed_at,
            account,
            change,
        })
        .collect())
}

impl Store {
    /// The entries of a record's feed after `after`, in order; at most `limit` and [`MAX_FEED_PAGE`].
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
        if after.0 >= key::MAX_KEY_SEQ {
            return Ok(Vec::new());
        }
        let range = KeyRange::between_keys(
            key::record_partition(record),
            key::feed_sort_key(after.next()),
            key::feed_sort_key(Seq(key::MAX_KEY_SEQ)),
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
        let Some(before) = seq.0.checked_sub(1).map(Seq) else {
            return Ok(None);
        };
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
    use jiff::Timestamp;
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
}
