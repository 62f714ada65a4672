//! Jobs: refreshes on demand, as they are told of afterwards.

use jiff::Timestamp;
use okra_core::{
    model::{fault::FaultClass, ids::RecordId, snapshot::Product},
    schedule::plan::JOB_CHUNK_PREFIX,
};
use okra_store::{Consistency, FAILED_OUTCOME, Job, JobFindings};
use okra_wire::{
    record::{ChangeCounts, FailureReason, LastJobStatus},
    scalar::IsoInstant,
};
use serde::Serialize;

use crate::{
    call::ApiRequest,
    envelope::{ApiError, ApiResponse, success_response},
    input::JOB,
};

/// What the id of a job says that was asked for all products.
pub(crate) const ALL_PRODUCTS: &str = "all";

/// Hexadecimal digits of a record's id.
const RECORD_DIGITS: usize = 24;

/// What all products of a job come to.
pub(crate) struct JobResult {
    /// The worst outcome of them; `None` while one has none.
    pub(crate) outcome: Option<String>,
    /// Why something could not be had; what the user has to mend before what passes.
    pub(crate) reason: Option<FaultClass>,
    /// All that they found.
    pub(crate) found_changes: ChangeCounts,
    /// From when on the bank may be asked again, where it said so.
    pub(crate) retry_at: Option<Timestamp>,
}

impl JobResult {
    pub(crate) fn from_jobs(jobs: &[&Job]) -> Self {
        let rank = |outcome: &str| match outcome {
            "unchanged" => 0,
            "changed" => 1,
            FAILED_OUTCOME => 3,
            _ => 2,
        };
        let outcomes: Option<Vec<&String>> = jobs.iter().map(|job| job.outcome.as_ref()).collect();
        let worst = outcomes.and_then(|all| all.into_iter().max_by_key(|it| rank(it)));
        let reasons = || jobs.iter().filter_map(|job| job.fault_class);
        // One chunk found what all of its products share.
        let found = jobs
            .iter()
            .fold(JobFindings::default(), |all, job| JobFindings {
                balances: all.balances.max(job.findings.balances),
                added: all.added.max(job.findings.added),
                modified: all.modified.max(job.findings.modified),
                removed: all.removed.max(job.findings.removed),
            });
        Self {
            outcome: worst.cloned(),
            reason: reasons()
                .find(|reason| reason.needs_user())
                .or_else(|| reasons().next()),
            found_changes: ChangeCounts {
                balances: found.balances,
                added: found.added,
                modified: found.modified,
                removed: found.removed,
            },
            retry_at: jobs.iter().filter_map(|job| job.retry_at).max(),
        }
    }
}

/// The refreshes on demand that a method of a record's callback data tells of, and when what they asked for
/// was last had and last not.
#[derive(Default)]
pub(crate) struct LastRefresh {
    pub(crate) job: Option<LastJobStatus>,
    pub(crate) succeeded_at: Option<Timestamp>,
    pub(crate) failed_at: Option<Timestamp>,
}

impl LastRefresh {
    /// Of one product, or of all: then those are left out that were asked of one alone.
    pub(crate) async fn load_for_record(
        request: &ApiRequest,
        record: RecordId,
        product: Option<Product>,
    ) -> Result<Self, ApiError> {
        let store = &request.services.store;
        let mut jobs = Vec::new();
        for product in product.map_or_else(|| Product::ALL.to_vec(), |it| vec![it]) {
            // Whoever was just told of a job finds it.
            let job = store.find_job(record, product, Consistency::Strong).await?;
            jobs.extend(job);
        }
        let of_all = format!("{JOB_CHUNK_PREFIX}{record}-{ALL_PRODUCTS}-");
        jobs.retain(|job| product.is_some() || job.id.starts_with(&of_all));
        let now = request.now();
        let summary = JobResult::from_jobs(&jobs.iter().collect::<Vec<_>>());
        Ok(Self {
            job: jobs.first().map(|first| LastJobStatus {
                job: first.id.clone(),
                is_running: jobs.iter().any(|job| job.is_running(now)),
                outcome: summary.outcome,
                reason: summary.reason,
            }),
            succeeded_at: jobs.iter().filter_map(|job| job.last_response_at).max(),
            failed_at: jobs.iter().filter_map(|job| job.last_failure_at).max(),
        })
    }
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Job))]
#[derive(Serialize)]
struct JobResponse {
    job: String,
    record: RecordId,
    products: Vec<Product>,
    /// `running`, `done`, or `lost`: nothing was heard of it for two minutes.
    state: &'static str,
    /// `unchanged`, `changed`, `failed` (a product had no answer), or `contended` (other refreshes committed
    /// what is newer); null while it runs.
    outcome: Option<String>,
    /// Why something of it could not be had; always there where it failed.
    reason: Option<FailureReason>,
    /// What it found that was new; null while it runs.
    changes: Option<ChangeCounts>,
    started_at: Option<IsoInstant>,
    ended_at: Option<IsoInstant>,
    /// From when on the bank may be asked again, where it said so.
    next_refresh_available_at: Option<IsoInstant>,
}

/// The record that a job's id names, and the product; all where it was asked for everything.
fn parse_job_id(job: &str) -> Option<(RecordId, Vec<Product>)> {
    let (record, asked) = job
        .strip_prefix(JOB_CHUNK_PREFIX)?
        .split_at_checked(RECORD_DIGITS)?;
    let name = asked.strip_prefix('-')?.split('-').next()?;
    let mut products = Product::ALL.to_vec();
    products.retain(|product| name == ALL_PRODUCTS || name == product.as_str());
    Some((record.parse().ok()?, products))
}

/// A refresh on demand: the last of its record and product, for 25 hours.
pub(crate) async fn get_job(request: &ApiRequest) -> ApiResponse {
    let job = request.input.require_text(JOB)?;
    let missing = || ApiError::not_found("job");
    let (record, asked) = parse_job_id(&job).ok_or_else(missing)?;
    let head = request
        .scope()?
        .load_own_record(record, Consistency::Eventual)
        .await;
    head.map_err(|refusal| refusal.for_resource("job"))?;
    let (mut jobs, mut products) = (Vec::new(), Vec::new());
    for product in asked {
        let last = request
            .services
            .store
            .find_job(record, product, Consistency::Strong);
        if let Some(last) = last.await?.filter(|last| last.id == job) {
            jobs.push(last);
            products.push(product);
        }
    }
    if jobs.is_empty() {
        return Err(missing());
    }
    let (now, summary) = (
        request.now(),
        JobResult::from_jobs(&jobs.iter().collect::<Vec<_>>()),
    );
    let state = match &summary.outcome {
        Some(_) => "done",
        None if jobs.iter().any(|job| job.is_running(now)) => "running",
        None => "lost",
    };
    let is_done = summary.outcome.is_some();
    let data = JobResponse {
        job,
        record,
        products,
        state,
        reason: summary.reason.filter(|_| is_done).map(FailureReason::from),
        changes: is_done.then_some(summary.found_changes),
        started_at: jobs
            .iter()
            .filter_map(|job| job.started_at)
            .min()
            .map(IsoInstant),
        ended_at: jobs
            .iter()
            .filter_map(|job| job.ended_at.filter(|_| is_done))
            .max()
            .map(IsoInstant),
        next_refresh_available_at: summary.retry_at.filter(|at| *at > now).map(IsoInstant),
        outcome: summary.outcome,
    };
    success_response("Job retrieved successfully", data)
}

documented! {
    get_job(JOB) -> JobResponse: "A refresh on demand: whether it runs, and what came of it.";
}
