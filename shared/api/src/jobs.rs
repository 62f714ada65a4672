//! Jobs: refreshes on demand, as they are told of afterwards.

use jiff::Timestamp;
use okra_core::{fault::FaultClass, ids::RecordId, model::Product, plan::JOB_PREFIX};
use okra_store::{Consistency, FAILED, Found, Job};
use okra_wire::{
    record::{FoundChanges, LastJob, Reason},
    scalar::Instant,
};
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    input::JOB,
};

/// What the id of a job says that was asked for all products.
pub(crate) const ALL: &str = "all";

/// Hexadecimal digits of a record's id.
const RECORD_DIGITS: usize = 24;

/// What all products of a job come to.
pub(crate) struct Summary {
    /// The worst outcome of them; `None` while one has none.
    pub(crate) outcome: Option<String>,
    /// Why something could not be had; what the user has to mend before what passes.
    pub(crate) reason: Option<FaultClass>,
    /// All that they found.
    pub(crate) found: FoundChanges,
    /// From when on the bank may be asked again, where it said so.
    pub(crate) retry_at: Option<Timestamp>,
}

impl Summary {
    pub(crate) fn of(jobs: &[&Job]) -> Self {
        let rank = |outcome: &str| match outcome {
            "unchanged" => 0,
            "changed" => 1,
            FAILED => 3,
            _ => 2,
        };
        let outcomes: Option<Vec<&String>> = jobs.iter().map(|job| job.outcome.as_ref()).collect();
        let worst = outcomes.and_then(|all| all.into_iter().max_by_key(|it| rank(it)));
        let reasons = || jobs.iter().filter_map(|job| job.reason);
        // One chunk found what all of its products share.
        let found = jobs.iter().fold(Found::default(), |all, job| Found {
            balances: all.balances.max(job.found.balances),
            added: all.added.max(job.found.added),
            modified: all.modified.max(job.found.modified),
            removed: all.removed.max(job.found.removed),
        });
        Self {
            outcome: worst.cloned(),
            reason: reasons()
                .find(|reason| reason.needs_user())
                .or_else(|| reasons().next()),
            found: FoundChanges {
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
pub(crate) struct Last {
    pub(crate) job: Option<LastJob>,
    pub(crate) answered_at: Option<Timestamp>,
    pub(crate) failed_at: Option<Timestamp>,
}

impl Last {
    /// Of one product, or of all: then those are left out that were asked of one alone.
    pub(crate) async fn of(
        call: &Call,
        record: RecordId,
        product: Option<Product>,
    ) -> Result<Self, Refusal> {
        let store = &call.state.store;
        let mut jobs = Vec::new();
        for product in product.map_or_else(|| Product::ALL.to_vec(), |it| vec![it]) {
            // Whoever was just told of a job finds it.
            let job = store.job(record, product, Consistency::Strong).await?;
            jobs.extend(job);
        }
        let of_all = format!("{JOB_PREFIX}{record}-{ALL}-");
        jobs.retain(|job| product.is_some() || job.id.starts_with(&of_all));
        let now = call.now();
        let summary = Summary::of(&jobs.iter().collect::<Vec<_>>());
        Ok(Self {
            job: jobs.first().map(|first| LastJob {
                job: first.id.clone(),
                running: jobs.iter().any(|job| job.is_running(now)),
                outcome: summary.outcome,
                reason: summary.reason,
            }),
            answered_at: jobs.iter().filter_map(|job| job.answered_at).max(),
            failed_at: jobs.iter().filter_map(|job| job.failed_at).max(),
        })
    }
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Job))]
#[derive(Serialize)]
struct Shown {
    job: String,
    record: RecordId,
    products: Vec<Product>,
    /// `running`, `done`, or `lost`: nothing was heard of it for two minutes.
    state: &'static str,
    /// `unchanged`, `changed`, `failed` (a product had no answer), or `contended` (other refreshes committed
    /// what is newer); null while it runs.
    outcome: Option<String>,
    /// Why something of it could not be had; always there where it failed.
    reason: Option<Reason>,
    /// What it found that was new; null while it runs.
    changes: Option<FoundChanges>,
    started_at: Option<Instant>,
    ended_at: Option<Instant>,
    /// From when on the bank may be asked again, where it said so.
    next_refresh_available_at: Option<Instant>,
}

/// The record that a job's id names, and the product; all where it was asked for everything.
fn named(job: &str) -> Option<(RecordId, Vec<Product>)> {
    let (record, asked) = job
        .strip_prefix(JOB_PREFIX)?
        .split_at_checked(RECORD_DIGITS)?;
    let name = asked.strip_prefix('-')?.split('-').next()?;
    let mut products = Product::ALL.to_vec();
    products.retain(|product| name == ALL || name == product.as_str());
    Some((record.parse().ok()?, products))
}

/// A refresh on demand: the last of its record and product, for 25 hours.
pub(crate) async fn get(call: &Call) -> Answer {
    let job = call.input.needed_text(JOB)?;
    let missing = || Refusal::not_found("job");
    let (record, asked) = named(&job).ok_or_else(missing)?;
    let head = call.own_record(record, Consistency::Eventual).await;
    head.map_err(|refusal| refusal.about("job"))?;
    let (mut jobs, mut products) = (Vec::new(), Vec::new());
    for product in asked {
        let last = call.state.store.job(record, product, Consistency::Strong);
        if let Some(last) = last.await?.filter(|last| last.id == job) {
            jobs.push(last);
            products.push(product);
        }
    }
    if jobs.is_empty() {
        return Err(missing());
    }
    let (now, summary) = (call.now(), Summary::of(&jobs.iter().collect::<Vec<_>>()));
    let state = match &summary.outcome {
        Some(_) => "done",
        None if jobs.iter().any(|job| job.is_running(now)) => "running",
        None => "lost",
    };
    let is_done = summary.outcome.is_some();
    let data = Shown {
        job,
        record,
        products,
        state,
        reason: summary.reason.filter(|_| is_done).map(Reason::from),
        changes: is_done.then_some(summary.found),
        started_at: jobs
            .iter()
            .filter_map(|job| job.started_at)
            .min()
            .map(Instant),
        ended_at: jobs
            .iter()
            .filter_map(|job| job.done_at.filter(|_| is_done))
            .max()
            .map(Instant),
        next_refresh_available_at: summary.retry_at.filter(|at| *at > now).map(Instant),
        outcome: summary.outcome,
    };
    success("Job retrieved successfully", data)
}

documented! {
    get(JOB) -> Shown: "A refresh on demand: whether it runs, and what came of it.";
}
