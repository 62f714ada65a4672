//! Records: their heads, and how they come into being.

use crate::{
    Account, Consent, Consistency, IntervalChanges, MAX_ACCOUNTS_PER_RECORD, Store, StoreError,
    records::{
        accounts, consents, customers, feed,
        watermarks::{self, STATE_SEQ_ATTRIBUTE},
    },
    schedule::{due_entries, interval_counts},
    table::{
        call::TransactWriteOutcome,
        expression::{Condition, ItemUpdate},
        item::{
            Attributes, ItemBuilder, ItemReader, Key, json_value, millis_value, number_value,
            string_value,
        },
    },
    tenants::apps,
};
use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{AppId, BankId, CustomerId, RecordId, Seq},
        interval::{DueKey, Interval},
        snapshot::{ByProduct, Product},
    },
    schedule::plan::DueEntry,
    sync::{decide::Watermark, feed::FeedEntry, state::RecordStatus},
};

/// Bytes of a head's options and meta as JSON at most, together: a head is written with each change, and one that is
/// larger than 1 KB costs a write unit more.
pub const MAX_OPTIONS_BYTES: usize = 512;

/// Records of one customer that are listed at most.
pub const MAX_RECORDS_PER_CUSTOMER: usize = 100;

const KIND: &str = "head";
const HEAD_SORT_KEY: &str = "HEAD";
const LINK_PREFIX: &str = "REC#";
/// How many transactions there are.
pub(crate) const TRANSACTION_COUNT_ATTRIBUTE: &str = "n";

/// What is committed of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// The record.
    pub record: RecordId,
    /// Its app.
    pub app: AppId,
    /// Its customer.
    pub customer: CustomerId,
    /// Its bank.
    pub bank: BankId,
    /// The number of its last feed entry.
    pub seq: Seq,
    /// What is committed of each product.
    pub watermarks: ByProduct<Watermark>,
    /// The number of its last feed entry that is a change of state.
    pub state_seq: Seq,
    /// The interval whose due entry holds each product.
    pub schedule: ByProduct<Interval>,
    /// Whether it can be refreshed.
    pub status: RecordStatus,
    /// True after the first commit that had a full answer for its transactions.
    pub first_fetch_done: bool,
    /// How many transactions its accounts have, all together; `None` for a record that was linked before
    /// they were counted.
    pub transaction_count: Option<u64>,
    /// A JSON object that the app gave when linking, echoed in webhooks; at most
    /// [`MAX_OPTIONS_BYTES`].
    pub options: serde_json::Value,
    /// A JSON object that the app gave besides, echoed in webhooks and not searched; empty where it gave
    /// none.
    pub meta: serde_json::Map<String, serde_json::Value>,
    /// Months of history that were asked for; Okra's `limit`.
    pub backfill_months: u8,
    /// When it was linked.
    pub created_at: Timestamp,
    /// When the last commit was made.
    pub last_changed_at: Timestamp,
}

impl RecordHead {
    /// The due entries' keys of the record, each once.
    pub fn due_keys(&self) -> Vec<DueKey> {
        let mut intervals: Vec<Interval> = self.schedule.iter().map(|(_, &of)| of).collect();
        intervals.dedup();
        intervals
            .into_iter()
            .map(|interval| self.due_key(interval))
            .collect()
    }

    /// The key of the due entry that holds how far changes of state were dispatched: that of the
    /// shortest interval, which is looked at first after a crash.
    pub fn state_due_key(&self) -> Option<DueKey> {
        let interval = state_interval(&self.schedule)?;
        Some(self.due_key(interval))
    }

    /// True once all that the record is kept for was read: a record without transactions has no first pull
    /// of them.
    pub fn is_first_fetched(&self) -> bool {
        let read = |product| {
            let mark = self.watermarks.get(product);
            mark.is_some_and(|mark| mark.digest.is_some())
        };
        self.first_fetch_done || (self.schedule.transactions.is_none() && read(Product::Balance))
    }

