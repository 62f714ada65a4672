//! Records: their heads, and how they come into being.

use crate::{
    Account, Consent, Consistency, IntervalsTouched, MAX_ACCOUNTS_PER_RECORD, Store, StoreError,
    accounts, apps,
    call::Transacted,
    consents, customers, due,
    expression::{Update, When},
    feed, intervals,
    item::{Attributes, Draft, Key, Reader, json, millis, n, s},
    marks::{self, STATE_SEQ},
};
use jiff::Timestamp;
use okra_core::{
    decide::Mark,
    feed::FeedEntry,
    ids::{AppId, BankId, CustomerId, RecordId, Seq},
    model::{ByProduct, Product},
    plan::DueEntry,
    schedule::{DueKey, Interval},
    state::RecordStatus,
};

/// Bytes of a head's options and meta as JSON at most, together: a head is written with each change, and one that is
/// larger than 1 KB costs a write unit more.
pub const MAX_OPTIONS_BYTES: usize = 512;

/// Records of one customer that are listed at most.
pub const MAX_RECORDS_PER_CUSTOMER: usize = 100;

const KIND: &str = "head";
const HEAD: &str = "HEAD";
const LINK: &str = "REC#";
/// How many transactions there are.
pub(crate) const ROWS: &str = "n";

/// What is committed of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
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
    pub marks: ByProduct<Mark>,
    /// The number of its last feed entry that is a change of state.
    pub state: Seq,
    /// The interval whose due entry holds each product.
    pub schedule: ByProduct<Interval>,
    /// Whether it can be refreshed.
    pub status: RecordStatus,
    /// True after the first commit that had a full answer for its transactions.
    pub first_pull_done: bool,
    /// How many transactions its accounts have, all together; `None` for a record that was linked before
    /// they were counted.
    pub rows: Option<u64>,
    /// A JSON object that the app gave when linking, echoed in webhooks; at most
    /// [`MAX_OPTIONS_BYTES`].
    pub options: serde_json::Value,
    /// A JSON object that the app gave besides, echoed in webhooks and not searched; empty where it gave
    /// none.
    pub meta: serde_json::Map<String, serde_json::Value>,
    /// Months of history that were asked for; Okra's `limit`.
    pub months: u8,
    /// When it was linked.
    pub created_at: Timestamp,
    /// When the last commit was made.
    pub last_changed_at: Timestamp,
}

impl Head {
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
    pub fn state_key(&self) -> Option<DueKey> {
        let interval = carrier(&self.schedule)?;
        Some(self.due_key(interval))
    }

    /// True once all that the record is kept for was read: a record without transactions has no first pull
    /// of them.
    pub fn is_pulled(&self) -> bool {
        let read = |product| {
            let mark = self.marks.get(product);
            mark.is_some_and(|mark| mark.digest.is_some())
        };
        self.first_pull_done || (self.schedule.transactions.is_none() && read(Product::Balance))
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
pub(crate) fn carrier(schedule: &ByProduct<Interval>) -> Option<Interval> {
    schedule.iter().map(|(_, interval)| *interval).min()
}

/// A part of a list, and where the next part begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask for the next part with; `None` at the end.
    pub next: Option<C>,
}

/// Everything that a newly linked record has.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// Its head.
    pub head: Head,
    /// Its consent.
    pub consent: Consent,
    /// Its accounts, [`MAX_ACCOUNTS_PER_RECORD`] at most.
    pub accounts: Vec<Account>,
    /// Its due entries, one for each interval of the head's schedule.
    pub due: Vec<DueEntry>,
    /// The first entries of its feed, which tell that it was linked. The head's numbers are theirs.
    pub entries: Vec<FeedEntry>,
}

/// The attribute of the interval whose due entry holds a product.
pub(crate) const fn interval_name(product: Product) -> &'static str {
    match product {
        Product::Balance => "bi",
        Product::Transactions => "ti",
    }
}

pub(crate) fn partition(record: RecordId) -> String {
    format!("REC#{record}")
}

pub(crate) fn key(record: RecordId) -> Key {
    Key::new(partition(record), HEAD)
}

