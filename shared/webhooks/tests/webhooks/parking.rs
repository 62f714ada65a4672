//! Endpoints that are down, disable themselves, or have a rate limit: their events wait, and are never lost.

use std::collections::HashSet;

use jiff::SignedDuration;
use okra_core::{
    delivery::endpoint_health::{
        DisableReason, EndpointHealth, MAX_PARKED_EVENTS, OPEN_AFTER_FAILURES,
    },
    model::snapshot::Product,
    resilience::{circuit_breaker::CircuitState, rate_limiter::SendRate},
};
use okra_emulator::{AwsService, CallFate};
use okra_queue::{DeliverMessage, DeliveryRetry, EndpointMaintenance};
use okra_store::DeliveryState;
use okra_webhooks::{DeliverError, DeliveryOutcome, MaintenanceOutcome, endpoint_id};
use serde_json::Value;

use crate::support::{APP, DeliveryWorld, RECORD, TestReceiver};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn maintenance_message(receiver: &TestReceiver) -> EndpointMaintenance {
    EndpointMaintenance {
        app: APP,
        endpoint: endpoint_id(APP, &receiver.url),
    }
}

/// The events that a receiver took, by their place in the feed.
fn received_seqs(receiver: &TestReceiver) -> HashSet<u64> {
    let of = |seq: &String| seq.parse().unwrap();
    receiver
        .header_values("okra-event-sequence")
        .iter()
        .map(of)
        .collect()
}

fn received_event_names(receiver: &TestReceiver) -> Vec<String> {
    let name = |(_, body): &(_, bytes::Bytes)| {
        let body: Value = serde_json::from_slice(body).unwrap();
        body["event"].as_str().unwrap().to_owned()
    };
    receiver.received_requests().iter().map(name).collect()
}

#[tokio::test]
async fn a_dead_endpoint_costs_attempts_by_time_and_gets_everything_when_it_is_back() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    let operator = TestReceiver::with_statuses(&[]).await;
    receiver.set_default_status(500);
    world.add_endpoint(&receiver, &[], None).await;
    world.add_endpoint(&operator, &[], None).await;
    world.set_event_filters(&operator, &["endpoint.*"]).await;

    // 150 events in five hours.
    for _ in 0..30 {
        let dispatch = world.commit_balances(5).await;
        world.deliver_dispatch(&dispatch).await;
        world.pass_time(MINUTE * 10, MINUTE * 2).await;
    }
    let health = world.load_health(&receiver).await;
    assert!(
        matches!(health.health.breaker().state(), CircuitState::Open { failed_probes, .. } if failed_probes >= 10)
    );
    assert_eq!(world.parked_seqs(&receiver).await.len(), 150);
    // Ten to open it, those under way meanwhile, six probes in an hour and two in each further one.
    let attempts = receiver.received_requests().len();
    assert!(
        attempts <= OPEN_AFTER_FAILURES as usize + 5 + 6 + 2 * 5,
        "{attempts}"
    );
    // The oldest asks whether it is back, with its number of attempts as it was.
    let (last, _) = receiver.received_requests().pop().unwrap();
    assert_eq!(last["okra-event-sequence"], "1");
    assert!(
        world
            .load_delivery(1, &receiver)
            .await
            .unwrap()
            .attempt_count
            <= 2
    );

    receiver.set_default_status(200);
    world.pass_time(MINUTE * 32, MINUTE * 2).await;
    assert_eq!(received_seqs(&receiver), (1..=150).collect());
    assert_eq!(world.parked_seqs(&receiver).await, [0_u64; 0]);
    for seq in [1, 75, 150] {
        let row = world.load_delivery(seq, &receiver).await.unwrap();
        assert_eq!(row.state, DeliveryState::Delivered);
    }
    let health = world.load_health(&receiver).await;
    assert_eq!(
        (health.health.breaker().is_open(), health.parked_count),
        (false, 0)
    );
    assert_eq!(
        received_event_names(&operator),
        ["endpoint.parked", "endpoint.recovered"]
    );
    // Each was taken once: nothing was delivered that had been.
    let ok = receiver.received_requests().len() - attempts;
    assert!(ok <= 150 + 1, "{ok}");
}

