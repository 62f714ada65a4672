//! Transactions. A row's key is made of its account and its id, and both are read from the key: the
//! day in it is the one the row was first seen under, so that rows never move.

use data_encoding::HEXLOWER;
use jiff::{Timestamp, civil::Date};
use okra_core::{
    ids::{ACCOUNT_TAG_BYTES, AccountId, AccountTag, Day, ID_BYTES, Seq, TransactionId},
    model::{Transaction, TransactionFacts},
};

use crate::{
    Consistency, Store, StoreError,
    call::{Direction, Range, Take},
    expression::{Update, When},
    item::{Attributes, JSON, Key, Reader, TTL, json, millis, n, ttl},
};

/// Days that a transaction's date may be from the day it was first seen under.
pub const SLACK_DAYS: u16 = 31;

/// Rows that are read at once at most.
pub const MAX_ROWS: usize = 20_000;

/// Seconds that a removed transaction leaves a trace.
const TOMBSTONE_KEPT_S: i64 = 15 * 24 * 3600;

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
    pub seq: Seq,
    /// When it was first committed.
    pub created_at: Timestamp,
    /// When it was last committed.
    pub last_updated: Timestamp,
}

/// The partition of an account's transactions.
pub(crate) fn partition(tag: AccountTag) -> String {
    format!("ACC#{}", HEXLOWER.encode(&tag))
}

fn key(account: AccountId, id: TransactionId) -> Key {
    let rest = HEXLOWER.encode(&account.as_bytes()[ACCOUNT_TAG_BYTES..]);
    Key::new(partition(account.tag()), format!("{}{rest}", prefix(id)))
}

/// What the sort keys of an id begin with, in whichever account.
fn prefix(id: TransactionId) -> String {
    let hash = HEXLOWER.encode(&id.as_bytes()[ACCOUNT_TAG_BYTES + 2..]);
    format!("T#{}#{hash}#", day_text(id.day()))
}

fn day_text(day: Day) -> String {
    format!("{:05}", day.0)
}

