//! The deterministic simulation: the real code of refreshes, deliveries and the API in a world whose
//! time, order and faults follow from a seed.
//!
//! ```text
//! seed -> weather -> storm (jobs, effects in any order, crashes, faults, banks that move) -> calm -> laws
//! ```
//!
//! A process (an invocation of a function, or a call of the API) is a future. Every effect it has passes
//! the [`gate`] before it happens and before its answer arrives; at each of these points the world may let
//! it pass, let it fail, or let the process die. So every kill point between two effects is reached, and
//! every interleaving of processes.

mod bank;
mod cloud;
pub mod costs;
mod expression;
mod gate;
mod laws;
pub mod prices;
mod random;
mod receiver;
pub mod scale;
mod table;
mod trace;
mod world;

use std::collections::BTreeMap;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use cloud::SimCloud;
use gate::EffectScheduler;
use okra_core::sync::pending_deletions::CONFIRM_MOST_AFTER;
use world::World;

pub use random::SimRandom;

/// The simulation's DynamoDB alone, to be compared with another.
#[derive(Clone, Debug)]
pub struct TableService(SimCloud);

impl Default for TableService {
    fn default() -> Self {
        Self::new()
    }
}

impl TableService {
    /// An empty table.
    pub fn new() -> Self {
        let gate = EffectScheduler::default();
        gate.set_bypassed(true);
        Self(SimCloud::new(gate, std::sync::Arc::new(|| 0)))
    }

    /// What an SDK uses in place of a connection to AWS.
    pub fn connector(&self) -> SharedHttpConnector {
        SharedHttpConnector::new(self.0.clone())
    }
}

/// What came of a world.
#[derive(Clone, Debug)]
pub struct WorldReport {
    /// Its seed.
    pub seed: u64,
    /// The laws that were broken, in words.
    pub violations: Vec<String>,
    /// What happened, line by line, where it was asked for.
    pub trace: Vec<String>,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Rounds of ticks in which a hold of an earlier fault ends; one that never ends is an account's that never
/// answers.
const MAX_SUSPENSION_ROUNDS: usize = 3;

/// Runs the world of a seed.
///
/// # Panics
///
/// Where no runtime can be built.
pub fn run_world(seed: u64, keep_trace: bool) -> WorldReport {
    // The SDKs draw the jitter of their retries from here.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    runtime.block_on(Box::pin(async {
        let mut world = World::new(seed, keep_trace).await;
        world.run_fault_phase().await;
        world.run_to_quiescence().await;
        world.expire_consents().await;
        world.relink_revoked_records().await;
        world.tick_all_due_entries().await;
        if world.fault_profile.omission_permille > 0 {
            world.stop_omitting_rows();
            world.tick_all_due_entries().await;
        }
        // A consent that was replaced by an older one shows itself only now.
        world.relink_revoked_records().await;
        if world.fault_profile.banks_flip_back || world.fault_profile.user_present_only {
            // What a bank showed twice around a crash is found by a strong read, and what it shows only
            // to its user by asking in person.
            world.refresh_all_user_present().await;
        }
        // An account that never answers is reported step by step.
        for _ in 0..world.fault_report_rounds() {
            world.tick_all_due_entries().await;
        }
        // A bank that answered nonsense is left alone for minutes, and more where it did so again.
        for _ in 0..MAX_SUSPENSION_ROUNDS {
            if !world.has_suspended_products().await {
                break;
            }
            world.tick_all_due_entries().await;
        }
        // A bank that shows nothing more of an account is believed a day later.
        if world.has_pending_deletions().await {
            let wait_ms = i64::try_from(CONFIRM_MOST_AFTER.as_millis()).unwrap_or(i64::MAX);
            world.advance_time(wait_ms).await;
            world.tick_all_due_entries().await;
            if world.fault_profile.user_present_only {
                world.refresh_all_user_present().await;
            }
        }
        world.scheduler.set_bypassed(true);
        world.check_invariants().await;
        world.scheduler.set_bypassed(false);
        world.check_unchanged_round().await;
        world.disable_idle_rules().await;
        world.scheduler.set_bypassed(true);
        world.check_invariants().await;
        if world.fault_profile.pauses_for_months && !world.fault_profile.consents_expire {
            world.scheduler.set_bypassed(false);
            world.pause_for_months().await;
            world.scheduler.set_bypassed(true);
            world.check_invariants().await;
        }
        world.violations.dedup();
        world.count_omissions();
        WorldReport {
            seed,
            violations: world.violations,
            counts: world.event_counts,
            trace: world.trace.into_lines(),
        }
    }))
}
