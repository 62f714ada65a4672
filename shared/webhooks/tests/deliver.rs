//! Delivery as a whole: from a committed feed entry to a receiver, on an engine in memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;

use jiff::SignedDuration;
use okra_core::{
    feed::PayloadMode,
    ids::Seq,
    model::Product,
    retry::{MAX_ATTEMPTS, Outcome},
};
use okra_emulator::{Fate, Service};
use okra_queue::{DeliverMessage, Dispatch, Retry};
use okra_store::{Delivery, DeliveryState, Endpoint};
use okra_webhooks::{DeliverError, DispatchReport, Told, endpoint_id};
use standardwebhooks::Webhook;

use crate::support::{APP, RECORD, Receiver, World};

/// A message that wakes; how many attempts it knows of does not matter, the row does.
fn wake_up(seq: u64, receiver: &Receiver) -> Retry {
    Retry {
        source: RECORD.into(),
        paced: false,
        seq: Seq(seq),
        endpoint: endpoint_id(APP, &receiver.url),
        attempt: 1,
    }
}

#[tokio::test]
async fn a_delivery_that_succeeds_is_one_write() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[]).await;
    let secret = world.endpoint(&receiver, &[], Some("b34rer")).await;
    let dispatch = world.commit_balances(1).await;

    let before = world.store.capacity();
    let report = world.dispatch(&dispatch).await;
    let used = world.store.capacity() - before;

    let expected = DispatchReport {
        events: 1,
        delivered: 1,
        ..DispatchReport::default()
    };
    assert_eq!(report, expected);
    assert!((used.write_units - 1.0).abs() < f64::EPSILON, "{used:?}");
    assert!(used.read_units <= 6.0, "{used:?}");
    let row = world.row(1, &receiver).await.unwrap();
    assert_eq!(
        (row.state, row.attempts, row.next_at),
        (DeliveryState::Delivered, 1, None)
    );
    assert!(world.messages().await.is_empty());

    let (headers, body) = receiver.requests().remove(0);
    assert_eq!(headers["webhook-id"], event(1));
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
        .sign(&event(1), at, &body)
        .unwrap();
    assert_eq!(headers["webhook-signature"], signature);

    let attempt = world.attempts().remove(0);
    assert_eq!((attempt.outcome, attempt.status), (Outcome::Ok, Some(200)));
    assert_eq!(
        (attempt.host.as_str(), attempt.bytes),
        ("127.0.0.1", body.len())
    );
}

fn event(seq: u64) -> String {
    format!("evt_{RECORD}_{seq}")
}

#[tokio::test]
async fn what_is_delivered_is_not_sent_again() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(3).await;
    world.dispatch(&dispatch).await;
    let again = world.dispatch(&dispatch).await;
    assert_eq!((again.delivered, again.skipped), (0, 3));
    let told = world.deliverer.retry(wake_up(1, &receiver)).await.unwrap();
    assert_eq!(told, Told::Skipped);
    assert_eq!(receiver.headers("okra-event-sequence"), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_retry_has_the_same_id_and_bytes_and_a_fresh_signature() {
    let world = World::impatient().await;
    let receiver = Receiver::answering(&[500, 0, 200]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_transaction().await;
    let report = world.dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.deferred), (0, 1));

    let row = world.row(1, &receiver).await.unwrap();
    assert_eq!((row.state, row.attempts), (DeliveryState::Retry, 1));
    let last = row.last().unwrap();
    assert_eq!((last.status, last.class.as_str()), (Some(500), "rejected"));
    assert_eq!(
        row.excerpt.as_deref(),
        Some("status 500 Internal Server Error")
    );

    // Too early: nothing is sent, and it stays due.
    let told = world.deliverer.retry(wake_up(1, &receiver)).await.unwrap();
    assert_eq!((told, receiver.requests().len()), (Told::Skipped, 1));

    world.set(row.next_at.unwrap());
    let told = world.deliverer.retry(wake_up(1, &receiver)).await.unwrap();
    assert_eq!(told, Told::Deferred);
    let row = world.row(1, &receiver).await.unwrap();
    assert_eq!(
        (row.attempts, row.last().unwrap().class.as_str()),
        (2, "timeout")
    );

    world.set(row.next_at.unwrap());
    let told = world.deliverer.retry(wake_up(1, &receiver)).await.unwrap();
    assert_eq!(told, Told::Delivered);
    let row = world.row(1, &receiver).await.unwrap();
    assert_eq!((row.state, row.attempts), (DeliveryState::Delivered, 3));

    let requests = receiver.requests();
    let bodies: HashSet<_> = requests.iter().map(|(_, body)| body.clone()).collect();
    assert_eq!((requests.len(), bodies.len()), (3, 1));
    assert_eq!(receiver.headers("webhook-id"), [(); 3].map(|()| event(1)));
    assert_eq!(receiver.headers("okra-attempt"), ["1", "2", "3"]);
    let distinct = |name| {
        receiver
            .headers(name)
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
    let world = World::impatient().await;
    let failing = Receiver::answering(&[503, 503]).await;
    let hanging = Receiver::answering(&[0, 0]).await;
    let good = Receiver::answering(&[]).await;
    for receiver in [&failing, &hanging, &good] {
        world.endpoint(receiver, &[], None).await;
    }
    let dispatch = world.commit_balances(2).await;
    let report = world.dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.deferred), (2, 4));
    for seq in [1, 2] {
        for (receiver, class) in [
            (&failing, "throttled"),
            (&hanging, "timeout"),
            (&good, "ok"),
        ] {
            let row = world.row(seq, receiver).await.unwrap();
            assert_eq!(row.last().unwrap().class, class);
        }
    }
}