/// The links to a record: from its customer, and from its app.
pub(crate) fn links(head: &Head) -> [Key; 2] {
    let of_customer = format!("{}{}", customers::records(head.customer), head.record);
    [
        Key::new(customers::partition(head.customer.tag()), of_customer),
        Key::new(apps::partition(head.app), format!("{LINK}{}", head.record)),
    ]
}

fn write(head: &Head) -> Result<Attributes, StoreError> {
    let options = json(KIND, &head.options)?;
    let meta = match head.meta.is_empty() {
        true => None,
        false => Some(json(KIND, &head.meta)?),
    };
    let bytes = |it: &aws_sdk_dynamodb::types::AttributeValue| it.as_s().map_or(0, String::len);
    if bytes(&options) + meta.as_ref().map_or(0, bytes) > MAX_OPTIONS_BYTES {
        return Err(StoreError::Bound {
            what: "bytes of options",
            bound: MAX_OPTIONS_BYTES,
        });
    }
    let draft = Draft::new(key(head.record))
        .with("app", s(head.app.to_string()))
        .with("cus", s(head.customer.to_string()))
        .with("ins", s(head.bank.to_string()))
        .with("q", n(head.seq))
        .with(STATE_SEQ, n(head.state))
        .with("st", s(head.status.as_str()))
        .with(
            "fp",
            aws_sdk_dynamodb::types::AttributeValue::Bool(head.first_pull_done),
        )
        .maybe(ROWS, head.rows.map(n))
        .with("op", options)
        .maybe("me", meta)
        .with("mo", n(head.months))
        .with("c", millis(head.created_at))
        .with("u", millis(head.last_changed_at));
    let draft = head
        .schedule
        .iter()
        .fold(draft, |draft, (product, interval)| {
            draft.with(interval_name(product), s(interval.as_str()))
        });
    Ok(marks::write(draft, &head.marks).done())
}

