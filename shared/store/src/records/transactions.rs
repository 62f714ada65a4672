//! Transactions. A row's key is made of its account and its id, and both are read from the key: the
//! day in it is the one that the row was first seen under, so that rows never move. What was removed leaves a tombstone
//! for a while, which says which feed entry removed it.

use jiff::{Timestamp, civil::Date};
use okra_core::{
    model::{
        ids::{AccountId, EpochDay, Seq, TransactionId},
        snapshot::{Transaction, TransactionFacts},
    },
    sync::feed::FeedEntry,
};

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    table::{
        attributes::{
            Attributes, HIGHEST_SORT_CHAR, JSON_ATTRIBUTE, SK, TTL_ATTRIBUTE, expiry_value,
            json_value, millis_value, number_value,
        },
        expression::{Condition, ItemUpdate},
        item::ItemReader,
        key_range::{KeyRange, ReadLimit, SortOrder},
    },
};

/// Days that a transaction's date may be from the day it was first seen under.
pub const DATE_SLACK_DAYS: u16 = 31;

/// Transactions of an account that are read at once at most.
pub const MAX_TRANSACTIONS_PER_READ: usize = 20_000;

/// Seconds that the tombstone of a removed transaction is stored: 15 days.
const TOMBSTONE_RETENTION_S: i64 = 15 * 24 * 3600;

const KIND: &str = "transaction";

const SEQ_ATTRIBUTE: &str = "q";
const CREATED_ATTRIBUTE: &str = "c";
const UPDATED_ATTRIBUTE: &str = "u";

/// A transaction as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTransaction {
    /// Its account, which leads to record, app, customer and bank.
    pub account: AccountId,
    /// The transaction.
    pub transaction: Transaction,
    /// The feed entry that wrote it last.
    pub written_by_seq: Seq,
    /// When it was first committed.
    pub created_at: Timestamp,
    /// When it was last committed.
    pub last_updated: Timestamp,
}

/// `None` for a tombstone.
fn read_transaction(item: &Attributes) -> Result<Option<StoredTransaction>, StoreError> {
    let reader = ItemReader::new(KIND, item);
    if !reader.has_attribute(JSON_ATTRIBUTE) {
        return Ok(None);
    }
    let (account, id) = reader.parse_key(key::parse_transaction_key)?;
    Ok(Some(StoredTransaction {
        account,
        transaction: Transaction {
            id,
            facts: reader.read_json(JSON_ATTRIBUTE)?,
        },
        written_by_seq: Seq(reader.read_number(SEQ_ATTRIBUTE)?),
        created_at: reader.read_millis(CREATED_ATTRIBUTE)?,
        last_updated: reader.read_millis(UPDATED_ATTRIBUTE)?,
    }))
}

/// The row as a feed entry has it, written where the stored one is older. Without facts, which the entry removed, it
/// becomes a tombstone.
pub(crate) fn transaction_update(
    account: AccountId,
    transaction: TransactionId,
    entry: &FeedEntry,
    facts: Option<&TransactionFacts>,
) -> Result<ItemUpdate, StoreError> {
    let committed_at = millis_value(entry.committed_at);
    let key = Key::Transaction {
        account,
        transaction,
    };
    let update = ItemUpdate::new(key)
        .set_attribute(SEQ_ATTRIBUTE, number_value(entry.seq))
        .with_condition(Condition::AbsentOrBelow(
            SEQ_ATTRIBUTE,
            number_value(entry.seq),
        ));
    Ok(match facts {
        Some(facts) => update
            .set_attribute(JSON_ATTRIBUTE, json_value(KIND, facts)?)
            .set_attribute(UPDATED_ATTRIBUTE, committed_at.clone())
            .set_if_absent(CREATED_ATTRIBUTE, committed_at)
            .remove_attribute(TTL_ATTRIBUTE),
        None => update
            .set_attribute(
                TTL_ATTRIBUTE,
                expiry_value(entry.committed_at, TOMBSTONE_RETENTION_S),
            )
            .remove_attribute(JSON_ATTRIBUTE)
            .remove_attribute(UPDATED_ATTRIBUTE)
            .remove_attribute(CREATED_ATTRIBUTE),
    })
}

/// Where reading the newest transactions of an account goes on: at the sort key of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OlderCursor(String);

/// Some of the newest transactions of an account.
#[derive(Clone, Debug)]
pub struct NewestTransactions {
    /// The transactions, in no order.
    pub transactions: Vec<StoredTransaction>,
    /// Where to go on, and the day after which none of the remaining transactions is; `None` where all are read.
    pub next_page: Option<(OlderCursor, EpochDay)>,
}

