//! Deliveries per second: from a dispatch to the recorded answer of a receiver on this host, over an
//! engine in memory. The receiver runs in the same process and shares its cores.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../tests/webhooks/support/mod.rs"]
mod support;

use divan::{Bencher, counter::ItemsCount};
use support::{DeliveryWorld, TestReceiver};
use tokio::runtime;

/// Events in one dispatch.
const EVENTS: u64 = 32;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 8], sample_count = 50, sample_size = 1)]
fn dispatches_at_once(bencher: Bencher<'_, '_>, dispatches: u64) {
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let world = runtime.block_on(async {
        let world = DeliveryWorld::new().await;
        let receiver = TestReceiver::with_statuses(&[]).await;
        world.add_endpoint(&receiver, &[], None).await;
        world
    });
    let committed = || {
        runtime.block_on(async {
            let mut committed = Vec::new();
            for _ in 0..dispatches {
                committed.push(world.commit_balances(EVENTS).await);
            }
            committed
        })
    };
    bencher
        .counter(ItemsCount::new(dispatches * EVENTS))
        .with_inputs(committed)
        .bench_refs(|committed| {
            let all = committed
                .iter()
                .map(|dispatch| world.deliver_dispatch(dispatch));
            runtime.block_on(futures::future::join_all(all))
        });
}
