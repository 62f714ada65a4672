//! Unchanged refreshes end to end: connector, loopback HTTP, sandbox bank, embedded DynamoDB, with
//! 100-transaction records. Budget: at least 1,000 a second on 2 cores; 0 write units and at most 0.55
//! read units each. `cargo bench -p okra-refresh`
#![expect(clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/refresh/world.rs"]
#[expect(dead_code, reason = "the tests' world does more than is measured here")]
mod world;

use std::time::Instant;

use okra_core::model::interval::Interval;
use okra_sandbox::Volume;

use self::world::RefreshWorld;

/// Records refreshed.
const RECORDS: usize = 400;

/// Times each is refreshed.
const ROUNDS: usize = 20;

#[expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark's report"
)]
fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = RefreshWorld::new().await;
        let mut linked = Vec::new();
        for _ in 0..RECORDS {
            linked.push(
                world
                    .link_on_interval(Interval::OneMinute, 1, Volume::Medium)
                    .await,
            );
        }
        let first = world.refresh_all_records().await;
        assert_eq!(first.changed, RECORDS);
        let before = world.store.capacity_used();
        let started = Instant::now();
        let mut unchanged = 0;
        for _ in 0..ROUNDS {
            unchanged += world.refresh_all_records().await.unchanged;
        }
        let elapsed = started.elapsed().as_secs_f64();
        let after = world.store.capacity_used();
        assert_eq!(unchanged, RECORDS * ROUNDS);
        let each = |units: f64| units / unchanged as f64;
        println!(
            "unchanged refreshes      {:.0} a second",
            unchanged as f64 / elapsed
        );
        println!(
            "write units for each     {:.4}",
            each(after.write_units - before.write_units)
        );
        println!(
            "read units for each      {:.4}",
            each(after.read_units - before.read_units)
        );
    });
}
