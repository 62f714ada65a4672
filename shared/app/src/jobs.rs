//! Refreshes on demand, seen afterwards: [`JobDetails`] of one, [`LastRefresh`] of a record, and what the products of
//! a job come to together ([`JobResult`]).
//!
//! The rule: of each product of a record only the last job is known, for 25 hours. A job of all products ends as badly
//! as the worst of them, and of several reasons that one is shown that only the user can resolve.

use std::fmt;

use jiff::Timestamp;
use okra_core::model::{fault::FaultClass, ids::RecordId, interval::Interval, snapshot::Product};
use okra_store::{Consistency, FAILED_OUTCOME, Job, JobFindings};

use crate::{app_scope::AppScope, error::AppError};

/// What the id of every job begins with.
const ID_PREFIX: &str = "on-demand-";

/// What the id of a job has in the place of a product where it is of all.
const ALL_PRODUCTS: &str = "all";

/// Hexadecimal digits of a record's id.
const RECORD_DIGITS: usize = 24;

/// The name of a product, or of all.
pub(crate) fn job_product_name(product: Option<Product>) -> &'static str {
    product.map_or(ALL_PRODUCTS, Product::as_str)
}

/// The id of a new job, as a text.
pub(crate) struct NewJobId {
    pub(crate) record: RecordId,
    /// The product; `None` where it is of all.
    pub(crate) product: Option<Product>,
    pub(crate) interval: Interval,
    pub(crate) created_at: Timestamp,
}

impl fmt::Display for NewJobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (record, interval) = (self.record, self.interval);
        let product = job_product_name(self.product);
        let created_ms = self.created_at.as_millisecond();
        write!(f, "{ID_PREFIX}{record}-{product}-{interval}-{created_ms}")
    }
}

/// What the id of a job says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct JobTarget {
    record: RecordId,
    /// The product; `None` where it is of all.
    product: Option<Product>,
}

impl JobTarget {
    fn parse(job: &str) -> Option<Self> {
        let (record, rest) = job
            .strip_prefix(ID_PREFIX)?
            .split_at_checked(RECORD_DIGITS)?;
        let name = rest.strip_prefix('-')?.split('-').next()?;
        let product = match name {
            ALL_PRODUCTS => None,
            name => Some(Product::ALL.into_iter().find(|it| it.as_str() == name)?),
        };
        let record = record.parse().ok()?;
        Some(Self { record, product })
    }
}

/// What the products of a job come to together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobResult {
    /// The worst outcome of them; `None` while one has none.
    pub outcome: Option<String>,
    /// Why something could not be fetched.
    pub reason: Option<FaultClass>,
    /// All that they found.
    pub findings: JobFindings,
    /// From when on the bank may be called again, where it said so.
    pub retry_at: Option<Timestamp>,
}

impl JobResult {
    /// What these come to.
    pub fn from_jobs(jobs: &[&Job]) -> Self {
        let outcomes: Option<Vec<&String>> = jobs.iter().map(|job| job.outcome.as_ref()).collect();
        let worst = outcomes.and_then(|all| all.into_iter().max_by_key(|it| outcome_rank(it)));
        let reasons: Vec<FaultClass> = jobs.iter().filter_map(|job| job.fault_class).collect();
        let for_user = reasons.iter().find(|reason| reason.needs_user());
        // The products of one chunk share what it found.
        let findings = jobs
            .iter()
            .fold(JobFindings::default(), |all, job| JobFindings {
                balances: all.balances.max(job.findings.balances),
                added: all.added.max(job.findings.added),
                modified: all.modified.max(job.findings.modified),
                removed: all.removed.max(job.findings.removed),
            });
        Self {
            outcome: worst.cloned(),
            reason: for_user.or_else(|| reasons.first()).copied(),
            findings,
            retry_at: jobs.iter().filter_map(|job| job.retry_at).max(),
        }
    }
}

/// Outcomes from the best to the worst.
fn outcome_rank(outcome: &str) -> u8 {
    match outcome {
        "unchanged" => 0,
        "changed" => 1,
        FAILED_OUTCOME => 3,
        _ => 2,
    }
}

/// The last refresh on demand of a record, and when its data was last fetched and last not.
#[derive(Clone, Debug, Default)]
pub struct LastRefresh {
    /// The job.
    pub job: Option<LastJob>,
    /// When a job last fetched something.
    pub succeeded_at: Option<Timestamp>,
    /// When a job last failed to.
    pub failed_at: Option<Timestamp>,
}

