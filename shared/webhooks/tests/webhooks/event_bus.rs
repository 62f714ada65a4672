//! An event bus as an endpoint: deliveries like any other, ten in a call.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use okra_aws::{AwsConfig, Clock, EventBus};
use okra_core::{model::ids::Seq, resilience::rate_limiter::SendRate};
use okra_emulator::{AwsService, CallFate};
use okra_store::DeliveryState;
use okra_webhooks::{AddressPolicy, AttemptLimits, DeliverConfig, WebhookSender, endpoint_id};
use serde_json::Value;

use crate::support::{APP, DeliveryWorld, RECORD, START};

const ARN: &str = "arn:aws:events:eu-west-1:123456789012:event-bus/consumers";
const URL: &str = "eventbridge:consumers";
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

async fn bus_world() -> DeliveryWorld {
    let tls = okra_aws::rustls_client_config();
    let sender =
        WebhookSender::new(tls, AddressPolicy::PublicOnly, AttemptLimits::default()).unwrap();
    let config = DeliverConfig {
        default_rate: SendRate::from_per_second(1000),
        ..DeliverConfig::new("https://okra.example")
    };
    let bus = |world: &DeliveryWorld| {
        let aws = AwsConfig::with_http_client(world.emulator.http_client());
        EventBus::new(aws.eventbridge_client(), ARN)
    };
    let clock = Clock::manual_at(START.parse().unwrap());
    let mut world = DeliveryWorld::with_sender(clock, sender.clone(), config).await;
    let sender = sender.with_bus(bus(&world));
    world.replace_sender(sender);
    world.add_endpoint_at(URL).await;
    world
}

/// The events on the bus, by their place in the feed, each as often as it was put.
fn seqs_on_bus(world: &DeliveryWorld) -> Vec<u64> {
    let mut places: Vec<u64> = world
        .emulator
        .taken_events()
        .iter()
        .map(|entry| {
            assert_eq!(entry["EventBusName"], ARN);
            assert_eq!(
                (&entry["Source"], &entry["DetailType"]),
                (&"okra-sync".into(), &"balance.success".into())
            );
            let detail = entry["Detail"].as_str().unwrap();
            assert_eq!(
                okra_wire::documented::check_documented_body(detail.as_bytes()),
                Ok(())
            );
            let detail: Value = serde_json::from_str(detail).unwrap();
            detail["sequence"].as_u64().unwrap()
        })
        .collect();
    places.sort_unstable();
    places
}

async fn delivery_states(world: &DeliveryWorld) -> BTreeSet<(u64, &'static str)> {
    let mut states = BTreeSet::new();
    let last = world
        .store
        .find_head(RECORD, okra_store::Consistency::Strong)
        .await
        .unwrap()
        .unwrap()
        .seq;
    for seq in 1..=last.0 {
        let entry = world
            .store
            .find_feed_entry(RECORD, Seq(seq))
            .await
            .unwrap()
            .unwrap();
        let key = okra_store::DeliveryKey {
            endpoint: endpoint_id(APP, URL),
            committed_at: entry.committed_at,
            source: RECORD.into(),
            seq: Seq(seq),
        };
        let row = world.store.find_delivery(&key).await.unwrap();
        states.insert((seq, row.map_or("none", |row| row.state.as_str())));
    }
    states
}

fn all_in_state(last: u64, state: DeliveryState) -> BTreeSet<(u64, &'static str)> {
    (1..=last).map(|seq| (seq, state.as_str())).collect()
}

#[tokio::test]
async fn events_are_put_ten_in_a_call() {
    let world = bus_world().await;
    let dispatch = world.commit_balances(32).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.delivered, 32);
    assert_eq!(seqs_on_bus(&world), (1..=32).collect::<Vec<_>>());
    let calls = world
        .emulator
        .call_count(AwsService::EventBridge, "PutEvents");
    assert!(calls <= 5, "{calls} calls");
    assert_eq!(
        delivery_states(&world).await,
        all_in_state(32, DeliveryState::Delivered)
    );
}

#[tokio::test]
async fn only_the_failed_events_of_a_call_are_retried() {
    let world = bus_world().await;
    let calls = std::sync::atomic::AtomicUsize::new(0);
    world.emulator.inject_fates(move |service, operation| {
        let first = service == AwsService::EventBridge
            && operation == "PutEvents"
            && calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        if first {
            CallFate::ServeFirstHalf
        } else {
            CallFate::Serve
        }
    });
    let dispatch = world.commit_balances(8).await;
    let report = world.deliver_dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.retry_scheduled), (4, 4));
    let failed = world
        .all_attempts()
        .into_iter()
        .find(|it| !it.outcome.is_ok())
        .unwrap();
    assert_eq!(
        (failed.outcome.as_str(), failed.host.as_str()),
        ("throttled", "eventbridge")
    );
    world.pass_time(MINUTE * 3, MINUTE).await;
    assert_eq!(seqs_on_bus(&world), (1..=8).collect::<Vec<_>>());
    assert_eq!(
        delivery_states(&world).await,
        all_in_state(8, DeliveryState::Delivered)
    );
}

#[tokio::test]
async fn a_bus_that_is_gone_has_its_events_parked_and_gets_them_all() {
    let world = bus_world().await;
    world.emulator.inject_fates(|service, _| match service {
        AwsService::EventBridge => CallFate::Fail,
        _ => CallFate::Serve,
    });
    let dispatch = world.commit_balances(12).await;
    world.deliver_dispatch(&dispatch).await;
    let endpoint = endpoint_id(APP, URL);
    let is_parked = || async {
        world
            .store
            .load_endpoint_health(endpoint)
            .await
            .unwrap()
            .health
            .breaker()
            .is_open()
    };
    assert!(is_parked().await);
    world.emulator.inject_fates(|_, _| CallFate::Serve);
    world.pass_time(MINUTE * 35, MINUTE).await;
    assert!(!is_parked().await);
    assert_eq!(seqs_on_bus(&world), (1..=12).collect::<Vec<_>>());
}

#[tokio::test]
async fn another_bus_than_the_deployments_gets_nothing() {
    let world = bus_world().await;
    world.add_endpoint_at("eventbridge:elsewhere").await;
    let dispatch = world.commit_balances(1).await;
    let report = world.deliver_dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.retry_scheduled), (1, 1));
    let outcomes: BTreeSet<_> = world
        .all_attempts()
        .iter()
        .map(|it| it.outcome.as_str())
        .collect();
    assert_eq!(outcomes, ["blocked", "ok"].into());
    assert_eq!(seqs_on_bus(&world), [1]);
}
