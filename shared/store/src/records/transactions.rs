//! Transactions. A row's key is made of its account and its id, and both are read from the key: the
//! day in it is the one the row was first seen under, so that rows never move.

use data_encoding::HEXLOWER;
use jiff::{Timestamp, civil::Date};
use okra_core::model::{
    ids::{ACCOUNT_TAG_BYTES, AccountId, AccountTag, EpochDay, ID_BYTES, Seq, TransactionId},
    snapshot::{Transaction, TransactionFacts},
};

use crate::{
    Consistency, Store, StoreError,
    table::{
        call::{KeyRange, ReadLimit, SortOrder},
        expression::{Condition, ItemUpdate},
        item::{
            Attributes, ItemReader, JSON_ATTRIBUTE, Key, TTL_ATTRIBUTE, expiry_value, json_value,
            millis_value, number_value,
        },
    },
};

/// Days that a transaction's date may be from the day it was first seen under.
pub const DATE_SLACK_DAYS: u16 = 31;

/// Rows that are read at once at most.
pub const MAX_TRANSACTIONS_PER_READ: usize = 20_000;

/// Seconds that a removed transaction leaves a trace.
const TOMBSTONE_RETENTION_S: i64 = 15 * 24 * 3600;

const KIND: &str = "transaction";

/// Bytes of an id after the tag (and, for a transaction, the day).
const HASH_BYTES: usize = ID_BYTES - ACCOUNT_TAG_BYTES - 2;

/// A transaction as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTransaction {
    /// Its account; that leads to record, app, customer and bank.
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

/// The partition of an account's transactions.
pub(crate) fn transactions_partition(tag: AccountTag) -> String {
    format!("ACC#{}", HEXLOWER.encode(&tag))
}

fn transaction_key(account: AccountId, id: TransactionId) -> Key {
    let rest = HEXLOWER.encode(&account.as_bytes()[ACCOUNT_TAG_BYTES..]);
    Key::new(
        transactions_partition(account.tag()),
        format!("{}{rest}", sort_key_prefix(id)),
    )
}

/// What the sort keys of an id begin with, in whichever account.
fn sort_key_prefix(id: TransactionId) -> String {
    let hash = HEXLOWER.encode(&id.as_bytes()[ACCOUNT_TAG_BYTES + 2..]);
    format!("T#{}#{hash}#", format_day(id.day()))
}

fn format_day(day: EpochDay) -> String {
    format!("{:05}", day.0)
}

fn parse_transaction_key(pk: &str, sk: &str) -> Option<(AccountId, TransactionId)> {
    let decode = |text: &str| HEXLOWER.decode(text.as_bytes()).ok();
    let tag = decode(pk.strip_prefix("ACC#")?)?;
    let mut parts = sk.strip_prefix("T#")?.split('#');
    let day: u16 = parts.next()?.parse().ok()?;
    let hash = decode(parts.next()?).filter(|hash| hash.len() == HASH_BYTES)?;
    let rest = decode(parts.next()?)?;
    let account = [tag.as_slice(), &rest].concat().try_into().ok()?;
    let id = [tag.as_slice(), &day.to_be_bytes(), &hash]
        .concat()
        .try_into()
        .ok()?;
    Some((
        AccountId::from_bytes(account),
        TransactionId::from_bytes(id),
    ))
}

/// `None` for a tombstone.
fn read_transaction(item: &Attributes) -> Result<Option<StoredTransaction>, StoreError> {
    let reader = ItemReader::new(KIND, item);
    if !reader.has_attribute(JSON_ATTRIBUTE) {
        return Ok(None);
    }
    let (account, id) = parse_transaction_key(reader.read_text("pk")?, reader.read_text("sk")?)
        .ok_or_else(|| reader.corrupt_error("sk"))?;
    Ok(Some(StoredTransaction {
        account,
        transaction: Transaction {
            id,
            facts: reader.read_json(JSON_ATTRIBUTE)?,
        },
        written_by_seq: Seq(reader.read_number("q")?),
        created_at: reader.read_millis("c")?,
        last_updated: reader.read_millis("u")?,
    }))
}

/// The row as a feed entry has it, taken where the stored one is older.
pub(crate) fn transaction_update(
    account: AccountId,
    id: TransactionId,
    seq: Seq,
    at: Timestamp,
    facts: &TransactionFacts,
) -> Result<ItemUpdate, StoreError> {
    Ok(ItemUpdate::new(transaction_key(account, id))
        .set_attribute(JSON_ATTRIBUTE, json_value(KIND, facts)?)
        .set_attribute("q", number_value(seq))
        .set_attribute("u", millis_value(at))
        .set_if_absent("c", millis_value(at))
        .remove_attribute(TTL_ATTRIBUTE)
        .with_condition(Condition::AbsentOrBelow("q", number_value(seq))))
}