    /// The key of the record's due entry on an interval.
    pub const fn due_key(&self, interval: Interval) -> DueKey {
        DueKey {
            interval,
            bank: self.bank,
            record: self.record,
        }
    }
}

/// The interval whose due entry holds the state stream's watermark.
pub(crate) fn state_interval(schedule: &ByProduct<Interval>) -> Option<Interval> {
    schedule.iter().map(|(_, interval)| *interval).min()
}

/// A part of a list, and where the next part begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<T, C> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask for the next part with; `None` at the end.
    pub next_cursor: Option<C>,
}

/// Everything that a newly linked record has.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// Its head.
    pub head: RecordHead,
    /// Its consent.
    pub consent: Consent,
    /// Its accounts, [`MAX_ACCOUNTS_PER_RECORD`] at most.
    pub accounts: Vec<Account>,
    /// Its due entries, one for each interval of the head's schedule.
    pub due_entries: Vec<DueEntry>,
    /// The first entries of its feed, which tell that it was linked. The head's numbers are theirs.
    pub feed_entries: Vec<FeedEntry>,
}

/// The attribute of the interval whose due entry holds a product.
pub(crate) const fn interval_attribute(product: Product) -> &'static str {
    match product {
        Product::Balance => "bi",
        Product::Transactions => "ti",
    }
}

pub(crate) fn record_partition(record: RecordId) -> String {
    format!("REC#{record}")
}

pub(crate) fn head_key(record: RecordId) -> Key {
    Key::new(record_partition(record), HEAD_SORT_KEY)
}

/// The links to a record: from its customer, and from its app.
pub(crate) fn record_links(head: &RecordHead) -> [Key; 2] {
    let of_customer = format!(
        "{}{}",
        customers::record_link_prefix(head.customer),
        head.record
    );
    [
        Key::new(
            customers::customer_partition(head.customer.tag()),
            of_customer,
        ),
        Key::new(
            apps::app_partition(head.app),
            format!("{LINK_PREFIX}{}", head.record),
        ),
    ]
}

fn write_head(head: &RecordHead) -> Result<Attributes, StoreError> {
    let options = json_value(KIND, &head.options)?;
    let meta = match head.meta.is_empty() {
        true => None,
        false => Some(json_value(KIND, &head.meta)?),
    };
    let bytes = |it: &aws_sdk_dynamodb::types::AttributeValue| it.as_s().map_or(0, String::len);
    if bytes(&options) + meta.as_ref().map_or(0, bytes) > MAX_OPTIONS_BYTES {
        return Err(StoreError::BoundExceeded {
            what: "bytes of options",
            bound: MAX_OPTIONS_BYTES,
        });
    }
    let draft = ItemBuilder::new(head_key(head.record))
        .with_attribute("app", string_value(head.app.to_string()))
        .with_attribute("cus", string_value(head.customer.to_string()))
        .with_attribute("ins", string_value(head.bank.to_string()))
        .with_attribute("q", number_value(head.seq))
        .with_attribute(STATE_SEQ_ATTRIBUTE, number_value(head.state_seq))
        .with_attribute("st", string_value(head.status.as_str()))
        .with_attribute(
            "fp",
            aws_sdk_dynamodb::types::AttributeValue::Bool(head.first_fetch_done),
        )
        .with_optional(
            TRANSACTION_COUNT_ATTRIBUTE,
            head.transaction_count.map(number_value),
        )
        .with_attribute("op", options)
        .with_optional("me", meta)
        .with_attribute("mo", number_value(head.backfill_months))
        .with_attribute("c", millis_value(head.created_at))
        .with_attribute("u", millis_value(head.last_changed_at));
    let draft = head
        .schedule
        .iter()
        .fold(draft, |draft, (product, interval)| {
            draft.with_attribute(interval_attribute(product), string_value(interval.as_str()))
        });
    Ok(watermarks::write_watermarks(draft, &head.watermarks).build())
}

