//! Heads of records: [`RecordHead`] says what is committed of a record. It moves in one transaction with the feed, on the
//! condition that nobody moved it since it was read.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{AppId, BankId, CustomerId, RecordId, Seq},
        interval::{DueKey, Interval},
        snapshot::{ByProduct, Product},
    },
    sync::{decide::Watermark, state::RecordStatus},
};

use crate::{
    Consistency, ListPage, MAX_RECORDS_PER_CUSTOMER, Store, StoreError,
    key::{self, Key},
    records::watermarks::{self, STATE_SEQ_ATTRIBUTE},
    table::{
        attributes::{
            Attributes, json_value, millis_value, number_value, string_value, text_value,
            value_size,
        },
        expression::{Condition, ItemUpdate},
        item::{ItemBuilder, ItemReader},
        key_range::READ_MARGIN,
    },
};

/// Bytes of a head's options and meta as JSON at most, together: a head is written with each change, and one that is
/// larger than 1 KB costs one more write unit.
pub const MAX_OPTIONS_BYTES: usize = 512;

const KIND: &str = "head";
const APP_ATTRIBUTE: &str = "app";
const CUSTOMER_ATTRIBUTE: &str = "cus";
const BANK_ATTRIBUTE: &str = "ins";
const OPTIONS_ATTRIBUTE: &str = "op";
const META_ATTRIBUTE: &str = "me";
const BACKFILL_MONTHS_ATTRIBUTE: &str = "mo";
const CREATED_ATTRIBUTE: &str = "c";
/// The seq of the last feed entry.
pub(crate) const SEQ_ATTRIBUTE: &str = "q";
pub(crate) const STATUS_ATTRIBUTE: &str = "st";
/// Whether the first fetch is done.
pub(crate) const FIRST_FETCH_ATTRIBUTE: &str = "fp";
/// When the last commit was made.
pub(crate) const CHANGED_ATTRIBUTE: &str = "u";
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
    /// The seq of its last feed entry.
    pub seq: Seq,
    /// The committed watermark of each product.
    pub watermarks: ByProduct<Watermark>,
    /// The seq of its last feed entry that is a change of state.
    pub state_seq: Seq,
    /// The interval whose due entry holds each product.
    pub schedule: ByProduct<Interval>,
    /// Whether it can be refreshed.
    pub status: RecordStatus,
    /// True after the first commit that had a full response for its transactions.
    pub first_fetch_done: bool,
    /// How many transactions its accounts have, all together; `None` for a record that was linked before
    /// transactions were counted.
    pub transaction_count: Option<u64>,
    /// A JSON object that the app gave when linking, echoed in webhooks; at most
    /// [`MAX_OPTIONS_BYTES`].
    pub options: serde_json::Value,
    /// A second JSON object that the app gave, echoed in webhooks and not searched; empty where it gave
    /// none.
    pub meta: serde_json::Map<String, serde_json::Value>,
    /// Months that the backfill reaches back; Okra's `limit`.
    pub backfill_months: u8,
    /// When it was linked.
    pub created_at: Timestamp,
    /// When the last commit was made.
    pub last_changed_at: Timestamp,
}

impl RecordHead {
    /// The keys of the record's due entries, each once.
    pub fn due_keys(&self) -> Vec<DueKey> {
        let mut intervals: Vec<Interval> = self
            .schedule
            .iter()
            .map(|(_, &interval)| interval)
            .collect();
        intervals.dedup();
        intervals
            .into_iter()
            .map(|interval| self.due_key(interval))
            .collect()
    }

    /// The key of the due entry that holds how far changes of state were dispatched: that of the
    /// shortest interval, which is refreshed first after a crash.
    pub fn state_due_key(&self) -> Option<DueKey> {
        let interval = state_interval(&self.schedule)?;
        Some(self.due_key(interval))
    }