/// A tombstone where the stored row is older.
pub(crate) fn tombstone_update(
    account: AccountId,
    id: TransactionId,
    seq: Seq,
    at: Timestamp,
) -> ItemUpdate {
    ItemUpdate::new(transaction_key(account, id))
        .set_attribute("q", number_value(seq))
        .set_attribute(TTL_ATTRIBUTE, expiry_value(at, TOMBSTONE_RETENTION_S))
        .remove_attribute(JSON_ATTRIBUTE)
        .remove_attribute("u")
        .remove_attribute("c")
        .with_condition(Condition::AbsentOrBelow("q", number_value(seq)))
}

/// Where a reading of the newest transactions of an account goes on: at the sort key of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OlderCursor(String);

/// Some of the newest transactions of an account.
#[derive(Clone, Debug)]
pub struct NewestTransactions {
    /// They, in no order.
    pub transactions: Vec<StoredTransaction>,
    /// Where to go on, and a day after which none of those not read is; `None` where all are read.
    pub next_page: Option<(OlderCursor, EpochDay)>,
}

impl Store {
    /// At most `limit` transactions of an account, of those first seen under the last days, from `older` on;
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
        let mut range = KeyRange::with_prefix(transactions_partition(account.tag()), "T#");
        if let Some(OlderCursor(sk)) = cursor {
            range = range.up_to_key(sk);
        }
        let take = ReadLimit::First(limit.saturating_add(1));
        let items = self
            .query_ordered(range, take, Consistency::Eventual, SortOrder::Descending)
            .await?;
        let mut newest = NewestTransactions {
            transactions: Vec::with_capacity(items.len()),
            next_page: None,
        };
        for (nth, item) in items.iter().enumerate() {
            if nth == limit {
                let reader = ItemReader::new(KIND, item);
                let sk = reader.read_text("sk")?;
                let (_, id) = parse_transaction_key(reader.read_text("pk")?, sk)
                    .ok_or_else(|| reader.corrupt_error("sk"))?;
                let latest = EpochDay(id.day().0.saturating_add(DATE_SLACK_DAYS));
                newest.next_page = Some((OlderCursor(sk.to_owned()), latest));
                break;
            }
            newest
                .transactions
                .extend(read_transaction(item)?.filter(|row| row.account == account));
        }
        Ok(newest)
    }

    /// The transactions of an account with dates from `from` to `to`, both inclusive, in the order of
    /// the days they were first seen under. Finds rows whose date is within [`SLACK_DAYS`] of that
    /// day.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_ROWS`] rows.
    pub async fn list_transactions(
        &self,
        account: AccountId,
        from: Date,
        to: Option<Date>,
        consistency: Consistency,
    ) -> Result<Vec<StoredTransaction>, StoreError> {
        let first = EpochDay::from_date(from).0.saturating_sub(DATE_SLACK_DAYS);
        let last = to.map_or(u16::MAX, |to| {
            EpochDay::from_date(to).0.saturating_add(DATE_SLACK_DAYS)
        });
        let range = KeyRange::between_keys(
            transactions_partition(account.tag()),
            format!("T#{}", format_day(EpochDay(first))),
            format!("T#{}~", format_day(EpochDay(last))),
        );
        let take = ReadLimit::All {
            bound: MAX_TRANSACTIONS_PER_READ,
            what: "transactions",
        };
        let mut rows = Vec::new();
        for item in self.query_range(range, take, consistency).await? {
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
        let range = KeyRange::with_prefix(
            transactions_partition(id.account_tag()),
            &sort_key_prefix(id),
        );
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
        let range = KeyRange::with_prefix(
            transactions_partition(id.account_tag()),
            &sort_key_prefix(id),
        );
        let items = self
            .query_range(range, ReadLimit::First(1), Consistency::Eventual)
            .await?;
        let Some(item) = items.first() else {
            return Ok(None);
        };
        let reader = ItemReader::new(KIND, item);
        let key = parse_transaction_key(reader.read_text("pk")?, reader.read_text("sk")?);
        let (account, _) = key.ok_or_else(|| reader.corrupt_error("sk"))?;
        Ok(Some((account, Seq(reader.read_number("q")?))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_holds_account_and_id(account: [u8; ID_BYTES], day: u16, text: String) {
            let account = AccountId::from_bytes(account);
            let id = TransactionId::new(account, EpochDay(day), &[text.as_bytes()]);
            let key = transaction_key(account, id);
            prop_assert_eq!(parse_transaction_key(&key.pk, &key.sk), Some((account, id)));
        }

        #[test]
        fn keys_are_in_the_order_of_days(account: [u8; ID_BYTES], a: u16, b: u16) {
            let account = AccountId::from_bytes(account);
            let key = |day| transaction_key(account, TransactionId::new(account, EpochDay(day), &[]));
            prop_assert_eq!(key(a).pk, key(b).pk);
            prop_assert_eq!(key(a).sk.cmp(&key(b).sk), a.cmp(&b));
        }
    }
}
