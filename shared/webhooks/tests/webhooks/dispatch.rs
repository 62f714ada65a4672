//! Dispatches: from committed feed entries to receivers.

use std::collections::HashSet;

use jiff::SignedDuration;
use okra_core::{
    delivery::retry::{AttemptOutcome, MAX_ATTEMPTS},
    model::{ids::Seq, snapshot::Product},
    sync::feed::PayloadMode,
};
use okra_emulator::{AwsService, CallFate};
use okra_queue::{DeliverMessage, DeliveryRetry, FeedDispatch};
use okra_store::{Delivery, DeliveryState, Endpoint};
use okra_webhooks::{DeliverError, DeliveryOutcome, DispatchReport, endpoint_id};
use standardwebhooks::Webhook;

use crate::support::{APP, DeliveryWorld, RECORD, TestReceiver};

/// A message that wakes; how many attempts it knows of does not matter, the row does.
fn wake_up_message(seq: u64, receiver: &TestReceiver) -> DeliveryRetry {
    DeliveryRetry {
        source: RECORD.into(),
        has_permit: false,
        seq: Seq(seq),
        endpoint: endpoint_id(APP, &receiver.url),
        attempts_made: 1,
    }
}

#[tokio::test]
async fn a_delivery_that_succeeds_is_one_write() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    let secret = world.add_endpoint(&receiver, &[], Some("b34rer")).await;
    let dispatch = world.commit_balances(1).await;

    let before = world.store.capacity_used();
    let report = world.deliver_dispatch(&dispatch).await;
    let used = world.store.capacity_used() - before;

    let expected = DispatchReport {
        events: 1,
        delivered: 1,
        ..DispatchReport::default()
    };
    assert_eq!(report, expected);
    assert!((used.write_units - 1.0).abs() < f64::EPSILON, "{used:?}");
    assert!(used.read_units <= 6.0, "{used:?}");
    let row = world.load_delivery(1, &receiver).await.unwrap();
    assert_eq!(
        (row.state, row.attempt_count, row.next_attempt_at),
        (DeliveryState::Delivered, 1, None)
    );
    assert!(world.receive_messages().await.is_empty());

    let (headers, body) = receiver.received_requests().remove(0);
    assert_eq!(headers["webhook-id"], event_id_at(1));
    assert_eq!(headers["authorization"], "Bearer b34rer");
    assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
    // The driven clock is not the verifier's, so the signature is checked without its age.
    let at: i64 = headers["webhook-timestamp"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let signature = Webhook::new(&secret)
        .unwrap()
        .sign(&event_id_at(1), at, &body)
        .unwrap();
    assert_eq!(headers["webhook-signature"], signature);

    let attempt = world.all_attempts().remove(0);
    assert_eq!(
        (attempt.outcome, attempt.status),
        (AttemptOutcome::Ok, Some(200))
    );
    assert_eq!(
        (attempt.host.as_str(), attempt.body_bytes),
        ("127.0.0.1", body.len())
    );
}

fn event_id_at(seq: u64) -> String {
    format!("evt_{RECORD}_{seq}")
}

#[tokio::test]
async fn a_delivered_event_is_not_sent_twice() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(3).await;
    world.deliver_dispatch(&dispatch).await;
    let again = world.deliver_dispatch(&dispatch).await;
    assert_eq!((again.delivered, again.skipped), (0, 3));
    let told = world
        .deliverer
        .attempt_retry(wake_up_message(1, &receiver))
        .await
        .unwrap();
    assert_eq!(told, DeliveryOutcome::Skipped);
    assert_eq!(
        receiver.header_values("okra-event-sequence"),
        ["1", "2", "3"]
    );
}

