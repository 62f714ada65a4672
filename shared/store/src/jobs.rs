//! Jobs: refreshes on demand of one product of a record. A second request joins the one that runs.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use okra_core::{fault::FaultClass, ids::RecordId, model::Product, quota::OnDemand};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    expression::{Update, When},
    item::{Attributes, Draft, JSON, Key, PK, Reader, SK, TTL, json, millis, n, s, ttl},
    records,
};

const KIND: &str = "job";
const ID: &str = "id";
/// Until when a job counts as running; 0 once it is done.
const UNTIL: &str = "u";
const OUTCOME: &str = "o";
const DONE_AT: &str = "d";
const FOUND: &str = "c";
const STARTED_AT: &str = "b";
const REASON: &str = "f";
const RETRY_AT: &str = "n";
/// When the last one ended that had an answer, and that had none.
const ANSWERED_AT: &str = "y";
const FAILED_AT: &str = "x";

/// The outcome of a job that had no answer.
pub const FAILED: &str = "failed";

/// How long a job counts as running: whoever ran it has crashed then.
const RUNNING_FOR: SignedDuration = SignedDuration::from_secs(120);

/// Seconds that a job is remembered: longer than any day's quota looks back.
const KEPT_S: i64 = 25 * 60 * 60;

/// A refresh on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id: that of the chunk which does it.
    pub id: String,
    /// What came of it; `None` while it runs.
    pub outcome: Option<String>,
    /// Why the bank's answer could not be had of an account or more, once it is done.
    pub reason: Option<FaultClass>,
    /// From when on the bank may be asked again, where it said so.
    pub retry_at: Option<Timestamp>,
    /// What it found, once it is done.
    pub found: Found,
    /// When it was begun; `None` where it was before that was kept.
    pub started_at: Option<Timestamp>,
    /// When it was done.
    pub done_at: Option<Timestamp>,
    /// When the last job ended that had an answer: this one, or one before it.
    pub answered_at: Option<Timestamp>,
    /// When the last job ended that had none.
    pub failed_at: Option<Timestamp>,
    /// When the refreshes of the last day began that were asked for without the user.
    pub asked: OnDemand,
    running_until: Timestamp,
}

/// What a job found that was new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Balances that changed.
    pub balances: usize,
    /// Transactions added.
    pub added: usize,
    /// Transactions modified.
    pub modified: usize,
    /// Transactions removed.
    pub removed: usize,
}

impl Job {
    /// True while it runs, as far as one knows.
    pub fn is_running(&self, now: Timestamp) -> bool {
        self.running_until > now
    }
}

/// What came of a job.
#[derive(Clone, Copy, Debug)]
pub struct JobEnd<'a> {
    /// The outcome's name; [`FAILED`] where there was no answer.
    pub outcome: &'a str,
    /// Why the bank's answer could not be had of an account or more.
    pub reason: Option<FaultClass>,
    /// From when on the bank may be asked again, where it said so.
    pub retry_at: Option<Timestamp>,
    /// What was found.
    pub found: Found,
}

/// A job to be begun.
#[derive(Clone, Copy, Debug)]
pub struct NewJob<'a> {
    /// The record.
    pub record: RecordId,
    /// The product.
    pub product: Product,
    /// Its id.
    pub id: &'a str,
    /// Its chunk is not received before this time.
    pub starts_at: Timestamp,
    /// What is asked for of the day's quota, with this one.
    pub asked: &'a OnDemand,
}

fn key(record: RecordId, product: Product) -> Key {
    Key::new(
        records::partition(record),
        format!("JOB#{}", product.as_str()),
    )
}

fn read(item: &Attributes) -> Result<Job, StoreError> {
    let reader = Reader::new(KIND, item);
    Ok(Job {
        id: reader.text(ID)?.to_owned(),
        outcome: reader.optional(OUTCOME, Reader::text)?.map(str::to_owned),
        reason: reader.optional(REASON, Reader::json)?,
        retry_at: reader.optional(RETRY_AT, Reader::millis)?,
        started_at: reader.optional(STARTED_AT, Reader::millis)?,
        answered_at: reader.optional(ANSWERED_AT, Reader::millis)?,
        failed_at: reader.optional(FAILED_AT, Reader::millis)?,
        found: reader.optional(FOUND, Reader::json)?.unwrap_or_default(),
        done_at: reader.optional(DONE_AT, Reader::millis)?,
        asked: reader.optional(JSON, Reader::json)?.unwrap_or_default(),
        running_until: reader.millis(UNTIL)?,
    })
}

impl Store {
    /// Begins a job where the last one still is `before`, which does not run. False where it is not:
    /// another began meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn begin_job(
        &self,
        new: NewJob<'_>,
        before: Option<&Job>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let until = new.starts_at.saturating_add(RUNNING_FOR);
        let item = Draft::new(key(new.record, new.product))
            .with(ID, s(new.id))
            .with(UNTIL, millis(until.unwrap_or(now)))
            .with(STARTED_AT, millis(now))
            .maybe(
                ANSWERED_AT,
                before.and_then(|it| it.answered_at).map(millis),
            )
            .maybe(FAILED_AT, before.and_then(|it| it.failed_at).map(millis))
            .with(JSON, json(KIND, new.asked)?)
            .expiring(now, KEPT_S)
            .done();
        let unmoved = match before {
            Some(before) => When::Is(ID, Some(s(before.id.as_str()))),
            None => When::Absent,
        };
        self.put_when(item, vec![unmoved]).await
    }

    /// The last job of a record and product.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn job(
        &self,
        record: RecordId,
        product: Product,
        consistency: Consistency,
    ) -> Result<Option<Job>, StoreError> {
        let item = self.get(key(record, product), consistency).await?;
        item.as_ref().map(read).transpose()
    }

    /// The last jobs of these records and products, where there are any; read eventually. No pair may be
    /// there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn jobs(
        &self,
        of: &[(RecordId, Product)],
    ) -> Result<HashMap<(RecordId, Product), Job>, StoreError> {
        let places: HashMap<_, _> = of
            .iter()
            .map(|&(record, product)| {
                let Key { pk, sk } = key(record, product);
                ((pk, sk), (record, product))
            })
            .collect();
        let keys = of.iter().map(|&(record, product)| key(record, product));
        let items = self
            .batch_get(keys.collect(), Consistency::Eventual)
            .await?;
        let mut jobs = HashMap::with_capacity(items.len());
        for item in &items {
            let reader = Reader::new(KIND, item);
            let place = (reader.text(PK)?.to_owned(), reader.text(SK)?.to_owned());
            let place = places.get(&place).ok_or_else(|| reader.corrupt(SK))?;
            jobs.insert(*place, read(item)?);
        }
        Ok(jobs)
    }

    /// Ends a job, where it is the last one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn end_job(
        &self,
        record: RecordId,
        product: Product,
        id: &str,
        end: JobEnd<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let ended = match end.outcome {
            FAILED => FAILED_AT,
            _ => ANSWERED_AT,
        };
        let reason = end.reason.map(|reason| json(KIND, &reason)).transpose()?;
        let update = Update::new(key(record, product))
            .set(UNTIL, n(0))
            .set(OUTCOME, s(end.outcome))
            .assign(REASON, reason)
            .assign(RETRY_AT, end.retry_at.map(millis))
            .set(FOUND, json(KIND, &end.found)?)
            .set(ended, millis(now))
            .set(DONE_AT, millis(now))
            .set(TTL, ttl(now, KEPT_S))
            .when(When::Is(ID, Some(s(id))));
        self.update(update).await.map(drop)
    }
}