fn read(item: &Attributes) -> Result<Head, StoreError> {
    let reader = Reader::new(KIND, item);
    let record = reader
        .text("pk")?
        .strip_prefix(LINK)
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| reader.corrupt("pk"))?;
    let mut schedule = ByProduct::default();
    for product in Product::ALL {
        *schedule.slot(product) = reader.optional(interval_name(product), Reader::parse)?;
    }
    Ok(Head {
        record,
        app: reader.parse("app")?,
        customer: reader.parse("cus")?,
        bank: reader.parse("ins")?,
        seq: Seq(reader.number("q")?),
        marks: marks::read(&reader)?,
        state: Seq(reader.number(STATE_SEQ)?),
        schedule,
        status: RecordStatus::parse(reader.text("st")?).ok_or_else(|| reader.corrupt("st"))?,
        first_pull_done: reader.flag("fp")?,
        rows: reader.optional(ROWS, Reader::number)?,
        options: reader.json("op")?,
        meta: reader.optional("me", Reader::json)?.unwrap_or_default(),
        months: reader.number("mo")?,
        created_at: reader.millis("c")?,
        last_changed_at: reader.millis("u")?,
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
    pub async fn create_record(&self, new: &NewRecord) -> Result<IntervalsTouched, StoreError> {
        if new.accounts.len() > MAX_ACCOUNTS_PER_RECORD {
            return Err(StoreError::Bound {
                what: "accounts of a record",
                bound: MAX_ACCOUNTS_PER_RECORD,
            });
        }
        let head = &new.head;
        let links = links(head);
        let mut items = vec![write(head)?, consents::write(&new.consent)?];
        for account in &new.accounts {
            items.push(accounts::write(account)?);
        }
        items.extend(new.due.iter().map(due::write));
        items.extend(feed::write(&new.entries)?);
        items.extend(links.map(Key::attributes));
        let mut actions: Vec<_> = items
            .into_iter()
            .map(|item| self.put_action(item, vec![When::Absent]))
            .collect();
        let joined: Vec<Interval> = new.due.iter().map(|entry| entry.key.interval).collect();
        actions.extend(
            new.due
                .iter()
                .map(|entry| self.update_action(intervals::count(&entry.key, 1))),
        );
        let watch = self.watch(joined, vec![]).await?;
        match self.transact(actions).await? {
            Transacted::Done => self.touched(watch).await,
            Transacted::Refused(_) => Err(StoreError::AlreadyExists { kind: "record" }),
        }
    }

    /// The head of a record.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn head(
        &self,
        record: RecordId,
        consistency: Consistency,
    ) -> Result<Option<Head>, StoreError> {
        let item = self.get(key(record), consistency).await?;
        item.as_ref().map(read).transpose()
    }

    /// The heads of these records that exist, in the order asked for.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn heads(
        &self,
        records: &[RecordId],
        consistency: Consistency,
    ) -> Result<Vec<Head>, StoreError> {
        let keys = records.iter().copied().map(key).collect();
        let items = self.batch_get(keys, consistency).await?;
        let mut heads = items.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let place = |head: &Head| records.iter().position(|record| *record == head.record);
        heads.sort_by_key(place);
        Ok(heads)
    }

    /// The records of a customer, in the order of their ids; which there are is read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_RECORDS_PER_CUSTOMER`].
    pub async fn records_of_customer(&self, customer: CustomerId) -> Result<Vec<Head>, StoreError> {
        let records: Vec<RecordId> = self
            .linked(
                customers::partition(customer.tag()),
                &customers::records(customer),
                None,
                MAX_RECORDS_PER_CUSTOMER + 1,
                Consistency::Strong,
            )
            .await?;
        if records.len() > MAX_RECORDS_PER_CUSTOMER {
            return Err(StoreError::Bound {
                what: "records of a customer",
                bound: MAX_RECORDS_PER_CUSTOMER,
            });
        }
        self.heads(&records, Consistency::Eventual).await
    }

    /// At most `limit` records of an app with ids after `after`, in the order of their ids; read
    /// eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn records_of_app(
        &self,
        app: AppId,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Page<Head, RecordId>, StoreError> {
        let ids = self
            .linked(
                apps::partition(app),
                LINK,
                after,
                limit,
                Consistency::Eventual,
            )
            .await?;
        Ok(Page {
            items: self.heads(&ids, Consistency::Eventual).await?,
            next: ids.last().copied().filter(|_| ids.len() == limit),
        })
    }

    /// Sets the status of a record.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] where there is no such record.
    pub async fn set_status(
        &self,
        record: RecordId,
        status: RecordStatus,
    ) -> Result<(), StoreError> {
        let update = Update::new(key(record))
            .set("st", s(status.as_str()))
            .when(When::Exists);
        if self.update(update).await? {
            Ok(())
        } else {
            Err(StoreError::NotFound { kind: "record" })
        }
    }
}

#[cfg(test)]
mod tests {
    use okra_core::normal::Digest;

    use super::*;
    use crate::item::size;

    #[test]
    fn a_head_survives_its_item_and_is_one_write_unit() {
        let mark = Some(Mark {
            digest: Some(Digest([255; 16])),
            seq: Seq(999_999_999),
        });
        let at = Timestamp::from_millisecond(1_774_828_805_123).unwrap();
        let head = Head {
            record: RecordId::derive(&[b"record"]),
            app: AppId::derive(&[b"app"]),
            customer: CustomerId::derive(&[b"customer"]),
            bank: BankId::derive(&[b"bank"]),
            seq: Seq(999_999_999),
            marks: ByProduct {
                balance: mark,
                transactions: mark,
            },
            state: Seq(u64::MAX),
            schedule: ByProduct {
                balance: Some(Interval::FifteenMinute),
                transactions: Some(Interval::ThirtyMinute),
            },
            status: RecordStatus::TokenRequired,
            first_pull_done: true,
            rows: Some(u64::from(u32::MAX)),
            options: serde_json::json!({ "note": "x".repeat(MAX_OPTIONS_BYTES - 11) }),
            meta: serde_json::Map::new(),
            months: okra_core::history::MAX_MONTHS,
            created_at: at,
            last_changed_at: at,
        };
        let item = write(&head).unwrap();
        assert!(size(&item) <= 1024, "{} bytes", size(&item));
        assert_eq!(read(&item).unwrap(), head);

        let options = serde_json::json!({ "note": "x".repeat(MAX_OPTIONS_BYTES) });
        let refused = write(&Head { options, ..head });
        assert!(matches!(refused, Err(StoreError::Bound { .. })));
    }
}