#[tokio::test]
async fn a_retry_has_the_same_id_and_bytes_and_a_fresh_signature() {
    let world = DeliveryWorld::with_short_deadline().await;
    let receiver = TestReceiver::with_statuses(&[500, 0, 200]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_transaction().await;
    let report = world.deliver_dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.retry_scheduled), (0, 1));

    let row = world.load_delivery(1, &receiver).await.unwrap();
    assert_eq!((row.state, row.attempt_count), (DeliveryState::Retry, 1));
    let last = row.last_attempt().unwrap();
    assert_eq!(
        (last.status, last.outcome_class.as_str()),
        (Some(500), "rejected")
    );
    assert_eq!(
        row.response_excerpt.as_deref(),
        Some("status 500 Internal Server Error")
    );

    // Too early: nothing is sent, and it stays due.
    let told = world
        .deliverer
        .attempt_retry(wake_up_message(1, &receiver))
        .await
        .unwrap();
    assert_eq!(
        (told, receiver.received_requests().len()),
        (DeliveryOutcome::Skipped, 1)
    );

    world.set_clock(row.next_attempt_at.unwrap());
    let told = world
        .deliverer
        .attempt_retry(wake_up_message(1, &receiver))
        .await
        .unwrap();
    assert_eq!(told, DeliveryOutcome::RetryScheduled);
    let row = world.load_delivery(1, &receiver).await.unwrap();
    assert_eq!(
        (
            row.attempt_count,
            row.last_attempt().unwrap().outcome_class.as_str()
        ),
        (2, "timeout")
    );

    world.set_clock(row.next_attempt_at.unwrap());
    let told = world
        .deliverer
        .attempt_retry(wake_up_message(1, &receiver))
        .await
        .unwrap();
    assert_eq!(told, DeliveryOutcome::Delivered);
    let row = world.load_delivery(1, &receiver).await.unwrap();
    assert_eq!(
        (row.state, row.attempt_count),
        (DeliveryState::Delivered, 3)
    );

    let requests = receiver.received_requests();
    let bodies: HashSet<_> = requests.iter().map(|(_, body)| body.clone()).collect();
    assert_eq!((requests.len(), bodies.len()), (3, 1));
    assert_eq!(
        receiver.header_values("webhook-id"),
        [(); 3].map(|()| event_id_at(1))
    );
    assert_eq!(receiver.header_values("okra-attempt"), ["1", "2", "3"]);
    let distinct = |name| {
        receiver
            .header_values(name)
            .into_iter()
            .collect::<HashSet<_>>()
            .len()
    };
    assert_eq!(
        (distinct("webhook-timestamp"), distinct("webhook-signature")),
        (3, 3)
    );
}

#[tokio::test]
async fn an_endpoint_that_fails_or_hangs_leaves_the_others_alone() {
    let world = DeliveryWorld::with_short_deadline().await;
    let failing = TestReceiver::with_statuses(&[503, 503]).await;
    let hanging = TestReceiver::with_statuses(&[0, 0]).await;
    let good = TestReceiver::with_statuses(&[]).await;
    for receiver in [&failing, &hanging, &good] {
        world.add_endpoint(receiver, &[], None).await;
    }
    let dispatch = world.commit_balances(2).await;
    let report = world.deliver_dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.retry_scheduled), (2, 4));
    for seq in [1, 2] {
        for (receiver, class) in [
            (&failing, "throttled"),
            (&hanging, "timeout"),
            (&good, "ok"),
        ] {
            let row = world.load_delivery(seq, receiver).await.unwrap();
            assert_eq!(row.last_attempt().unwrap().outcome_class, class);
        }
    }
}