    /// True once every subscribed product was fetched: a record without transactions has no first fetch
    /// of them.
    pub fn is_first_fetched(&self) -> bool {
        let balance = self.watermarks.balance;
        let has_balance = balance.is_some_and(|watermark| watermark.digest.is_some());
        self.first_fetch_done || (self.schedule.transactions.is_none() && has_balance)
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

/// The interval whose due entry holds the watermark of the state stream.
pub(crate) fn state_interval(schedule: &ByProduct<Interval>) -> Option<Interval> {
    schedule.iter().map(|(_, interval)| *interval).min()
}

/// The attribute of the interval whose due entry holds a product.
pub(crate) const fn interval_attribute(product: Product) -> &'static str {
    match product {
        Product::Balance => "bi",
        Product::Transactions => "ti",
    }
}

/// The links to a record: from its customer, and from its app.
pub(crate) fn record_links(head: &RecordHead) -> [Key<'static>; 2] {
    let RecordHead {
        record,
        app,
        customer,
        ..
    } = *head;
    [
        Key::RecordLinkOfCustomer { customer, record },
        Key::RecordLinkOfApp { app, record },
    ]
}

/// The options and the meta of a head as JSON; no meta where it is empty.
fn write_options(
    head: &RecordHead,
) -> Result<(AttributeValue, Option<AttributeValue>), StoreError> {
    let options = json_value(KIND, &head.options)?;
    let meta = match head.meta.is_empty() {
        true => None,
        false => Some(json_value(KIND, &head.meta)?),
    };
    let bytes: usize = [Some(&options), meta.as_ref()]
        .into_iter()
        .flatten()
        .map(value_size)
        .sum();
    if bytes > MAX_OPTIONS_BYTES {
        return Err(StoreError::BoundExceeded {
            what: "bytes of options",
            bound: MAX_OPTIONS_BYTES,
        });
    }
    Ok((options, meta))
}

/// The item of a head.
///
/// # Errors
///
/// [`StoreError::BoundExceeded`] for more than [`MAX_OPTIONS_BYTES`] of options and meta.
pub(crate) fn write_head(head: &RecordHead) -> Result<Attributes, StoreError> {
    let (options, meta) = write_options(head)?;
    let mut builder = ItemBuilder::new(Key::RecordHead(head.record))
        .with_attribute(APP_ATTRIBUTE, text_value(head.app))
        .with_attribute(CUSTOMER_ATTRIBUTE, text_value(head.customer))
        .with_attribute(BANK_ATTRIBUTE, text_value(head.bank))
        .with_attribute(SEQ_ATTRIBUTE, number_value(head.seq))
        .with_attribute(STATE_SEQ_ATTRIBUTE, number_value(head.state_seq))
        .with_attribute(STATUS_ATTRIBUTE, string_value(head.status.as_str()))
        .with_attribute(
            FIRST_FETCH_ATTRIBUTE,
            AttributeValue::Bool(head.first_fetch_done),
        )
        .with_optional(
            TRANSACTION_COUNT_ATTRIBUTE,
            head.transaction_count.map(number_value),
        )
        .with_attribute(OPTIONS_ATTRIBUTE, options)
        .with_optional(META_ATTRIBUTE, meta)
        .with_attribute(
            BACKFILL_MONTHS_ATTRIBUTE,
            number_value(head.backfill_months),
        )
        .with_attribute(CREATED_ATTRIBUTE, millis_value(head.created_at))
        .with_attribute(CHANGED_ATTRIBUTE, millis_value(head.last_changed_at));
    for (product, interval) in head.schedule.iter() {
        let interval = string_value(interval.as_str());
        builder = builder.with_attribute(interval_attribute(product), interval);
    }
    Ok(watermarks::write_watermarks(builder, &head.watermarks).build())
}

fn read_head(item: &Attributes) -> Result<RecordHead, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let mut schedule = ByProduct::default();
    for product in Product::ALL {
        *schedule.get_mut(product) =
            reader.read_optional(interval_attribute(product), ItemReader::read_parsed)?;
    }
    Ok(RecordHead {
        record: reader.parse_partition(key::parse_record_partition)?,
        app: reader.read_parsed(APP_ATTRIBUTE)?,
        customer: reader.read_parsed(CUSTOMER_ATTRIBUTE)?,
        bank: reader.read_parsed(BANK_ATTRIBUTE)?,
        seq: Seq(reader.read_number(SEQ_ATTRIBUTE)?),
        watermarks: watermarks::read_watermarks(&reader)?,
        state_seq: Seq(reader.read_number(STATE_SEQ_ATTRIBUTE)?),
        schedule,
        status: RecordStatus::parse(reader.read_text(STATUS_ATTRIBUTE)?)
            .ok_or_else(|| reader.corrupt_error(STATUS_ATTRIBUTE))?,
        first_fetch_done: reader.read_flag(FIRST_FETCH_ATTRIBUTE)?,
        transaction_count: reader
            .read_optional(TRANSACTION_COUNT_ATTRIBUTE, ItemReader::read_number)?,
        options: reader.read_json(OPTIONS_ATTRIBUTE)?,
        meta: reader
            .read_optional(META_ATTRIBUTE, ItemReader::read_json)?
            .unwrap_or_default(),
        backfill_months: reader.read_number(BACKFILL_MONTHS_ATTRIBUTE)?,
        created_at: reader.read_millis(CREATED_ATTRIBUTE)?,
        last_changed_at: reader.read_millis(CHANGED_ATTRIBUTE)?,
    })
}

impl Store {
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
        let item = self.get_item(Key::RecordHead(record), consistency).await?;
        item.as_ref().map(read_head).transpose()
    }

    /// The heads of these records that exist, in the order of the ids. No record may be there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_heads(
        &self,
        records: &[RecordId],
        consistency: Consistency,
    ) -> Result<Vec<RecordHead>, StoreError> {
        let keys = records.iter().copied().map(Key::RecordHead);
        let items = self.batch_get_items(keys, consistency).await?;
        let mut heads = items.iter().map(read_head).collect::<Result<Vec<_>, _>>()?;
        heads.sort_by_key(|head| records.iter().position(|record| *record == head.record));
        Ok(heads)
    }

    /// The records of a customer, in the order of their ids. The list is read strongly, the heads eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_records_of_customer(
        &self,
        customer: CustomerId,
    ) -> Result<Vec<RecordHead>, StoreError> {
        let records: Vec<RecordId> = self
            .list_linked_ids(
                key::customer_partition(customer.tag()),
                &key::record_link_prefix(customer),
                None,
                MAX_RECORDS_PER_CUSTOMER * READ_MARGIN,
                Consistency::Strong,
            )
            .await?;
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
            .list_linked_ids(
                key::app_partition(app),
                key::RECORD_PREFIX,
                after,
                limit,
                Consistency::Eventual,
            )
            .await?;
        let heads = self.load_heads(&ids, Consistency::Eventual).await?;
        Ok(ListPage::from_limited(heads, &ids, limit))
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
        let update = ItemUpdate::new(Key::RecordHead(record))
            .set_attribute(STATUS_ATTRIBUTE, string_value(status.as_str()))
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
    use crate::table::attributes::item_size;

    #[test]
    fn a_head_survives_its_item_and_is_one_write_unit() {
        let watermark = Some(Watermark {
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
                balance: watermark,
                transactions: watermark,
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
        let rejected = write_head(&RecordHead { options, ..head });
        assert!(matches!(rejected, Err(StoreError::BoundExceeded { .. })));
    }
}
