//! Jobs: refreshes on demand of one product of a record. A second request joins the one that runs.

use jiff::{SignedDuration, Timestamp};
use okra_core::{ids::RecordId, model::Product};

use crate::{
    Consistency, Store, StoreError,
    expression::{Update, When},
    item::{Attributes, Draft, Key, Reader, TTL, millis, n, s, ttl},
    records,
};

const KIND: &str = "job";
const ID: &str = "id";
/// Until when a job counts as running; 0 once it is done.
const UNTIL: &str = "u";
const OUTCOME: &str = "o";
const DONE_AT: &str = "d";

/// How long a job counts as running: whoever ran it has crashed then.
const RUNNING_FOR: SignedDuration = SignedDuration::from_secs(120);

/// Seconds that a job is remembered.
const KEPT_S: i64 = 24 * 60 * 60;

/// A refresh on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id: that of the chunk which does it.
    pub id: String,
    /// What came of it; `None` while it runs.
    pub outcome: Option<String>,
    /// When it was done.
    pub done_at: Option<Timestamp>,
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
        done_at: reader.optional(DONE_AT, Reader::millis)?,
    })
}

impl Store {
    /// Begins a job, where none of this record and product is running. False where one is: join it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn begin_job(
        &self,
        record: RecordId,
        product: Product,
        id: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let until = now.saturating_add(RUNNING_FOR).unwrap_or(now);
        let item = Draft::new(key(record, product))
            .with(ID, s(id))
            .with(UNTIL, millis(until))
            .expiring(now, KEPT_S)
            .done();
        self.put_when(item, vec![When::AbsentOrBelow(UNTIL, millis(now))])
            .await
    }

    /// The last job of a record and product; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn job(&self, record: RecordId, product: Product) -> Result<Option<Job>, StoreError> {
        let item = self.get(key(record, product), Consistency::Strong).await?;
        item.as_ref().map(read).transpose()
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
        outcome: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let update = Update::new(key(record, product))
            .set(UNTIL, n(0))
            .set(OUTCOME, s(outcome))
            .set(DONE_AT, millis(now))
            .set(TTL, ttl(now, KEPT_S))
            .when(When::Is(ID, Some(s(id))));
        self.update(update).await.map(drop)
    }
}