fn read_head(item: &Attributes) -> Result<RecordHead, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let record = reader
        .read_text("pk")?
        .strip_prefix(LINK_PREFIX)
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| reader.corrupt_error("pk"))?;
    let mut schedule = ByProduct::default();
    for product in Product::ALL {
        *schedule.get_mut(product) =
            reader.read_optional(interval_attribute(product), ItemReader::read_parsed)?;
    }
    Ok(RecordHead {
        record,
        app: reader.read_parsed("app")?,
        customer: reader.read_parsed("cus")?,
        bank: reader.read_parsed("ins")?,
        seq: Seq(reader.read_number("q")?),
        watermarks: watermarks::read_watermarks(&reader)?,
        state_seq: Seq(reader.read_number(STATE_SEQ_ATTRIBUTE)?),
        schedule,
        status: RecordStatus::parse(reader.read_text("st")?)
            .ok_or_else(|| reader.corrupt_error("st"))?,
        first_fetch_done: reader.read_flag("fp")?,
        transaction_count: reader
            .read_optional(TRANSACTION_COUNT_ATTRIBUTE, ItemReader::read_number)?,
        options: reader.read_json("op")?,
        meta: reader
            .read_optional("me", ItemReader::read_json)?
            .unwrap_or_default(),
        backfill_months: reader.read_number("mo")?,
        created_at: reader.read_millis("c")?,
        last_changed_at: reader.read_millis("u")?,
    })
}

impl Store {
    /// Stores a newly linked record, all of it or nothing. Says which intervals' rules may have to
    /// be switched on for it.
    ///
    /// # Errors
    ///
    /// [`StoreError::AlreadyExists`] where the record or one of its accounts does;
    /// [`StoreError::Bound`] for too many accounts or too large options.
    pub async fn create_record(&self, new: &NewRecord) -> Result<IntervalChanges, StoreError> {
        if new.accounts.len() > MAX_ACCOUNTS_PER_RECORD {
            return Err(StoreError::BoundExceeded {
                what: "accounts of a record",
                bound: MAX_ACCOUNTS_PER_RECORD,
            });
        }
        let head = &new.head;
        let links = record_links(head);
        let mut items = vec![write_head(head)?, consents::write_consent(&new.consent)?];
        for account in &new.accounts {
            items.push(accounts::write_account(account)?);
        }
        items.extend(new.due_entries.iter().map(due_entries::write_due_entry));
        items.extend(feed::write_entries(&new.feed_entries)?);
        items.extend(links.map(Key::into_attributes));
        let mut actions: Vec<_> = items
            .into_iter()
            .map(|item| self.put_action(item, vec![Condition::Absent]))
            .collect();
        let joined: Vec<Interval> = new
            .due_entries
            .iter()
            .map(|entry| entry.key.interval)
            .collect();
        actions.extend(
            new.due_entries
                .iter()
                .map(|entry| self.update_action(interval_counts::count_update(&entry.key, 1))),
        );
        let watch = self.count_before_change(joined, vec![]).await?;
        match self.transact_write(actions).await? {
            TransactWriteOutcome::Committed => self.compare_interval_counts(watch).await,
            TransactWriteOutcome::ConditionFailed(_) => {
                Err(StoreError::AlreadyExists { kind: "record" })
            }
        }
    }