/// The rows of an id: one, but where accounts share a tag.
fn transaction_range(id: TransactionId) -> KeyRange {
    KeyRange::with_prefix(
        key::transactions_partition(id.account_tag()),
        &key::transaction_sort_prefix(id),
    )
}

impl Store {
    /// At most `limit` transactions of an account, those first seen under the latest days first, from `cursor` on;
    /// read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_newest_transactions(
        &self,
        account: AccountId,
        cursor: Option<&OlderCursor>,
        limit: usize,
    ) -> Result<NewestTransactions, StoreError> {
        let mut range = KeyRange::with_prefix(
            key::transactions_partition(account.tag()),
            key::TRANSACTION_PREFIX,
        );
        if let Some(OlderCursor(sk)) = cursor {
            range = range.up_to_key(sk.as_str());
        }
        // One more shows where the next page begins.
        let read_limit = ReadLimit::First(limit + 1);
        let items = self
            .query_ordered(
                range,
                read_limit,
                Consistency::Eventual,
                SortOrder::Descending,
            )
            .await?;
        let mut newest = NewestTransactions {
            transactions: Vec::with_capacity(items.len()),
            next_page: None,
        };
        for (nth, item) in items.iter().enumerate() {
            if nth == limit {
                let reader = ItemReader::new(KIND, item);
                let (_, id) = reader.parse_key(key::parse_transaction_key)?;
                // The last days that can be stored have no day after them.
                let latest = EpochDay(id.day().0.saturating_add(DATE_SLACK_DAYS));
                let sk = reader.read_text(SK)?.to_owned();
                newest.next_page = Some((OlderCursor(sk), latest));
                break;
            }
            newest
                .transactions
                .extend(read_transaction(item)?.filter(|row| row.account == account));
        }
        Ok(newest)
    }

    /// The transactions of an account with dates from `from` to `to`, both inclusive, in the order of
    /// the days they were first seen under. Finds rows whose date is within [`DATE_SLACK_DAYS`] of that
    /// day.
    ///
    /// # Errors
    ///
    /// [`StoreError::BoundExceeded`] for more than [`MAX_TRANSACTIONS_PER_READ`].
    pub async fn list_transactions(
        &self,
        account: AccountId,
        from: Date,
        to: Option<Date>,
        consistency: Consistency,
    ) -> Result<Vec<StoredTransaction>, StoreError> {
        // Days before 1970 and after 2149 cannot be stored: the range ends there.
        let first = EpochDay::from_date(from).0.saturating_sub(DATE_SLACK_DAYS);
        let last = to.map_or(u16::MAX, |to| {
            EpochDay::from_date(to).0.saturating_add(DATE_SLACK_DAYS)
        });
        let range = KeyRange::between_keys(
            key::transactions_partition(account.tag()),
            key::transaction_day_prefix(EpochDay(first)),
            format!(
                "{}{HIGHEST_SORT_CHAR}",
                key::transaction_day_prefix(EpochDay(last))
            ),
        );
        let limit = ReadLimit::All {
            bound: MAX_TRANSACTIONS_PER_READ,
            what: "transactions",
        };
        let mut rows = Vec::new();
        for item in self.query_range(range, limit, consistency).await? {
            let Some(row) = read_transaction(&item)? else {
                continue;
            };
            let date = row.transaction.facts.booking_date();
            if row.account == account && date >= from && to.is_none_or(|to| date <= to) {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// The transaction of an id; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_transaction(
        &self,
        id: TransactionId,
    ) -> Result<Option<StoredTransaction>, StoreError> {
        // Accounts that share a tag could share an id; one account in 10^5 shares its tag at all.
        const MAX_NAMESAKES: usize = 4;
        let range = transaction_range(id);
        let items = self
            .query_range(
                range,
                ReadLimit::First(MAX_NAMESAKES),
                Consistency::Eventual,
            )
            .await?;
        for item in &items {
            if let Some(row) = read_transaction(item)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// The account of a transaction and the feed entry that wrote it last; also of one that was removed,
    /// for 15 days. Read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_last_write(
        &self,
        id: TransactionId,
    ) -> Result<Option<(AccountId, Seq)>, StoreError> {
        let range = transaction_range(id);
        let items = self
            .query_range(range, ReadLimit::First(1), Consistency::Eventual)
            .await?;
        let Some(item) = items.first() else {
            return Ok(None);
        };
        let reader = ItemReader::new(KIND, item);
        let (account, _) = reader.parse_key(key::parse_transaction_key)?;
        Ok(Some((account, Seq(reader.read_number(SEQ_ATTRIBUTE)?))))
    }
}
