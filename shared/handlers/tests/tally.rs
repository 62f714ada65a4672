//! Counts cost a write a minute, however much is counted.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use okra_aws::{AwsConfig, Clock};
use okra_core::model::ids::{AppId, BankId, RecordId};
use okra_emulator::Emulator;
use okra_handlers::{MetricsCollector, metrics::names};
use okra_refresh::{RefreshObserver, RefreshOutcome, RefreshReport};
use okra_store::{CapacityUsed, Store};

const REFRESHES: u64 = 100;

async fn store() -> Store {
    let emulator = Emulator::in_memory(Clock::system()).unwrap();
    let aws = AwsConfig::with_http_client(emulator.http_client());
    let store = Store::new(aws.dynamodb_client(), "okra");
    store.create_table().await.unwrap();
    store
}

const APP: AppId = AppId::from_bytes([1; 12]);
const OTHER: AppId = AppId::from_bytes([2; 12]);

fn unchanged(tally: &MetricsCollector, app: AppId, refreshes: u64) {
    for _ in 0..refreshes {
        tally.on_record_refreshed(&RefreshReport {
            record: RecordId::derive(&[b"record"]),
            app: Some(app),
            bank: BankId::derive(&[b"bank"]),
            products: Vec::new(),
            outcome: RefreshOutcome::Unchanged,
            faults: Vec::new(),
            elapsed_ms: 1,
        });
    }
}

/// What was counted of an app in the minute of `at`.
async fn counted(store: &Store, app: AppId, at: Timestamp) -> BTreeMap<String, u64> {
    let minute = u64::try_from(at.as_second() / 60).unwrap();
    let counts = store.list_counts(app, minute, minute).await.unwrap();
    counts.into_iter().flat_map(|it| it.by_name).collect()
}

#[tokio::test]
async fn a_minute_costs_one_write_and_its_refreshes_none() {
    let (store, tally) = (store().await, MetricsCollector::default());
    let start: Timestamp = "2026-03-15T12:00:05Z".parse().unwrap();
    let after = |seconds: i64| start + SignedDuration::from_secs(seconds);

    let before = store.capacity_used();
    for second in 0..50 {
        tally.flush_previous_minutes(&store, after(second)).await;
        unchanged(&tally, APP, REFRESHES);
    }
    assert_eq!(store.capacity_used() - before, CapacityUsed::default());

    let before = store.capacity_used();
    tally.flush_previous_minutes(&store, after(60)).await;
    assert!((store.capacity_used() - before).write_units <= 1.0);
    assert_eq!(
        counted(&store, APP, start).await[names::UNCHANGED],
        50 * REFRESHES
    );
    assert!(counted(&store, APP, after(60)).await.is_empty());

    // What is counted from now on is of the new minute, whenever the next event comes.
    unchanged(&tally, APP, 1);
    let read = store.capacity_used();
    tally.flush_previous_minutes(&store, after(600)).await;
    let next = counted(&store, APP, after(60)).await;
    assert_eq!(next[names::UNCHANGED], 1);
    assert!(next[names::HALF_READ_UNITS] > 0, "{read:?}");

    // A minute in which nothing was counted costs nothing.
    let before = store.capacity_used();
    tally.flush_previous_minutes(&store, after(1200)).await;
    assert_eq!(store.capacity_used() - before, CapacityUsed::default());
}

/// Each app sees what was done for it, and the share of the capacity that it has in the work.
#[tokio::test]
async fn apps_are_counted_apart() {
    let (store, tally) = (store().await, MetricsCollector::default());
    let now: Timestamp = "2026-03-15T12:00:05Z".parse().unwrap();
    for _ in 0..20 {
        store.add_counts(APP, now, &[("used", 1)]).await.unwrap();
    }
    unchanged(&tally, APP, 30);
    unchanged(&tally, OTHER, 10);
    tally.flush_counts(&store, now).await;
    let (own, other) = (
        counted(&store, APP, now).await,
        counted(&store, OTHER, now).await,
    );
    assert_eq!(own[names::UNCHANGED], 30);
    assert_eq!(other[names::UNCHANGED], 10);
    let used = |counts: &BTreeMap<String, u64>| counts[names::HALF_WRITE_UNITS];
    assert_eq!((used(&own), used(&other)), (30, 10));
    assert_eq!(
        counted(&store, AppId::from_bytes([3; 12]), now).await.len(),
        0
    );
}