/// What is drained is sent at the endpoint's rate: neither faster, nor ever slower because events
/// that asked in vain had places.
#[tokio::test]
async fn what_was_parked_is_sent_at_the_endpoints_rate() {
    let world = DeliveryWorld::with_rate(SendRate::default()).await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    receiver.set_default_status(500);
    world.add_endpoint(&receiver, &[], None).await;
    for _ in 0..4 {
        let dispatch = world.commit_balances(32).await;
        world.deliver_dispatch(&dispatch).await;
        world.pass_time(MINUTE, MINUTE).await;
    }
    let parked = world.parked_seqs(&receiver).await.len();
    assert!(parked > 100, "{parked}");
    receiver.set_default_status(200);
    let mut seconds = 0;
    while !world.parked_seqs(&receiver).await.is_empty() {
        let before = receiver.request_count();
        let second = SignedDuration::from_secs(1);
        world.pass_time(second, second).await;
        let sent = receiver.request_count() - before;
        assert!(sent <= 50 + 25, "{sent} in a second");
        seconds += 1;
        assert!(
            seconds < 300 + 40,
            "{:?} wait",
            world.parked_seqs(&receiver).await
        );
    }
    assert_eq!(received_seqs(&receiver), (1..=128).collect());
}

#[tokio::test]
async fn a_dead_endpoint_is_disabled_after_five_days_and_loses_nothing() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    let operator = TestReceiver::with_statuses(&[]).await;
    receiver.set_default_status(503);
    world.add_endpoint(&receiver, &[], None).await;
    world.add_endpoint(&operator, &[], None).await;
    world.set_event_filters(&operator, &["*"]).await;
    let dispatch = world.commit_balances(20).await;
    world.deliver_dispatch(&dispatch).await;
    world
        .pass_time(SignedDuration::from_hours(24 * 5 + 2), MINUTE * 30)
        .await;
    let health = world.load_health(&receiver).await.health;
    assert_eq!(health.disabled.unwrap().reason, DisableReason::Failing);
    let names: Vec<_> = received_event_names(&operator)
        .into_iter()
        .filter(|it| it.starts_with("endpoint"))
        .collect();
    assert_eq!(
        names,
        [
            "endpoint.parked",
            "endpoint.failing",
            "endpoint.failing",
            "endpoint.disabled"
        ]
    );
    let made = receiver.received_requests().len();
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.parked, 1);
    world
        .pass_time(
            SignedDuration::from_hours(24),
            SignedDuration::from_hours(1),
        )
        .await;
    assert_eq!(receiver.received_requests().len(), made);
    assert_eq!(world.parked_seqs(&receiver).await.len(), 21);

    // Its app enables it.
    receiver.set_default_status(200);
    let endpoint = endpoint_id(APP, &receiver.url);
    world
        .change_health(endpoint, EndpointHealth::enable_by_app)
        .await;
    world
        .deliverer
        .maintain_endpoint(maintenance_message(&receiver))
        .await
        .unwrap();
    world.handle_until_idle().await;
    assert_eq!(received_seqs(&receiver), (1..=21).collect());
}

#[tokio::test]
async fn events_parked_too_long_are_exhausted_and_the_gap_is_reported() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    receiver.set_default_status(410);
    world.add_endpoint(&receiver, &[], None).await;
    for _ in 0..2 {
        let dispatch = world.commit_balances(2).await;
        world.deliver_dispatch(&dispatch).await;
        world.advance_clock(SignedDuration::from_hours(24));
    }
    world.advance_clock(SignedDuration::from_hours(24 * 12 + 1));
    let left = world
        .deliverer
        .maintain_endpoint(maintenance_message(&receiver))
        .await
        .unwrap();
    assert_eq!(left, MaintenanceOutcome::EndpointDisabled);
    assert_eq!(world.parked_seqs(&receiver).await, [3, 4]);
    let row = world.load_delivery(1, &receiver).await.unwrap();
    assert_eq!(row.state, DeliveryState::Exhausted);
    let gap = world.load_health(&receiver).await.health.gap.unwrap();
    assert_eq!((gap.events, gap.from), (2, row.key.committed_at));
}

