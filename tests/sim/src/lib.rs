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
use cloud::Cloud;
use gate::Gate;
use okra_core::doubt::MOST_BELIEVED_AFTER;
use world::World;

pub use random::Random;

/// The simulation's DynamoDB alone, to be compared with another.
#[derive(Clone, Debug)]
pub struct TableService(Cloud);

impl Default for TableService {
    fn default() -> Self {
        Self::new()
    }
}

impl TableService {
    /// An empty table.
    pub fn new() -> Self {
        let gate = Gate::default();
        gate.set_open(true);
        Self(Cloud::new(gate, std::sync::Arc::new(|| 0)))
    }

    /// What an SDK uses in place of a connection to AWS.
    pub fn connector(&self) -> SharedHttpConnector {
        SharedHttpConnector::new(self.0.clone())
    }
}

/// What came of a world.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The laws that were broken, in words.
    pub broken: Vec<String>,
    /// What happened, line by line, where it was asked for.
    pub trace: Vec<String>,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Rounds of ticks in which a hold of an earlier fault ends; one that never ends is an account's that never
/// answers.
const MAX_ROUNDS_OF_HOLDS: usize = 3;

/// Runs the world of a seed.
///
/// # Panics
///
/// Where no runtime can be built.
pub fn run(seed: u64, keep_trace: bool) -> Report {
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
        world.storm().await;
        world.calm().await;
        world.end_consents().await;
        world.relink_all().await;
        world.tick_all().await;
        if world.weather.lacking > 0 {
            world.lack_nothing();
            world.tick_all().await;
        }
        // A consent that was replaced by an older one shows itself only now.
        world.relink_all().await;
        if world.weather.flips || world.weather.in_person {
            // What a bank showed twice around a crash is found by a strong read, and what it shows only
            // to its user by asking in person.
            world.ask_all().await;
        }
        // An account that never answers is reported step by step.
        for _ in 0..world.rounds_of_trouble() {
            world.tick_all().await;
        }
        // A bank that answered nonsense is left alone for minutes, and more where it did so again.
        for _ in 0..MAX_ROUNDS_OF_HOLDS {
            if !world.is_held().await {
                break;
            }
            world.tick_all().await;
        }
        // A bank that shows nothing more of an account is believed a day later.
        if world.is_doubted().await {
            let wait_ms = i64::try_from(MOST_BELIEVED_AFTER.as_millis()).unwrap_or(i64::MAX);
            world.pass(wait_ms).await;
            world.tick_all().await;
            if world.weather.in_person {
                world.ask_all().await;
            }
        }
        world.gate.set_open(true);
        world.check().await;
        world.gate.set_open(false);
        world.check_unchanged().await;
        world.rest_rules().await;
        world.gate.set_open(true);
        world.check().await;
        if world.weather.pause && !world.weather.ends {
            world.gate.set_open(false);
            world.sleep_for_months().await;
            world.gate.set_open(true);
            world.check().await;
        }
        world.broken.dedup();
        world.count_answers();
        Report {
            seed,
            broken: world.broken,
            counts: world.counts,
            trace: world.trace.into_lines(),
        }
    }))
}