#[tokio::test]
async fn a_delivery_is_tried_ten_times_and_then_visibly_given_up() {
    let world = DeliveryWorld::new().await;
    // What comes between is taken, so that the endpoint itself is not given up.
    let receiver = TestReceiver::with_statuses(&[500, 200].repeat(10)).await;
    let operator = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    world.add_endpoint(&operator, &[], None).await;
    world.set_event_filters(&operator, &["delivery.*"]).await;
    let first = world.commit_balances(1).await;
    world.deliver_dispatch(&first).await;
    for made in 1..MAX_ATTEMPTS {
        let between = world.commit_balances(1).await;
        assert_eq!(world.deliver_dispatch(&between).await.delivered, 1);
        let row = world.load_delivery(1, &receiver).await.unwrap();
        assert_eq!((row.state, row.attempt_count), (DeliveryState::Retry, made));
        let due = row.next_attempt_at.unwrap();
        let waits_for_sweep = due.duration_since(world.clock.now()) > SignedDuration::from_mins(15);
        assert_eq!(waits_for_sweep, made >= 3, "{made}");
        if waits_for_sweep {
            world.sweep_at(due).await;
        } else {
            world.set_clock(due);
            assert_eq!(world.handle_retries().await, 1);
        }
    }
    let row = world.load_delivery(1, &receiver).await.unwrap();
    assert_eq!(
        (row.state, row.attempt_count, row.next_attempt_at),
        (DeliveryState::Exhausted, MAX_ATTEMPTS, None)
    );
    assert_eq!(row.attempt_log.len(), MAX_ATTEMPTS as usize);
    let made = receiver.received_requests().len();
    let again = world.deliver_dispatch(&first).await;
    assert_eq!(
        (again.skipped, receiver.received_requests().len()),
        (1, made)
    );

    // Those who asked for it are told, and nobody else.
    world.handle_until_idle().await;
    let (headers, body) = operator.received_requests().remove(0);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(headers["webhook-id"], format!("evt_app_{APP}_1"));
    assert_eq!(body["event"], "delivery.exhausted");
    assert_eq!(body["delivery"]["event_id"], event_id_at(1));
    assert_eq!(body["delivery"]["attempts"], MAX_ATTEMPTS);
    assert_eq!(
        (
            operator.received_requests().len(),
            receiver.received_requests().len()
        ),
        (1, made)
    );
}

#[tokio::test]
async fn an_endpoint_that_responds_410_is_disabled() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[410]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.parked, 1);
    let row = world.load_delivery(1, &receiver).await.unwrap();
    assert_eq!(
        (row.state, row.next_attempt_at),
        (DeliveryState::Parked, None)
    );
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.parked, 1);
    world
        .pass_time(
            SignedDuration::from_hours(48),
            SignedDuration::from_hours(1),
        )
        .await;
    assert_eq!(receiver.received_requests().len(), 1);
    // Nothing of it is lost.
    assert_eq!(world.parked_seqs(&receiver).await, [1, 2]);
}

#[tokio::test]
async fn a_url_gets_an_event_once_for_the_products_it_wants() {
    let world = DeliveryWorld::new().await;
    let (all, balance, subscribed, both) = (
        TestReceiver::with_statuses(&[]).await,
        TestReceiver::with_statuses(&[]).await,
        TestReceiver::with_statuses(&[]).await,
        TestReceiver::with_statuses(&[]).await,
    );
    world.add_endpoint(&all, &[], None).await;
    world
        .add_endpoint(&balance, &[Product::Balance], None)
        .await;
    world
        .subscribe_receiver(&subscribed, &[Product::Transactions])
        .await;
    world.add_endpoint(&both, &[], None).await;
    world.subscribe_receiver(&both, &Product::ALL).await;

    let balances = world.commit_balances(1).await;
    let transactions = world.commit_transaction().await;
    assert_eq!(world.deliver_dispatch(&balances).await.delivered, 3);
    assert_eq!(world.deliver_dispatch(&transactions).await.delivered, 3);
    for (receiver, expected) in [
        (&all, &["1", "2"][..]),
        (&balance, &["1"]),
        (&subscribed, &["2"]),
        (&both, &["1", "2"]),
    ] {
        assert_eq!(receiver.header_values("okra-event-sequence"), expected);
    }

    let secrets = world
        .deliverer
        .keyring()
        .load_or_create_app_secrets(APP, world.clock.now())
        .await
        .unwrap();
    let (headers, body) = subscribed.received_requests().remove(0);
    let at: i64 = headers["webhook-timestamp"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let signer = Webhook::new(secrets.current_secret()).unwrap();
    let signature = signer.sign(&event_id_at(2), at, &body).unwrap();
    assert_eq!(headers["webhook-signature"], signature);
}

#[tokio::test]
async fn a_dispatch_speaks_of_one_product_and_passes_over_the_other() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    world.commit_balances(1).await;
    world.commit_transaction().await;
    let last = world.commit_balances(1).await;
    let report = world
        .deliver_dispatch(&FeedDispatch {
            first_seq: Seq(1),
            ..last
        })
        .await;
    assert_eq!((report.events, report.delivered), (2, 2));
    assert_eq!(receiver.header_values("okra-event-sequence"), ["1", "3"]);
}