/// The last job of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastJob {
    /// Its id.
    pub id: String,
    /// True while it runs.
    pub is_running: bool,
    /// Its outcome, once it is done.
    pub outcome: Option<String>,
    /// Why something could not be fetched.
    pub reason: Option<FaultClass>,
}

/// Whether a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It runs.
    Running,
    /// It is done.
    Done,
    /// It reported nothing for two minutes.
    Lost,
}

impl JobState {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Lost => "lost",
        }
    }
}

/// A refresh on demand.
#[derive(Clone, Debug)]
pub struct JobDetails {
    /// Its id.
    pub id: String,
    /// Its record.
    pub record: RecordId,
    /// Its products.
    pub products: Vec<Product>,
    /// Whether it runs.
    pub state: JobState,
    /// What it came to, as far as it is done.
    pub result: JobResult,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it was done.
    pub ended_at: Option<Timestamp>,
}

impl AppScope {
    /// The last refresh on demand of a product of a record; of all products, where none is named: then jobs of one
    /// product are left out. The caller has compared the record with the app.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn load_last_refresh(
        &self,
        record: RecordId,
        product: Option<Product>,
    ) -> Result<LastRefresh, AppError> {
        let mut jobs = Vec::new();
        for product in product.map_or_else(|| Product::ALL.to_vec(), |it| vec![it]) {
            // A strong read: whoever was just given the id of a job finds it.
            let job = self.store().find_job(record, product, Consistency::Strong);
            jobs.extend(job.await?);
        }
        let of_all = Some(JobTarget {
            record,
            product: None,
        });
        jobs.retain(|job| product.is_some() || JobTarget::parse(&job.id) == of_all);
        let now = self.now();
        let result = JobResult::from_jobs(&jobs.iter().collect::<Vec<_>>());
        Ok(LastRefresh {
            job: jobs.first().map(|first| LastJob {
                id: first.id.clone(),
                is_running: jobs.iter().any(|job| job.is_running(now)),
                outcome: result.outcome,
                reason: result.reason,
            }),
            succeeded_at: jobs.iter().filter_map(|job| job.last_response_at).max(),
            failed_at: jobs.iter().filter_map(|job| job.last_failure_at).max(),
        })
    }

    /// A refresh on demand, by its id.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where it is not the app's, or a later one has taken its place.
    pub async fn load_job(&self, id: &str) -> Result<JobDetails, AppError> {
        const NOT_FOUND: AppError = AppError::NotFound { what: "job" };
        let JobTarget { record, product } = JobTarget::parse(id).ok_or(NOT_FOUND)?;
        let head = self.load_own_record(record, Consistency::Eventual).await;
        head.map_err(|error| error.for_resource("job"))?;
        let (mut jobs, mut products) = (Vec::new(), Vec::new());
        for product in product.map_or_else(|| Product::ALL.to_vec(), |it| vec![it]) {
            let last = self.store().find_job(record, product, Consistency::Strong);
            if let Some(last) = last.await?.filter(|last| last.id == id) {
                jobs.push(last);
                products.push(product);
            }
        }
        if jobs.is_empty() {
            return Err(NOT_FOUND);
        }
        let (now, result) = (
            self.now(),
            JobResult::from_jobs(&jobs.iter().collect::<Vec<_>>()),
        );
        let state = match &result.outcome {
            Some(_) => JobState::Done,
            None if jobs.iter().any(|job| job.is_running(now)) => JobState::Running,
            None => JobState::Lost,
        };
        let ended_at = jobs.iter().filter_map(|job| job.ended_at).max();
        Ok(JobDetails {
            id: id.to_owned(),
            record,
            products,
            state,
            result,
            started_at: jobs.iter().filter_map(|job| job.started_at).min(),
            ended_at: ended_at.filter(|_| state == JobState::Done),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_job_says_what_it_refreshes() {
        let record = RecordId::from_bytes([7; 12]);
        for product in [None, Some(Product::Balance), Some(Product::Transactions)] {
            let id = NewJobId {
                record,
                product,
                interval: Interval::Daily,
                created_at: Timestamp::UNIX_EPOCH,
            };
            assert_eq!(
                JobTarget::parse(&id.to_string()),
                Some(JobTarget { record, product })
            );
        }
        for text in ["", "on-demand-", "first-070707070707070707070707-daily"] {
            assert_eq!(JobTarget::parse(text), None, "{text}");
        }
    }
}