#[tokio::test]
async fn a_delivery_is_tried_ten_times_and_then_visibly_given_up() {
    let world = World::new().await;
    // What comes between is taken, so that the endpoint itself is not given up.
    let receiver = Receiver::answering(&[500, 200].repeat(10)).await;
    let operator = Receiver::answering(&[]).await;
    world.endpoint(&receiver, &[], None).await;
    world.endpoint(&operator, &[], None).await;
    world.narrow(&operator, &["delivery.*"]).await;
    let first = world.commit_balances(1).await;
    world.dispatch(&first).await;
    for made in 1..MAX_ATTEMPTS {
        let between = world.commit_balances(1).await;
        assert_eq!(world.dispatch(&between).await.delivered, 1);
        let row = world.row(1, &receiver).await.unwrap();
        assert_eq!((row.state, row.attempts), (DeliveryState::Retry, made));
        let due = row.next_at.unwrap();
        let waits_for_sweep = due.duration_since(world.clock.now()) > SignedDuration::from_mins(15);
        assert_eq!(waits_for_sweep, made >= 3, "{made}");
        if waits_for_sweep {
            world.sweep_at(due).await;
        } else {
            world.set(due);
            assert_eq!(world.handle_retries().await, 1);
        }
    }
    let row = world.row(1, &receiver).await.unwrap();
    assert_eq!(
        (row.state, row.attempts, row.next_at),
        (DeliveryState::Exhausted, MAX_ATTEMPTS, None)
    );
    assert_eq!(row.log.len(), MAX_ATTEMPTS as usize);
    let made = receiver.requests().len();
    let again = world.dispatch(&first).await;
    assert_eq!((again.skipped, receiver.requests().len()), (1, made));

    // Those who asked for it are told, and nobody else.
    world.settle().await;
    let (headers, body) = operator.requests().remove(0);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(headers["webhook-id"], format!("evt_app_{APP}_1"));
    assert_eq!(body["event"], "delivery.exhausted");
    assert_eq!(body["delivery"]["event_id"], event(1));
    assert_eq!(body["delivery"]["attempts"], MAX_ATTEMPTS);
    assert_eq!(
        (operator.requests().len(), receiver.requests().len()),
        (1, made)
    );
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_not_called_again() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[410]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.parked, 1);
    let row = world.row(1, &receiver).await.unwrap();
    assert_eq!((row.state, row.next_at), (DeliveryState::Parked, None));
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.parked, 1);
    world
        .pass(
            SignedDuration::from_hours(48),
            SignedDuration::from_hours(1),
        )
        .await;
    assert_eq!(receiver.requests().len(), 1);
    // Nothing of it is lost.
    assert_eq!(world.parked(&receiver).await, [1, 2]);
}

