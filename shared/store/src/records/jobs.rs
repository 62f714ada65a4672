//! Jobs: refreshes on demand of one product of a record. A second request joins the one that runs.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    model::{fault::FaultClass, ids::RecordId, snapshot::Product},
    resilience::quota::OnDemandStarts,
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    records::heads,
    table::{
        expression::{Condition, ItemUpdate},
        item::{
            Attributes, ItemBuilder, ItemReader, JSON_ATTRIBUTE, Key, PK, SK, TTL_ATTRIBUTE,
            expiry_value, json_value, millis_value, number_value, string_value,
        },
    },
};

const KIND: &str = "job";
const ID_ATTRIBUTE: &str = "id";
/// Until when a job counts as running; 0 once it is done.
const RUNNING_UNTIL_ATTRIBUTE: &str = "u";
const OUTCOME_ATTRIBUTE: &str = "o";
const ENDED_AT_ATTRIBUTE: &str = "d";
const FINDINGS_ATTRIBUTE: &str = "c";
const STARTED_AT_ATTRIBUTE: &str = "b";
const REASON_ATTRIBUTE: &str = "f";
const RETRY_AT_ATTRIBUTE: &str = "n";
/// When the last one ended that had an answer, and that had none.
const LAST_RESPONSE_ATTRIBUTE: &str = "y";
const LAST_FAILURE_ATTRIBUTE: &str = "x";

/// The outcome of a job that had no answer.
pub const FAILED_OUTCOME: &str = "failed";

/// How long a job counts as running: whoever ran it has crashed then.
const RUNNING_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// Seconds that a job is remembered: longer than any day's quota looks back.
const JOB_RETENTION_S: i64 = 25 * 60 * 60;

/// A refresh on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id: that of the chunk which does it.
    pub id: String,
    /// What came of it; `None` while it runs.
    pub outcome: Option<String>,
    /// Why the bank's answer could not be had of an account or more, once it is done.
    pub fault_class: Option<FaultClass>,
    /// From when on the bank may be asked again, where it said so.
    pub retry_at: Option<Timestamp>,
    /// What it found, once it is done.
    pub findings: JobFindings,
    /// When it was begun; `None` where it was before that was kept.
    pub started_at: Option<Timestamp>,
    /// When it was done.
    pub ended_at: Option<Timestamp>,
    /// When the last job ended that had an answer: this one, or one before it.
    pub last_response_at: Option<Timestamp>,
    /// When the last job ended that had none.
    pub last_failure_at: Option<Timestamp>,
    /// When the refreshes of the last day began that were asked for without the user.
    pub unattended_requests: OnDemandStarts,
    running_until: Timestamp,
}

/// What a job found that was new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFindings {
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
pub struct JobCompletion<'a> {
    /// The outcome's name; [`FAILED`] where there was no answer.
    pub outcome: &'a str,
    /// Why the bank's answer could not be had of an account or more.
    pub fault_class: Option<FaultClass>,
    /// From when on the bank may be asked again, where it said so.
    pub retry_at: Option<Timestamp>,
    /// What was found.
    pub findings: JobFindings,
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
    pub unattended_requests: &'a OnDemandStarts,
}

fn job_key(record: RecordId, product: Product) -> Key {
    Key::new(
        heads::record_partition(record),
        format!("JOB#{}", product.as_str()),
    )
}