/// A million events wait for an endpoint at most; what comes beyond is given up, and the gap is shown.
#[tokio::test]
async fn what_cannot_be_parked_any_more_is_given_up_and_the_gap_is_shown() {
    // Events that one process parks before it adds them to the count.
    const COUNTED_AT_ONCE: u64 = 16;
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[410]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    let endpoint = endpoint_id(APP, &receiver.url);
    let known = MAX_PARKED_EVENTS - COUNTED_AT_ONCE;
    world.store.add_parked_count(endpoint, known).await.unwrap();
    let dispatch = world.commit_balances(COUNTED_AT_ONCE).await;
    let fits = world.deliver_dispatch(&dispatch).await;
    assert_eq!((fits.parked, fits.exhausted), (16, 0));
    assert_eq!(
        world.load_health(&receiver).await.parked_count,
        MAX_PARKED_EVENTS
    );

    world.advance_clock(MINUTE);
    let lost = world.commit_balances(3).await;
    for _ in 0..2 {
        let report = world.deliver_dispatch(&lost).await;
        assert_eq!(report.parked, 0);
    }
    assert_eq!(world.parked_seqs(&receiver).await.len(), 17);
    for seq in lost.first_seq.0..=lost.last_seq.0 {
        let row = world.load_delivery(seq, &receiver).await.unwrap();
        assert_eq!(
            (row.state, row.attempt_count),
            (DeliveryState::Exhausted, 0)
        );
    }
    let gap = world.load_health(&receiver).await.health.gap.unwrap();
    let at = world
        .load_delivery(lost.first_seq.0, &receiver)
        .await
        .unwrap()
        .key
        .committed_at;
    assert_eq!((gap.events, gap.from, gap.until), (3, at, at));

    // What was parked comes when it is back, and there is room again.
    world
        .change_health(endpoint, EndpointHealth::enable_by_app)
        .await;
    world
        .deliverer
        .maintain_endpoint(maintenance_message(&receiver))
        .await
        .unwrap();
    world.handle_until_idle().await;
    assert_eq!(received_seqs(&receiver), (1..=17).collect());
    let health = world.load_health(&receiver).await;
    assert_eq!((health.parked_count, health.health.gap), (0, Some(gap)));
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it_for_all_events() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_replies(&[(429, Some(("retry-after", "600")))]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    for _ in 0..9 {
        let dispatch = world.commit_balances(1).await;
        assert_eq!(world.deliver_dispatch(&dispatch).await.rate_limited, 1);
        world.pass_time(MINUTE, MINUTE).await;
    }
    assert_eq!(receiver.received_requests().len(), 1);
    world.pass_time(MINUTE * 2, MINUTE).await;
    assert_eq!(received_seqs(&receiver), (1..=10).collect());
}

#[tokio::test]
async fn events_above_the_rate_limit_wait_without_an_attempt() {
    let world = DeliveryWorld::with_rate(SendRate::default()).await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let mut report = (0, 0);
    for _ in 0..3 {
        let dispatch = world.commit_balances(32).await;
        let done = world.deliver_dispatch(&dispatch).await;
        report = (report.0 + done.delivered, report.1 + done.rate_limited);
    }
    assert_eq!(report, (50, 46));
    assert!(
        world.load_delivery(60, &receiver).await.is_none(),
        "no attempt was made"
    );
    world
        .pass_time(SignedDuration::from_secs(1), SignedDuration::from_secs(1))
        .await;
    assert_eq!(receiver.received_requests().len(), 75);
    world
        .pass_time(SignedDuration::from_secs(1), SignedDuration::from_secs(1))
        .await;
    assert_eq!(received_seqs(&receiver), (1..=96).collect());
    assert_eq!(receiver.received_requests().len(), 96);
}

#[tokio::test]
async fn a_receiver_can_abort_an_event_or_disable_itself() {
    let world = DeliveryWorld::new().await;
    let replies = [
        (422, Some(("webhook-delivery", "abort-message"))),
        (200, Some(("webhook-delivery", "disable"))),
    ];
    let receiver = TestReceiver::with_replies(&replies).await;
    world.add_endpoint(&receiver, &[], None).await;
    let state = async |seq| world.load_delivery(seq, &receiver).await.unwrap().state;
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.exhausted, 1);
    assert_eq!(state(1).await, DeliveryState::Exhausted);
    assert_eq!(
        world
            .load_delivery(1, &receiver)
            .await
            .unwrap()
            .last_attempt()
            .unwrap()
            .outcome_class,
        "aborted"
    );
    assert_eq!(
        world.load_health(&receiver).await.version,
        0,
        "no fault of the endpoint"
    );
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    assert_eq!(state(2).await, DeliveryState::Delivered);
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.parked, 1);
    let by = world
        .load_health(&receiver)
        .await
        .health
        .disabled
        .unwrap()
        .reason;
    assert_eq!(by, DisableReason::Receiver);
}