#[tokio::test]
async fn a_url_is_told_once_of_the_products_it_wants() {
    let world = World::new().await;
    let (all, balance, subscribed, both) = (
        Receiver::answering(&[]).await,
        Receiver::answering(&[]).await,
        Receiver::answering(&[]).await,
        Receiver::answering(&[]).await,
    );
    world.endpoint(&all, &[], None).await;
    world.endpoint(&balance, &[Product::Balance], None).await;
    world.subscribe(&subscribed, &[Product::Transactions]).await;
    world.endpoint(&both, &[], None).await;
    world.subscribe(&both, &Product::ALL).await;

    let balances = world.commit_balances(1).await;
    let transactions = world.commit_transaction().await;
    assert_eq!(world.dispatch(&balances).await.delivered, 3);
    assert_eq!(world.dispatch(&transactions).await.delivered, 3);
    for (receiver, expected) in [
        (&all, &["1", "2"][..]),
        (&balance, &["1"]),
        (&subscribed, &["2"]),
        (&both, &["1", "2"]),
    ] {
        assert_eq!(receiver.headers("okra-event-sequence"), expected);
    }

    let secrets = world
        .deliverer
        .keyring()
        .app_secrets(APP, world.clock.now())
        .await
        .unwrap();
    let (headers, body) = subscribed.requests().remove(0);
    let at: i64 = headers["webhook-timestamp"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let signer = Webhook::new(secrets.current()).unwrap();
    let signature = signer.sign(&event(2), at, &body).unwrap();
    assert_eq!(headers["webhook-signature"], signature);
}

#[tokio::test]
async fn a_dispatch_speaks_of_one_product_and_passes_over_the_other() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[]).await;
    world.endpoint(&receiver, &[], None).await;
    world.commit_balances(1).await;
    world.commit_transaction().await;
    let last = world.commit_balances(1).await;
    let report = world
        .dispatch(&Dispatch {
            from: Seq(1),
            ..last
        })
        .await;
    assert_eq!((report.events, report.delivered), (2, 2));
    assert_eq!(receiver.headers("okra-event-sequence"), ["1", "3"]);
}

#[tokio::test]
async fn an_endpoint_that_was_removed_is_not_called_again() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[500]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    let row = world.row(1, &receiver).await.unwrap();
    world
        .store
        .delete_endpoint(APP, row.key.endpoint)
        .await
        .unwrap();
    world.set(row.next_at.unwrap());
    let told = world.deliverer.retry(wake_up(1, &receiver)).await.unwrap();
    assert_eq!((told, receiver.requests().len()), (Told::Unwanted, 1));
    let row = world.row(1, &receiver).await.unwrap();
    assert_eq!(row.state, DeliveryState::Cancelled);
}