fn read_job(item: &Attributes) -> Result<Job, StoreError> {
    let reader = ItemReader::new(KIND, item);
    Ok(Job {
        id: reader.read_text(ID_ATTRIBUTE)?.to_owned(),
        outcome: reader
            .read_optional(OUTCOME_ATTRIBUTE, ItemReader::read_text)?
            .map(str::to_owned),
        fault_class: reader.read_optional(REASON_ATTRIBUTE, ItemReader::read_json)?,
        retry_at: reader.read_optional(RETRY_AT_ATTRIBUTE, ItemReader::read_millis)?,
        started_at: reader.read_optional(STARTED_AT_ATTRIBUTE, ItemReader::read_millis)?,
        last_response_at: reader.read_optional(LAST_RESPONSE_ATTRIBUTE, ItemReader::read_millis)?,
        last_failure_at: reader.read_optional(LAST_FAILURE_ATTRIBUTE, ItemReader::read_millis)?,
        findings: reader
            .read_optional(FINDINGS_ATTRIBUTE, ItemReader::read_json)?
            .unwrap_or_default(),
        ended_at: reader.read_optional(ENDED_AT_ATTRIBUTE, ItemReader::read_millis)?,
        unattended_requests: reader
            .read_optional(JSON_ATTRIBUTE, ItemReader::read_json)?
            .unwrap_or_default(),
        running_until: reader.read_millis(RUNNING_UNTIL_ATTRIBUTE)?,
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
        expected: Option<&Job>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let until = new.starts_at.saturating_add(RUNNING_TIMEOUT);
        let item = ItemBuilder::new(job_key(new.record, new.product))
            .with_attribute(ID_ATTRIBUTE, string_value(new.id))
            .with_attribute(RUNNING_UNTIL_ATTRIBUTE, millis_value(until.unwrap_or(now)))
            .with_attribute(STARTED_AT_ATTRIBUTE, millis_value(now))
            .with_optional(
                LAST_RESPONSE_ATTRIBUTE,
                expected
                    .and_then(|it| it.last_response_at)
                    .map(millis_value),
            )
            .with_optional(
                LAST_FAILURE_ATTRIBUTE,
                expected.and_then(|it| it.last_failure_at).map(millis_value),
            )
            .with_attribute(JSON_ATTRIBUTE, json_value(KIND, new.unattended_requests)?)
            .with_expiry(now, JOB_RETENTION_S)
            .build();
        let unmoved = match expected {
            Some(before) => Condition::Equals(ID_ATTRIBUTE, Some(string_value(before.id.as_str()))),
            None => Condition::Absent,
        };
        self.put_item_if(item, vec![unmoved]).await
    }

    /// The last job of a record and product.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_job(
        &self,
        record: RecordId,
        product: Product,
        consistency: Consistency,
    ) -> Result<Option<Job>, StoreError> {
        let item = self.get_item(job_key(record, product), consistency).await?;
        item.as_ref().map(read_job).transpose()
    }

    /// The last jobs of these records and products, where there are any; read eventually. No pair may be
    /// there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_jobs(
        &self,
        record_products: &[(RecordId, Product)],
    ) -> Result<HashMap<(RecordId, Product), Job>, StoreError> {
        let places: HashMap<_, _> = record_products
            .iter()
            .map(|&(record, product)| {
                let Key { pk, sk } = job_key(record, product);
                ((pk, sk), (record, product))
            })
            .collect();
        let keys = record_products
            .iter()
            .map(|&(record, product)| job_key(record, product));
        let items = self
            .batch_get_items(keys.collect(), Consistency::Eventual)
            .await?;
        let mut jobs = HashMap::with_capacity(items.len());
        for item in &items {
            let reader = ItemReader::new(KIND, item);
            let place = (
                reader.read_text(PK)?.to_owned(),
                reader.read_text(SK)?.to_owned(),
            );
            let place = places.get(&place).ok_or_else(|| reader.corrupt_error(SK))?;
            jobs.insert(*place, read_job(item)?);
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
        completion: JobCompletion<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let ended = match completion.outcome {
            FAILED_OUTCOME => LAST_FAILURE_ATTRIBUTE,
            _ => LAST_RESPONSE_ATTRIBUTE,
        };
        let reason = completion
            .fault_class
            .map(|reason| json_value(KIND, &reason))
            .transpose()?;
        let update = ItemUpdate::new(job_key(record, product))
            .set_attribute(RUNNING_UNTIL_ATTRIBUTE, number_value(0))
            .set_attribute(OUTCOME_ATTRIBUTE, string_value(completion.outcome))
            .set_or_remove(REASON_ATTRIBUTE, reason)
            .set_or_remove(RETRY_AT_ATTRIBUTE, completion.retry_at.map(millis_value))
            .set_attribute(FINDINGS_ATTRIBUTE, json_value(KIND, &completion.findings)?)
            .set_attribute(ended, millis_value(now))
            .set_attribute(ENDED_AT_ATTRIBUTE, millis_value(now))
            .set_attribute(TTL_ATTRIBUTE, expiry_value(now, JOB_RETENTION_S))
            .with_condition(Condition::Equals(ID_ATTRIBUTE, Some(string_value(id))));
        self.update_item(update).await.map(drop)
    }
}