/// The entry that tells of it is committed, and the process ends before it has said so to anybody.
#[tokio::test]
async fn an_exhausted_event_is_reported_even_if_the_process_crashes() {
    let world = DeliveryWorld::new().await;
    let abort = Some(("webhook-delivery", "abort-message"));
    let receiver = TestReceiver::with_replies(&[(422, abort)]).await;
    let operator = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    world.add_endpoint(&operator, &[], None).await;
    world
        .set_event_filters(&operator, &["delivery.exhausted"])
        .await;
    let committed = std::sync::atomic::AtomicBool::new(false);
    let dispatch = world.commit_balances(1).await;
    world.emulator.inject_fates(move |service, operation| {
        use std::sync::atomic::Ordering::SeqCst;
        committed.fetch_or(operation == "TransactWriteItems", SeqCst);
        if service == AwsService::Sqs && committed.load(SeqCst) {
            return CallFate::Fail;
        }
        CallFate::Serve
    });
    world
        .deliverer
        .deliver_dispatch(dispatch)
        .await
        .unwrap_err();
    world.emulator.inject_fates(|_, _| CallFate::Serve);
    assert_eq!(world.deliver_dispatch(&dispatch).await.skipped, 1);
    world.pass_time(MINUTE * 2, MINUTE).await;
    assert_eq!(received_event_names(&operator), ["delivery.exhausted"]);
}

#[tokio::test]
async fn a_success_of_a_healthy_endpoint_writes_once_and_of_a_failing_one_twice() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[200, 500]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let mut units = Vec::new();
    for _ in 0..4 {
        let dispatch = world.commit_balances(1).await;
        world.advance_clock(SignedDuration::from_secs(1));
        let before = world.store.capacity_used();
        world.deliver_dispatch(&dispatch).await;
        units.push((world.store.capacity_used() - before).write_units);
    }
    assert_eq!(
        units,
        [1.0, 2.0, 2.0, 1.0],
        "rows, and the health where it changes"
    );
}

/// The table took a write, its answer was lost, and the repetition is refused: it must not look as if
/// another worker had the delivery.
#[tokio::test]
async fn lost_responses_of_the_table_lose_no_event() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    receiver.set_default_status(500);
    world.add_endpoint(&receiver, &[], None).await;
    let puts = std::sync::atomic::AtomicUsize::new(0);
    world.emulator.inject_fates(move |service, operation| {
        let put = service == AwsService::DynamoDb && operation == "PutItem";
        let third = put && puts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 == 2;
        if third {
            CallFate::LoseResponse
        } else {
            CallFate::Serve
        }
    });
    for _ in 0..4 {
        let dispatch = world.commit_balances(3).await;
        while world.deliverer.deliver_dispatch(dispatch).await.is_err() {}
        world.pass_time(MINUTE * 2, MINUTE).await;
    }
    receiver.set_default_status(200);
    world.pass_time(MINUTE * 60, MINUTE).await;
    assert_eq!(received_seqs(&receiver), (1..=12).collect());
    assert_eq!(world.parked_seqs(&receiver).await, [0_u64; 0]);
    for seq in 1..=12 {
        let row = world.load_delivery(seq, &receiver).await.unwrap();
        assert_eq!(row.state, DeliveryState::Delivered, "{seq}");
    }
}

