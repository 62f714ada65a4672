//! The call on jobs, which are refreshes on demand seen afterwards. What they are is in [`okra_app::jobs`].

use okra_app::jobs::{JobDetails, JobState};
use okra_core::model::{ids::RecordId, snapshot::Product};
use okra_store::JobFindings;
use okra_wire::{
    record::{ChangeCounts, FailureReason},
    scalar::IsoInstant,
};
use serde::Serialize;

use crate::http::{
    envelope::{ApiResponse, success_response},
    input::JOB,
    request::ApiRequest,
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Job))]
#[derive(Serialize)]
struct JobResponse {
    job: String,
    record: RecordId,
    products: Vec<Product>,
    /// `running`, `done`, or `lost`: it reported nothing for two minutes.
    state: &'static str,
    /// `unchanged`, `changed`, `failed` (a product could not be fetched), or `contended` (another refresh committed
    /// newer data); null while it runs.
    outcome: Option<String>,
    /// Why something could not be fetched; always there where it failed.
    reason: Option<FailureReason>,
    /// How much it found that was new; null while it runs.
    changes: Option<ChangeCounts>,
    started_at: Option<IsoInstant>,
    ended_at: Option<IsoInstant>,
    /// From when on the bank may be called again, where it said so.
    next_refresh_available_at: Option<IsoInstant>,
}

/// What a job found, as Okra's shape has it.
pub(crate) const fn count_changes(findings: JobFindings) -> ChangeCounts {
    ChangeCounts {
        balances: findings.balances,
        added: findings.added,
        modified: findings.modified,
        removed: findings.removed,
    }
}

pub(crate) async fn get_job(request: &ApiRequest) -> ApiResponse {
    let id = request.input.require_text(JOB)?;
    let job: JobDetails = request.scope()?.load_job(&id).await?;
    let (is_done, now) = (job.state == JobState::Done, request.now());
    let result = job.result;
    let data = JobResponse {
        job: job.id,
        record: job.record,
        products: job.products,
        state: job.state.as_str(),
        reason: result.reason.filter(|_| is_done).map(FailureReason::from),
        changes: is_done.then(|| count_changes(result.findings)),
        started_at: job.started_at.map(IsoInstant),
        ended_at: job.ended_at.map(IsoInstant),
        next_refresh_available_at: result.retry_at.filter(|at| *at > now).map(IsoInstant),
        outcome: result.outcome,
    };
    success_response("Job retrieved successfully", data)
}

routes! {
    Both Key [Ours "jobs/get"] => get_job(JOB) -> JobResponse:
        "Returns a refresh on demand: whether it runs, and its outcome.";
}