fn parse_key(pk: &str, sk: &str) -> Option<(AccountId, TransactionId)> {
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
fn read(item: &Attributes) -> Result<Option<StoredTransaction>, StoreError> {
    let reader = Reader::new(KIND, item);
    if !reader.has(JSON) {
        return Ok(None);
    }
    let (account, id) =
        parse_key(reader.text("pk")?, reader.text("sk")?).ok_or_else(|| reader.corrupt("sk"))?;
    Ok(Some(StoredTransaction {
        account,
        transaction: Transaction {
            id,
            facts: reader.json(JSON)?,
        },
        seq: Seq(reader.number("q")?),
        created_at: reader.millis("c")?,
        last_updated: reader.millis("u")?,
    }))
}

/// The row as a feed entry has it, taken where the stored one is older.
pub(crate) fn stored(
    account: AccountId,
    id: TransactionId,
    seq: Seq,
    at: Timestamp,
    facts: &TransactionFacts,
) -> Result<Update, StoreError> {
    Ok(Update::new(key(account, id))
        .set(JSON, json(KIND, facts)?)
        .set("q", n(seq))
        .set("u", millis(at))
        .set_once("c", millis(at))
        .remove(TTL)
        .when(When::AbsentOrBelow("q", n(seq))))
}

/// A tombstone where the stored row is older.
pub(crate) fn removed(account: AccountId, id: TransactionId, seq: Seq, at: Timestamp) -> Update {
    Update::new(key(account, id))
        .set("q", n(seq))
        .set(TTL, ttl(at, TOMBSTONE_KEPT_S))
        .remove(JSON)
        .remove("u")
        .remove("c")
        .when(When::AbsentOrBelow("q", n(seq)))
}

/// Where a reading of the newest transactions of an account goes on: at the sort key of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Older(String);

/// Some of the newest transactions of an account.
#[derive(Clone, Debug)]
pub struct Newest {
    /// They, in no order.
    pub rows: Vec<StoredTransaction>,
    /// Where to go on, and a day after which none of those not read is; `None` where all are read.
    pub rest: Option<(Older, Day)>,
}

impl Store {
    /// At most `limit` transactions of an account, of those first seen under the last days, from `older` on;
    /// read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn newest_transactions(
        &self,
        account: AccountId,
        older: Option<&Older>,
        limit: usize,
    ) -> Result<Newest, StoreError> {
        let mut range = Range::prefix(partition(account.tag()), "T#");
        if let Some(Older(sk)) = older {
            range = range.until(sk);
        }
        let take = Take::First(limit.saturating_add(1));
        let items = self
            .query_to(range, take, Consistency::Eventual, Direction::Backward)
            .await?;
        let mut newest = Newest {
            rows: Vec::with_capacity(items.len()),
            rest: None,
        };
        for (nth, item) in items.iter().enumerate() {
            if nth == limit {
                let reader = Reader::new(KIND, item);
                let sk = reader.text("sk")?;
                let (_, id) =
                    parse_key(reader.text("pk")?, sk).ok_or_else(|| reader.corrupt("sk"))?;
                let latest = Day(id.day().0.saturating_add(SLACK_DAYS));
                newest.rest = Some((Older(sk.to_owned()), latest));
                break;
            }
            newest
                .rows
                .extend(read(item)?.filter(|row| row.account == account));
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
    pub async fn transactions(
        &self,
        account: AccountId,
        from: Date,
        to: Option<Date>,
        consistency: Consistency,
    ) -> Result<Vec<StoredTransaction>, StoreError> {
        let first = Day::of(from).0.saturating_sub(SLACK_DAYS);
        let last = to.map_or(u16::MAX, |to| Day::of(to).0.saturating_add(SLACK_DAYS));
        let range = Range::between(
            partition(account.tag()),
            format!("T#{}", day_text(Day(first))),
            format!("T#{}~", day_text(Day(last))),
        );
        let take = Take::All {
            bound: MAX_ROWS,
            what: "transactions",
        };
        let mut rows = Vec::new();
        for item in self.query(range, take, consistency).await? {
            let Some(row) = read(&item)? else { continue };
            let date = row.transaction.facts.date();
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
    pub async fn transaction(
        &self,
        id: TransactionId,
    ) -> Result<Option<StoredTransaction>, StoreError> {
        // Accounts that share a tag could share an id; one account in 10^5 shares its tag at all.
        const MAX_NAMESAKES: usize = 4;
        let range = Range::prefix(partition(id.account_tag()), &prefix(id));
        let items = self
            .query(range, Take::First(MAX_NAMESAKES), Consistency::Eventual)
            .await?;
        for item in &items {
            if let Some(row) = read(item)? {
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
    pub async fn last_written(
        &self,
        id: TransactionId,
    ) -> Result<Option<(AccountId, Seq)>, StoreError> {
        let range = Range::prefix(partition(id.account_tag()), &prefix(id));
        let items = self
            .query(range, Take::First(1), Consistency::Eventual)
            .await?;
        let Some(item) = items.first() else {
            return Ok(None);
        };
        let reader = Reader::new(KIND, item);
        let key = parse_key(reader.text("pk")?, reader.text("sk")?);
        let (account, _) = key.ok_or_else(|| reader.corrupt("sk"))?;
        Ok(Some((account, Seq(reader.number("q")?))))
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
            let id = TransactionId::new(account, Day(day), &[text.as_bytes()]);
            let key = key(account, id);
            prop_assert_eq!(parse_key(&key.pk, &key.sk), Some((account, id)));
        }

        #[test]
        fn keys_are_in_the_order_of_days(account: [u8; ID_BYTES], a: u16, b: u16) {
            let account = AccountId::from_bytes(account);
            let key = |day| key(account, TransactionId::new(account, Day(day), &[]));
            prop_assert_eq!(key(a).pk, key(b).pk);
            prop_assert_eq!(key(a).sk.cmp(&key(b).sk), a.cmp(&b));
        }
    }
}