#[tokio::test]
async fn a_removed_endpoint_is_not_called() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[500]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    let row = world.load_delivery(1, &receiver).await.unwrap();
    world
        .store
        .delete_endpoint(APP, row.key.endpoint)
        .await
        .unwrap();
    world.set_clock(row.next_attempt_at.unwrap());
    let told = world
        .deliverer
        .attempt_retry(wake_up_message(1, &receiver))
        .await
        .unwrap();
    assert_eq!(
        (told, receiver.received_requests().len()),
        (DeliveryOutcome::Unwanted, 1)
    );
    let row = world.load_delivery(1, &receiver).await.unwrap();
    assert_eq!(row.state, DeliveryState::Cancelled);
}

#[tokio::test]
async fn a_long_dispatch_goes_on_as_another() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(80).await;
    let mut delivered = world.deliver_dispatch(&dispatch).await.delivered;
    for _ in 0..10 {
        for message in world.receive_messages().await {
            match message {
                DeliverMessage::DispatchV1(rest) => {
                    delivered += world.deliver_dispatch(&rest).await.delivered;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(delivered, 80);
    let mut told: Vec<u64> = receiver
        .header_values("okra-event-sequence")
        .iter()
        .map(|seq| seq.parse().unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, (1..=80).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_wake_up_that_comes_twice_makes_one_attempt() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[500]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    world.set_clock(
        world
            .load_delivery(1, &receiver)
            .await
            .unwrap()
            .next_attempt_at
            .unwrap(),
    );
    let retry = || world.deliverer.attempt_retry(wake_up_message(1, &receiver));
    let (one, other) = tokio::join!(retry(), retry());
    let mut told = [one.unwrap(), other.unwrap()];
    told.sort_by_key(|told| *told == DeliveryOutcome::Skipped);
    assert_eq!(told, [DeliveryOutcome::Delivered, DeliveryOutcome::Skipped]);
    assert_eq!(receiver.received_requests().len(), 2);
}

#[tokio::test]
async fn a_worker_that_crashed_in_an_attempt_is_replaced() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[500]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    let row = world.load_delivery(1, &receiver).await.unwrap();
    world.set_clock(row.next_attempt_at.unwrap());
    // It claims, and its attempt is dropped before there is an answer.
    let dropped = tokio::time::timeout(
        std::time::Duration::ZERO,
        world.deliverer.attempt_retry(wake_up_message(1, &receiver)),
    );
    drop(dropped.await);
    world.advance_clock(SignedDuration::from_mins(2));
    let told = world
        .deliverer
        .attempt_retry(wake_up_message(1, &receiver))
        .await
        .unwrap();
    assert_eq!(told, DeliveryOutcome::Delivered);
}

/// Makes every call of an operation fail, until it is told otherwise.
fn fail_operation(world: &DeliveryWorld, service: AwsService, operation: &'static str) {
    world.emulator.inject_fates(move |of, called| {
        if of == service && called == operation {
            CallFate::Fail
        } else {
            CallFate::Serve
        }
    });
}

fn repair_services(world: &DeliveryWorld) {
    world.emulator.inject_fates(|_, _| CallFate::Serve);
}

#[tokio::test]
async fn a_wake_up_that_was_not_sent_is_sent_when_the_dispatch_is_redelivered() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[500]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    fail_operation(&world, AwsService::Sqs, "SendMessageBatch");
    let error = world
        .deliverer
        .deliver_dispatch(dispatch)
        .await
        .unwrap_err();
    assert!(matches!(error, DeliverError::Queue(_)), "{error:?}");

    repair_services(&world);
    assert_eq!(world.deliver_dispatch(&dispatch).await.skipped, 1);
    world.advance_clock(SignedDuration::from_mins(1));
    assert_eq!(
        (
            world.receive_messages().await.len(),
            receiver.received_requests().len()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn a_success_that_could_not_be_recorded_is_resent_as_the_same_event() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    fail_operation(&world, AwsService::DynamoDb, "PutItem");
    let error = world
        .deliverer
        .deliver_dispatch(dispatch)
        .await
        .unwrap_err();
    assert!(matches!(error, DeliverError::Store(_)), "{error:?}");

    repair_services(&world);
    assert_eq!(world.deliver_dispatch(&dispatch).await.delivered, 1);
    let requests = receiver.received_requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].1, requests[1].1);
    assert_eq!(
        receiver.header_values("webhook-id"),
        [(); 2].map(|()| event_id_at(1))
    );
}

#[tokio::test]
async fn a_sweep_that_failed_is_made_up_for() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[503]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    world.advance_clock(SignedDuration::from_mins(2));
    assert_eq!(world.receive_messages().await.len(), 1);
    // As after three attempts: due later than a message can wait.
    let due = world.clock.now() + SignedDuration::from_mins(30);
    let row = world.load_delivery(1, &receiver).await.unwrap();
    let row = Delivery {
        attempt_count: 3,
        next_attempt_at: Some(due),
        version: row.version + 1,
        ..row
    };
    assert!(
        world
            .store
            .put_delivery(&row, world.clock.now())
            .await
            .unwrap()
    );
    world
        .deliverer
        .attempt_retry(wake_up_message(1, &receiver))
        .await
        .unwrap();

    world.set_clock(due + SignedDuration::from_mins(1));
    fail_operation(&world, AwsService::Sqs, "SendMessageBatch");
    world
        .deliverer
        .sweep_retries(world.clock.now())
        .await
        .unwrap_err();
    repair_services(&world);
    world.advance_clock(SignedDuration::from_hours(9));
    let mut woken = 0;
    let mut behind = Vec::new();
    for _ in 0..4 {
        let report = world
            .deliverer
            .sweep_retries(world.clock.now())
            .await
            .unwrap();
        woken += report.retries_woken;
        behind.push(report.minutes_behind);
    }
    assert_eq!((woken, behind), (1, vec![540, 300, 60, 0]));
    assert_eq!(world.receive_messages().await.len(), 1);
}

/// The usual change is small; one that is too large for a body is told by its ids, in each attempt.
#[tokio::test]
async fn a_body_that_would_be_too_large_becomes_a_reference() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[500]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let long = "A".repeat(500);
    for (rows, text, full) in [
        (350, long.as_str(), false),
        // As many rows as an entry holds: their ids alone are no small thing.
        (1_200, "ZQXJ", false),
        (100, long.as_str(), true),
        (3, "AIRTIME", true),
    ] {
        let before = receiver.request_count();
        let dispatch = world.commit_transactions(rows, text).await;
        world.deliver_dispatch(&dispatch).await;
        world.advance_clock(SignedDuration::from_secs(7));
        world.handle_until_idle().await;
        for (_, body) in &receiver.received_requests()[before..] {
            let shown = std::str::from_utf8(body).unwrap().contains(text);
            assert_eq!(shown, full, "{rows} rows, {} bytes", body.len());
            assert!(
                body.len() <= 255 * 1024 && (rows > 3 || body.len() < 20_000),
                "{}",
                body.len()
            );
        }
    }
    let requests = receiver.received_requests();
    assert_eq!(requests.len(), 5);
    assert_eq!(requests[0].1, requests[1].1);
}

#[tokio::test]
async fn entries_that_are_not_there_are_our_own_fault() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    let beyond = FeedDispatch {
        last_seq: Seq(2),
        ..dispatch
    };
    let error = world.deliverer.deliver_dispatch(beyond).await.unwrap_err();
    assert!(
        matches!(error, DeliverError::MissingEntries { .. }),
        "{error:?}"
    );
    assert!(receiver.received_requests().is_empty());
}

#[tokio::test]
async fn a_secret_opens_for_its_own_endpoint_only() {
    let world = DeliveryWorld::new().await;
    let (one, other) = (
        TestReceiver::with_statuses(&[]).await,
        TestReceiver::with_statuses(&[]).await,
    );
    world.add_endpoint(&one, &[], None).await;
    let endpoint = world.store.list_endpoints(APP).await.unwrap().remove(0);
    let moved = Endpoint {
        id: endpoint_id(APP, &other.url),
        payload_mode: PayloadMode::Reference,
        ..endpoint
    };
    let error = world.deliverer.keyring().open_secrets(&moved).unwrap_err();
    assert!(!error.to_string().contains("whsec_"), "{error}");
}