#[tokio::test]
async fn a_long_dispatch_goes_on_as_another() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(80).await;
    let mut delivered = world.dispatch(&dispatch).await.delivered;
    for _ in 0..10 {
        for message in world.messages().await {
            match message {
                DeliverMessage::DispatchV1(rest) => {
                    delivered += world.dispatch(&rest).await.delivered;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(delivered, 80);
    let mut told: Vec<u64> = receiver
        .headers("okra-event-sequence")
        .iter()
        .map(|seq| seq.parse().unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, (1..=80).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_wake_up_that_comes_twice_makes_one_attempt() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[500]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    world.set(world.row(1, &receiver).await.unwrap().next_at.unwrap());
    let retry = || world.deliverer.retry(wake_up(1, &receiver));
    let (one, other) = tokio::join!(retry(), retry());
    let mut told = [one.unwrap(), other.unwrap()];
    told.sort_by_key(|told| *told == Told::Skipped);
    assert_eq!(told, [Told::Delivered, Told::Skipped]);
    assert_eq!(receiver.requests().len(), 2);
}

#[tokio::test]
async fn a_worker_that_vanished_in_an_attempt_is_replaced() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[500]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    let row = world.row(1, &receiver).await.unwrap();
    world.set(row.next_at.unwrap());
    // It claims, and its attempt is dropped before there is an answer.
    let dropped = tokio::time::timeout(
        std::time::Duration::ZERO,
        world.deliverer.retry(wake_up(1, &receiver)),
    );
    drop(dropped.await);
    world.advance(SignedDuration::from_mins(2));
    let told = world.deliverer.retry(wake_up(1, &receiver)).await.unwrap();
    assert_eq!(told, Told::Delivered);
}

/// Makes every call of an operation fail, until it is told otherwise.
fn break_down(world: &World, service: Service, operation: &'static str) {
    world.emulator.inject(move |of, called| {
        if of == service && called == operation {
            Fate::Fail
        } else {
            Fate::Pass
        }
    });
}

fn repair(world: &World) {
    world.emulator.inject(|_, _| Fate::Pass);
}

#[tokio::test]
async fn a_wake_up_that_was_not_sent_is_sent_when_the_dispatch_comes_again() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[500]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    break_down(&world, Service::Sqs, "SendMessageBatch");
    let error = world.deliverer.dispatch(dispatch).await.unwrap_err();
    assert!(matches!(error, DeliverError::Queue(_)), "{error:?}");

    repair(&world);
    assert_eq!(world.dispatch(&dispatch).await.skipped, 1);
    world.advance(SignedDuration::from_mins(1));
    assert_eq!(
        (world.messages().await.len(), receiver.requests().len()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_success_that_could_not_be_recorded_is_sent_again_as_the_same_event() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    break_down(&world, Service::DynamoDb, "PutItem");
    let error = world.deliverer.dispatch(dispatch).await.unwrap_err();
    assert!(matches!(error, DeliverError::Store(_)), "{error:?}");

    repair(&world);
    assert_eq!(world.dispatch(&dispatch).await.delivered, 1);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].1, requests[1].1);
    assert_eq!(receiver.headers("webhook-id"), [(); 2].map(|()| event(1)));
}

#[tokio::test]
async fn a_sweep_that_failed_is_made_up_for() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[503]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    world.advance(SignedDuration::from_mins(2));
    assert_eq!(world.messages().await.len(), 1);
    // As after three attempts: due later than a message can wait.
    let due = world.clock.now() + SignedDuration::from_mins(30);
    let row = world.row(1, &receiver).await.unwrap();
    let row = Delivery {
        attempts: 3,
        next_at: Some(due),
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
    world.deliverer.retry(wake_up(1, &receiver)).await.unwrap();

    world.set(due + SignedDuration::from_mins(1));
    break_down(&world, Service::Sqs, "SendMessageBatch");
    world.deliverer.sweep(world.clock.now()).await.unwrap_err();
    repair(&world);
    world.advance(SignedDuration::from_hours(9));
    let mut woken = 0;
    let mut behind = Vec::new();
    for _ in 0..4 {
        let report = world.deliverer.sweep(world.clock.now()).await.unwrap();
        woken += report.woken;
        behind.push(report.behind);
    }
    assert_eq!((woken, behind), (1, vec![540, 300, 60, 0]));
    assert_eq!(world.messages().await.len(), 1);
}

/// The usual change is small; one that is too large for a body is told by its ids, in each attempt.
#[tokio::test]
async fn a_body_that_would_be_too_large_becomes_a_reference() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[500]).await;
    world.endpoint(&receiver, &[], None).await;
    let long = "A".repeat(500);
    for (rows, text, full) in [
        (350, long.as_str(), false),
        // As many rows as an entry holds: their ids alone are no small thing.
        (1_200, "ZQXJ", false),
        (100, long.as_str(), true),
        (3, "AIRTIME", true),
    ] {
        let before = receiver.count();
        let dispatch = world.commit_transactions(rows, text).await;
        world.dispatch(&dispatch).await;
        world.advance(SignedDuration::from_secs(7));
        world.settle().await;
        for (_, body) in &receiver.requests()[before..] {
            let shown = std::str::from_utf8(body).unwrap().contains(text);
            assert_eq!(shown, full, "{rows} rows, {} bytes", body.len());
            assert!(
                body.len() <= 255 * 1024 && (rows > 3 || body.len() < 20_000),
                "{}",
                body.len()
            );
        }
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), 5);
    assert_eq!(requests[0].1, requests[1].1);
}

#[tokio::test]
async fn entries_that_are_not_there_are_our_own_fault() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    let beyond = Dispatch {
        to: Seq(2),
        ..dispatch
    };
    let error = world.deliverer.dispatch(beyond).await.unwrap_err();
    assert!(matches!(error, DeliverError::Gap { .. }), "{error:?}");
    assert!(receiver.requests().is_empty());
}

#[tokio::test]
async fn a_secret_opens_for_its_own_endpoint_only() {
    let world = World::new().await;
    let (one, other) = (
        Receiver::answering(&[]).await,
        Receiver::answering(&[]).await,
    );
    world.endpoint(&one, &[], None).await;
    let endpoint = world.store.endpoints(APP).await.unwrap().remove(0);
    let moved = Endpoint {
        id: endpoint_id(APP, &other.url),
        payload: PayloadMode::Reference,
        ..endpoint
    };
    let error = world.deliverer.keyring().secrets(&moved).unwrap_err();
    assert!(!error.to_string().contains("whsec_"), "{error}");
}