    /// The head of a record.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_head(
        &self,
        record: RecordId,
        consistency: Consistency,
    ) -> Result<Option<RecordHead>, StoreError> {
        let item = self.get_item(head_key(record), consistency).await?;
        item.as_ref().map(read_head).transpose()
    }

    /// The heads of these records that exist, in the order asked for.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_heads(
        &self,
        records: &[RecordId],
        consistency: Consistency,
    ) -> Result<Vec<RecordHead>, StoreError> {
        let keys = records.iter().copied().map(head_key).collect();
        let items = self.batch_get_items(keys, consistency).await?;
        let mut heads = items.iter().map(read_head).collect::<Result<Vec<_>, _>>()?;
        let place = |head: &RecordHead| records.iter().position(|record| *record == head.record);
        heads.sort_by_key(place);
        Ok(heads)
    }

    /// The records of a customer, in the order of their ids; which there are is read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_RECORDS_PER_CUSTOMER`].
    pub async fn list_records_of_customer(
        &self,
        customer: CustomerId,
    ) -> Result<Vec<RecordHead>, StoreError> {
        let records: Vec<RecordId> = self
            .linked_ids(
                customers::customer_partition(customer.tag()),
                &customers::record_link_prefix(customer),
                None,
                MAX_RECORDS_PER_CUSTOMER + 1,
                Consistency::Strong,
            )
            .await?;
        if records.len() > MAX_RECORDS_PER_CUSTOMER {
            return Err(StoreError::BoundExceeded {
                what: "records of a customer",
                bound: MAX_RECORDS_PER_CUSTOMER,
            });
        }
        self.load_heads(&records, Consistency::Eventual).await
    }

    /// At most `limit` records of an app with ids after `after`, in the order of their ids; read
    /// eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_records_of_app(
        &self,
        app: AppId,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<ListPage<RecordHead, RecordId>, StoreError> {
        let ids = self
            .linked_ids(
                apps::app_partition(app),
                LINK_PREFIX,
                after,
                limit,
                Consistency::Eventual,
            )
            .await?;
        Ok(ListPage {
            items: self.load_heads(&ids, Consistency::Eventual).await?,
            next_cursor: ids.last().copied().filter(|_| ids.len() == limit),
        })
    }

    /// Sets the status of a record.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] where there is no such record.
    pub async fn set_record_status(
        &self,
        record: RecordId,
        status: RecordStatus,
    ) -> Result<(), StoreError> {
        let update = ItemUpdate::new(head_key(record))
            .set_attribute("st", string_value(status.as_str()))
            .with_condition(Condition::Exists);
        if self.update_item(update).await? {
            Ok(())
        } else {
            Err(StoreError::NotFound { kind: "record" })
        }
    }
}

#[cfg(test)]
mod tests {
    use okra_core::sync::digest::Digest;

    use super::*;
    use crate::table::item::item_size;

    #[test]
    fn a_head_survives_its_item_and_is_one_write_unit() {
        let mark = Some(Watermark {
            digest: Some(Digest([255; 16])),
            seq: Seq(999_999_999),
        });
        let at = Timestamp::from_millisecond(1_774_828_805_123).unwrap();
        let head = RecordHead {
            record: RecordId::derive(&[b"record"]),
            app: AppId::derive(&[b"app"]),
            customer: CustomerId::derive(&[b"customer"]),
            bank: BankId::derive(&[b"bank"]),
            seq: Seq(999_999_999),
            watermarks: ByProduct {
                balance: mark,
                transactions: mark,
            },
            state_seq: Seq(u64::MAX),
            schedule: ByProduct {
                balance: Some(Interval::FifteenMinute),
                transactions: Some(Interval::ThirtyMinute),
            },
            status: RecordStatus::ReauthorisationRequired,
            first_fetch_done: true,
            transaction_count: Some(u64::from(u32::MAX)),
            options: serde_json::json!({ "note": "x".repeat(MAX_OPTIONS_BYTES - 11) }),
            meta: serde_json::Map::new(),
            backfill_months: okra_core::backfill::progress::MAX_BACKFILL_MONTHS,
            created_at: at,
            last_changed_at: at,
        };
        let item = write_head(&head).unwrap();
        assert!(item_size(&item) <= 1024, "{} bytes", item_size(&item));
        assert_eq!(read_head(&item).unwrap(), head);

        let options = serde_json::json!({ "note": "x".repeat(MAX_OPTIONS_BYTES) });
        let refused = write_head(&RecordHead { options, ..head });
        assert!(matches!(refused, Err(StoreError::BoundExceeded { .. })));
    }
}
