//! Jobs: on-demand refreshes of one product of a record. A second request joins the job that is running. Only the last
//! job of a product is stored; of those before it, when the last one got a response and when the last one failed.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    model::{fault::FaultClass, ids::RecordId, snapshot::Product},
    resilience::quota::OnDemandStarts,
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    key::Key,
    table::{
        attributes::{
            Attributes, JSON_ATTRIBUTE, PrimaryKey, SK, TTL_ATTRIBUTE, expiry_value, json_value,
            millis_value, number_value, string_value,
        },
        expression::{Condition, ItemUpdate},
        item::{ItemBuilder, ItemReader},
    },
};

const KIND: &str = "job";
const ID_ATTRIBUTE: &str = "id";
/// Until when a job counts as running; 0 once it has ended.
const RUNNING_UNTIL_ATTRIBUTE: &str = "u";
const OUTCOME_ATTRIBUTE: &str = "o";
const ENDED_AT_ATTRIBUTE: &str = "d";
const FINDINGS_ATTRIBUTE: &str = "c";
const STARTED_AT_ATTRIBUTE: &str = "b";
const REASON_ATTRIBUTE: &str = "f";
const RETRY_AT_ATTRIBUTE: &str = "n";
/// When the last job ended that got a response from the bank.
const LAST_RESPONSE_ATTRIBUTE: &str = "y";
/// When the last job ended that got none.
const LAST_FAILURE_ATTRIBUTE: &str = "x";

/// The outcome of a job that got no response from the bank.
pub const FAILED_OUTCOME: &str = "failed";

/// How long a job counts as running: after that, whoever ran it has crashed.
const RUNNING_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// Seconds that a job is stored: longer than a day's quota looks back.
const JOB_RETENTION_S: i64 = 25 * 60 * 60;

/// An on-demand refresh of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id: that of the chunk which carries it out.
    pub id: String,
    /// Its outcome; `None` while it runs.
    pub outcome: Option<String>,
    /// Why one account or more could not be fetched, once it has ended.
    pub fault_class: Option<FaultClass>,
    /// From when on the bank takes requests again, where it said so.
    pub retry_at: Option<Timestamp>,
    /// What it found, once it has ended.
    pub findings: JobFindings,
    /// When it began; `None` in jobs that were stored before this was.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When the last job ended that got a response: this one, or one before it.
    pub last_response_at: Option<Timestamp>,
    /// When the last job ended that got none.
    pub last_failure_at: Option<Timestamp>,
    /// When the unattended on-demand refreshes of the last day began.
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
    /// True while it runs: it has not ended, and its time is not over.
    pub fn is_running(&self, now: Timestamp) -> bool {
        self.running_until > now
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug)]
pub struct JobCompletion<'a> {
    /// The outcome's name; [`FAILED_OUTCOME`] where there was no response.
    pub outcome: &'a str,
    /// Why one account or more could not be fetched.
    pub fault_class: Option<FaultClass>,
    /// From when on the bank takes requests again, where it said so.
    pub retry_at: Option<Timestamp>,
    /// What it found.
    pub findings: JobFindings,
}

/// A job that begins.
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
    /// The unattended on-demand refreshes of the last day, with this one.
    pub unattended_requests: &'a OnDemandStarts,
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
    /// Begins a job in place of `expected`, which does not run. False, and nothing stored, where another job began
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`StoreError::OutOfRange`] for a start that is too late to be stored.
    pub async fn begin_job(
        &self,
        new: NewJob<'_>,
        expected: Option<&Job>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let until =
            new.starts_at
                .checked_add(RUNNING_TIMEOUT)
                .map_err(|_| StoreError::OutOfRange {
                    what: "the start of a job",
                })?;
        let key = Key::Job {
            record: new.record,
            product: new.product,
        };
        let item = ItemBuilder::new(key)
            .with_attribute(ID_ATTRIBUTE, string_value(new.id))
            .with_attribute(RUNNING_UNTIL_ATTRIBUTE, millis_value(until))
            .with_attribute(STARTED_AT_ATTRIBUTE, millis_value(now))
            .with_optional(
                LAST_RESPONSE_ATTRIBUTE,
                expected
                    .and_then(|job| job.last_response_at)
                    .map(millis_value),
            )
            .with_optional(
                LAST_FAILURE_ATTRIBUTE,
                expected
                    .and_then(|job| job.last_failure_at)
                    .map(millis_value),
            )
            .with_json(KIND, new.unattended_requests)?
            .with_expiry(now, JOB_RETENTION_S)
            .build();
        let expected_id = expected.map(|job| string_value(job.id.as_str()));
        self.put_item_if(item, vec![Condition::Equals(ID_ATTRIBUTE, expected_id)])
            .await
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
        let item = self
            .get_item(Key::Job { record, product }, consistency)
            .await?;
        item.as_ref().map(read_job).transpose()
    }

    /// The last jobs of these records and products that exist; read eventually. No pair may be
    /// there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_jobs(
        &self,
        record_products: &[(RecordId, Product)],
    ) -> Result<HashMap<(RecordId, Product), Job>, StoreError> {
        let keys = record_products
            .iter()
            .map(|&(record, product)| Key::Job { record, product });
        let by_key: HashMap<PrimaryKey, (RecordId, Product)> = keys
            .clone()
            .map(PrimaryKey::from)
            .zip(record_products.iter().copied())
            .collect();
        let items = self.batch_get_items(keys, Consistency::Eventual).await?;
        let mut jobs = HashMap::with_capacity(items.len());
        for item in &items {
            let reader = ItemReader::new(KIND, item);
            let record_product = by_key
                .get(&reader.read_primary_key()?)
                .ok_or_else(|| reader.corrupt_error(SK))?;
            jobs.insert(*record_product, read_job(item)?);
        }
        Ok(jobs)
    }

    /// Stores how a job ended, where no other began after it.
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
        let ended_attribute = match completion.outcome {
            FAILED_OUTCOME => LAST_FAILURE_ATTRIBUTE,
            _ => LAST_RESPONSE_ATTRIBUTE,
        };
        let reason = completion
            .fault_class
            .map(|reason| json_value(KIND, &reason))
            .transpose()?;
        let update = ItemUpdate::new(Key::Job { record, product })
            .set_attribute(RUNNING_UNTIL_ATTRIBUTE, number_value(0))
            .set_attribute(OUTCOME_ATTRIBUTE, string_value(completion.outcome))
            .set_or_remove(REASON_ATTRIBUTE, reason)
            .set_or_remove(RETRY_AT_ATTRIBUTE, completion.retry_at.map(millis_value))
            .set_attribute(FINDINGS_ATTRIBUTE, json_value(KIND, &completion.findings)?)
            .set_attribute(ended_attribute, millis_value(now))
            .set_attribute(ENDED_AT_ATTRIBUTE, millis_value(now))
            .set_attribute(TTL_ATTRIBUTE, expiry_value(now, JOB_RETENTION_S))
            .with_condition(Condition::Equals(ID_ATTRIBUTE, Some(string_value(id))));
        self.update_item(update).await.map(drop)
    }
}