#[tokio::test]
async fn our_own_faults_use_up_no_attempt() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[500, 500]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    let row = world.load_delivery(1, &receiver).await.unwrap();
    world.set_clock(row.next_attempt_at.unwrap());
    let retry = DeliveryRetry {
        source: RECORD.into(),
        seq: row.key.seq,
        endpoint: row.key.endpoint,
        attempts_made: 1,
        has_permit: false,
    };
    // The claim is written, and then nothing any more.
    let puts = std::sync::atomic::AtomicUsize::new(0);
    world.emulator.inject_fates(move |service, operation| {
        let put = service == AwsService::DynamoDb && operation == "PutItem";
        let first = put && puts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        if put && !first {
            CallFate::Fail
        } else {
            CallFate::Serve
        }
    });
    let error = world.deliverer.attempt_retry(retry).await.unwrap_err();
    assert!(matches!(error, DeliverError::Store(_)), "{error:?}");
    world.emulator.inject_fates(|_, _| CallFate::Serve);
    world.advance_clock(MINUTE * 2);
    assert_eq!(
        world.deliverer.attempt_retry(retry).await.unwrap(),
        DeliveryOutcome::Delivered
    );
    let row = world.load_delivery(1, &receiver).await.unwrap();
    assert_eq!(
        (row.attempt_count, receiver.received_requests().len()),
        (2, 3)
    );
    assert_eq!(receiver.header_values("okra-attempt"), ["1", "2", "2"]);
}

#[tokio::test]
async fn a_lost_probe_is_replaced_by_the_next_event() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[500; 10]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(10).await;
    world.deliver_dispatch(&dispatch).await;
    let open = world.load_health(&receiver).await.health;
    assert!(open.breaker().is_open());
    world.advance_clock(MINUTE * 25);
    while !world.receive_messages().await.is_empty() {}
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.parked, 1);
    world.handle_until_idle().await;
    let row = world.load_delivery(11, &receiver).await.unwrap();
    assert_eq!(row.state, DeliveryState::Delivered);
}

#[tokio::test]
async fn an_endpoint_gets_the_operational_events_it_names() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    world
        .set_event_filters(&receiver, &["balance.*", "endpoint.failing"])
        .await;
    let balances = world.commit_balances(2).await;
    let transaction = world.commit_transaction().await;
    assert_eq!(world.deliver_dispatch(&balances).await.delivered, 2);
    assert_eq!(world.deliver_dispatch(&transaction).await.delivered, 0);
    assert_eq!(received_seqs(&receiver), HashSet::from([1, 2]));

    // By product and by name: both have to fit.
    let both = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&both, &[Product::Balance], None).await;
    world.set_event_filters(&both, &["transaction.*"]).await;
    for dispatch in [&balances, &transaction] {
        assert_eq!(world.deliver_dispatch(dispatch).await.delivered, 0);
    }
    world
        .set_event_filters(&both, &["transaction.*", "balance.success"])
        .await;
    for dispatch in [&balances, &transaction] {
        world.deliver_dispatch(dispatch).await;
    }
    assert_eq!(received_seqs(&both), HashSet::from([1, 2]));
}

#[tokio::test]
async fn an_endpoint_that_takes_long_gets_messages_of_its_own() {
    let world = DeliveryWorld::new().await;
    let (slow, fast) = (
        TestReceiver::with_statuses(&[]).await,
        TestReceiver::with_statuses(&[]).await,
    );
    world.add_endpoint(&slow, &[], None).await;
    world.add_endpoint(&fast, &[], None).await;
    // Half of its attempts fail, never ten in a row.
    for status in [500, 500, 200].repeat(6) {
        slow.set_default_status(status);
        let dispatch = world.commit_balances(1).await;
        world.deliver_dispatch(&dispatch).await;
    }
    while !world.receive_messages().await.is_empty() {}
    let dispatch = world.commit_balances(1).await;
    let report = world.deliver_dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.rate_limited), (1, 1));
    let messages = world.receive_messages().await;
    let [DeliverMessage::RetryV1(retry)] = messages.as_slice() else {
        panic!("{messages:?}");
    };
    assert_eq!((retry.seq, retry.attempts_made), (dispatch.first_seq, 0));
    assert_eq!(
        world.deliverer.attempt_retry(*retry).await.unwrap(),
        DeliveryOutcome::Delivered
    );
}
