//! An event bus as an endpoint: deliveries like any other, ten in a call.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use okra_aws::{AwsConfig, Bus, Clock};
use okra_core::{health::Circuit, ids::Seq, pace::Rate};
use okra_emulator::{Fate, Service};
use okra_store::DeliveryState;
use okra_webhooks::{AddressPolicy, DeliverConfig, Limits, Sender, endpoint_id};
use serde_json::Value;

use crate::support::{APP, RECORD, START, World};

const ARN: &str = "arn:aws:events:eu-west-1:123456789012:event-bus/consumers";
const URL: &str = "eventbridge:consumers";
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

async fn world() -> World {
    let tls = okra_aws::rustls_client_config();
    let sender = Sender::new(tls, AddressPolicy::PublicOnly, Limits::default()).unwrap();
    let config = DeliverConfig {
        rate: Rate::of(1000),
        ..DeliverConfig::new("https://okra.example")
    };
    let bus = |world: &World| {
        let aws = AwsConfig::with_http_client(world.emulator.http_client());
        Bus::new(aws.eventbridge(), ARN)
    };
    let clock = Clock::driven(START.parse().unwrap());
    let mut world = World::sending_by(clock, sender.clone(), config).await;
    let sender = sender.with_bus(bus(&world));
    world.send_by(sender);
    world.endpoint_at(URL).await;
    world
}

/// The events on the bus, by their place in the feed, each as often as it was put.
fn put(world: &World) -> Vec<u64> {
    let mut places: Vec<u64> = world
        .emulator
        .events()
        .iter()
        .map(|entry| {
            assert_eq!(entry["EventBusName"], ARN);
            assert_eq!(
                (&entry["Source"], &entry["DetailType"]),
                (&"okra-sync".into(), &"balance.success".into())
            );
            let detail = entry["Detail"].as_str().unwrap();
            assert_eq!(okra_wire::documented::check(detail.as_bytes()), Ok(()));
            let detail: Value = serde_json::from_str(detail).unwrap();
            detail["sequence"].as_u64().unwrap()
        })
        .collect();
    places.sort_unstable();
    places
}

async fn states(world: &World) -> BTreeSet<(u64, &'static str)> {
    let mut states = BTreeSet::new();
    let last = world
        .store
        .head(RECORD, okra_store::Consistency::Strong)
        .await
        .unwrap()
        .unwrap()
        .seq;
    for seq in 1..=last.0 {
        let entry = world.store.entry(RECORD, Seq(seq)).await.unwrap().unwrap();
        let key = okra_store::DeliveryKey {
            endpoint: endpoint_id(APP, URL),
            at: entry.at,
            source: RECORD.into(),
            seq: Seq(seq),
        };
        let row = world.store.delivery(&key).await.unwrap();
        states.insert((seq, row.map_or("none", |row| row.state.as_str())));
    }
    states
}

fn all(last: u64, state: DeliveryState) -> BTreeSet<(u64, &'static str)> {
    (1..=last).map(|seq| (seq, state.as_str())).collect()
}

#[tokio::test]
async fn events_are_put_ten_in_a_call() {
    let world = world().await;
    let dispatch = world.commit_balances(32).await;
    assert_eq!(world.dispatch(&dispatch).await.delivered, 32);
    assert_eq!(put(&world), (1..=32).collect::<Vec<_>>());
    let calls = world.emulator.calls(Service::EventBridge, "PutEvents");
    assert!(calls <= 5, "{calls} calls");
    assert_eq!(states(&world).await, all(32, DeliveryState::Delivered));
}

#[tokio::test]
async fn what_fails_of_a_call_is_tried_again_and_nothing_else() {
    let world = world().await;
    let calls = std::sync::atomic::AtomicUsize::new(0);
    world.emulator.inject(move |service, operation| {
        let first = service == Service::EventBridge
            && operation == "PutEvents"
            && calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        if first { Fate::Partial } else { Fate::Pass }
    });
    let dispatch = world.commit_balances(8).await;
    let report = world.dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.deferred), (4, 4));
    let failed = world
        .attempts()
        .into_iter()
        .find(|it| !it.outcome.is_ok())
        .unwrap();
    assert_eq!(
        (failed.outcome.as_str(), failed.host.as_str()),
        ("throttled", "eventbridge")
    );
    world.pass(MINUTE * 3, MINUTE).await;
    assert_eq!(put(&world), (1..=8).collect::<Vec<_>>());
    assert_eq!(states(&world).await, all(8, DeliveryState::Delivered));
}

#[tokio::test]
async fn a_bus_that_is_gone_has_its_events_parked_and_gets_them_all() {
    let world = world().await;
    world.emulator.inject(|service, _| match service {
        Service::EventBridge => Fate::Fail,
        _ => Fate::Pass,
    });
    let dispatch = world.commit_balances(12).await;
    world.dispatch(&dispatch).await;
    let endpoint = endpoint_id(APP, URL);
    let circuit = || async { world.store.health(endpoint).await.unwrap().health.circuit };
    assert!(matches!(circuit().await, Circuit::Open { .. }));
    world.emulator.inject(|_, _| Fate::Pass);
    world.pass(MINUTE * 35, MINUTE).await;
    assert_eq!(circuit().await, Circuit::Closed);
    assert_eq!(put(&world), (1..=12).collect::<Vec<_>>());
}

#[tokio::test]
async fn another_bus_than_the_deployments_gets_nothing() {
    let world = world().await;
    world.endpoint_at("eventbridge:elsewhere").await;
    let dispatch = world.commit_balances(1).await;
    let report = world.dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.deferred), (1, 1));
    let outcomes: BTreeSet<_> = world
        .attempts()
        .iter()
        .map(|it| it.outcome.as_str())
        .collect();
    assert_eq!(outcomes, ["blocked", "ok"].into());
    assert_eq!(put(&world), [1]);
}
