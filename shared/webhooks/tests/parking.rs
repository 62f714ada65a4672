//! Endpoints that are down, asked to stop, or are told too fast: what is for them waits, and is never
//! lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;

use jiff::SignedDuration;
use okra_core::{
    health::{Circuit, DisabledBy, Health, MAX_PARKED, OPEN_AFTER},
    model::Product,
    pace::Rate,
};
use okra_emulator::{Fate, Service};
use okra_queue::{DeliverMessage, Retry, Tend};
use okra_store::DeliveryState;
use okra_webhooks::{DeliverError, Tended, Told, endpoint_id};
use serde_json::Value;

use crate::support::{APP, RECORD, Receiver, World};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn tend(receiver: &Receiver) -> Tend {
    Tend {
        app: APP,
        endpoint: endpoint_id(APP, &receiver.url),
    }
}

/// The events that a receiver took, by their place in the feed.
fn taken(receiver: &Receiver) -> HashSet<u64> {
    let of = |seq: &String| seq.parse().unwrap();
    receiver
        .headers("okra-event-sequence")
        .iter()
        .map(of)
        .collect()
}

fn told(receiver: &Receiver) -> Vec<String> {
    let name = |(_, body): &(_, bytes::Bytes)| {
        let body: Value = serde_json::from_slice(body).unwrap();
        body["event"].as_str().unwrap().to_owned()
    };
    receiver.requests().iter().map(name).collect()
}

#[tokio::test]
async fn a_dead_endpoint_costs_attempts_by_time_and_gets_everything_when_it_is_back() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[]).await;
    let operator = Receiver::answering(&[]).await;
    receiver.usually(500);
    world.endpoint(&receiver, &[], None).await;
    world.endpoint(&operator, &[], None).await;
    world.narrow(&operator, &["endpoint.*"]).await;

    // 150 events in five hours.
    for _ in 0..30 {
        let dispatch = world.commit_balances(5).await;
        world.dispatch(&dispatch).await;
        world.pass(MINUTE * 10, MINUTE * 2).await;
    }
    let health = world.health(&receiver).await;
    assert!(matches!(health.health.circuit, Circuit::Open { probes, .. } if probes >= 10));
    assert_eq!(world.parked(&receiver).await.len(), 150);
    // Ten to open it, those under way meanwhile, six probes in an hour and two in each further one.
    let attempts = receiver.requests().len();
    assert!(
        attempts <= OPEN_AFTER as usize + 5 + 6 + 2 * 5,
        "{attempts}"
    );
    // The oldest asks whether it is back, with its number of attempts as it was.
    let (last, _) = receiver.requests().pop().unwrap();
    assert_eq!(last["okra-event-sequence"], "1");
    assert!(world.row(1, &receiver).await.unwrap().attempts <= 2);

    receiver.usually(200);
    world.pass(MINUTE * 32, MINUTE * 2).await;
    assert_eq!(taken(&receiver), (1..=150).collect());
    assert_eq!(world.parked(&receiver).await, [0_u64; 0]);
    for seq in [1, 75, 150] {
        let row = world.row(seq, &receiver).await.unwrap();
        assert_eq!(row.state, DeliveryState::Delivered);
    }
    let health = world.health(&receiver).await;
    assert_eq!((health.health.circuit, health.parked), (Circuit::Closed, 0));
    assert_eq!(told(&operator), ["endpoint.parked", "endpoint.recovered"]);
    // Each was taken once: nothing was delivered that had been.
    let ok = receiver.requests().len() - attempts;
    assert!(ok <= 150 + 1, "{ok}");
}

/// What is drained is sent at the endpoint's rate: neither faster, nor ever slower because events
/// that asked in vain had places.
#[tokio::test]
async fn what_was_parked_is_sent_at_the_endpoints_rate() {
    let world = World::at_rate(Rate::default()).await;
    let receiver = Receiver::answering(&[]).await;
    receiver.usually(500);
    world.endpoint(&receiver, &[], None).await;
    for _ in 0..4 {
        let dispatch = world.commit_balances(32).await;
        world.dispatch(&dispatch).await;
        world.pass(MINUTE, MINUTE).await;
    }
    let parked = world.parked(&receiver).await.len();
    assert!(parked > 100, "{parked}");
    receiver.usually(200);
    let mut seconds = 0;
    while !world.parked(&receiver).await.is_empty() {
        let before = receiver.count();
        let second = SignedDuration::from_secs(1);
        world.pass(second, second).await;
        let sent = receiver.count() - before;
        assert!(sent <= 50 + 25, "{sent} in a second");
        seconds += 1;
        assert!(
            seconds < 300 + 40,
            "{:?} wait",
            world.parked(&receiver).await
        );
    }
    assert_eq!(taken(&receiver), (1..=128).collect());
}

#[tokio::test]
async fn a_dead_endpoint_is_disabled_after_five_days_and_loses_nothing() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[]).await;
    let operator = Receiver::answering(&[]).await;
    receiver.usually(503);
    world.endpoint(&receiver, &[], None).await;
    world.endpoint(&operator, &[], None).await;
    world.narrow(&operator, &["*"]).await;
    let dispatch = world.commit_balances(20).await;
    world.dispatch(&dispatch).await;
    world
        .pass(SignedDuration::from_hours(24 * 5 + 2), MINUTE * 30)
        .await;
    let health = world.health(&receiver).await.health;
    assert_eq!(health.disabled.unwrap().by, DisabledBy::Failing);
    let names: Vec<_> = told(&operator)
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
    let made = receiver.requests().len();
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.parked, 1);
    world
        .pass(
            SignedDuration::from_hours(24),
            SignedDuration::from_hours(1),
        )
        .await;
    assert_eq!(receiver.requests().len(), made);
    assert_eq!(world.parked(&receiver).await.len(), 21);

    // Its app enables it.
    receiver.usually(200);
    let endpoint = endpoint_id(APP, &receiver.url);
    world.change_health(endpoint, Health::enable).await;
    world.deliverer.tend(tend(&receiver)).await.unwrap();
    world.settle().await;
    assert_eq!(taken(&receiver), (1..=21).collect());
}

#[tokio::test]
async fn what_is_parked_too_long_is_given_up_and_the_gap_is_told() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[]).await;
    receiver.usually(410);
    world.endpoint(&receiver, &[], None).await;
    for _ in 0..2 {
        let dispatch = world.commit_balances(2).await;
        world.dispatch(&dispatch).await;
        world.advance(SignedDuration::from_hours(24));
    }
    world.advance(SignedDuration::from_hours(24 * 12 + 1));
    let left = world.deliverer.tend(tend(&receiver)).await.unwrap();
    assert_eq!(left, Tended::Left);
    assert_eq!(world.parked(&receiver).await, [3, 4]);
    let row = world.row(1, &receiver).await.unwrap();
    assert_eq!(row.state, DeliveryState::Exhausted);
    let gap = world.health(&receiver).await.health.gap.unwrap();
    assert_eq!((gap.events, gap.from), (2, row.key.at));
}

/// A million events wait for an endpoint at most; what comes beyond is given up, and the gap is shown.
#[tokio::test]
async fn what_cannot_be_parked_any_more_is_given_up_and_the_gap_is_shown() {
    // Events that one process parks before it adds them to the count.
    const COUNTED_AT_ONCE: u64 = 16;
    let world = World::new().await;
    let receiver = Receiver::answering(&[410]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    let endpoint = endpoint_id(APP, &receiver.url);
    let known = MAX_PARKED - COUNTED_AT_ONCE;
    world.store.count_parked(endpoint, known).await.unwrap();
    let dispatch = world.commit_balances(COUNTED_AT_ONCE).await;
    let fits = world.dispatch(&dispatch).await;
    assert_eq!((fits.parked, fits.exhausted), (16, 0));
    assert_eq!(world.health(&receiver).await.parked, MAX_PARKED);

    world.advance(MINUTE);
    let lost = world.commit_balances(3).await;
    for _ in 0..2 {
        let report = world.dispatch(&lost).await;
        assert_eq!(report.parked, 0);
    }
    assert_eq!(world.parked(&receiver).await.len(), 17);
    for seq in lost.from.0..=lost.to.0 {
        let row = world.row(seq, &receiver).await.unwrap();
        assert_eq!((row.state, row.attempts), (DeliveryState::Exhausted, 0));
    }
    let gap = world.health(&receiver).await.health.gap.unwrap();
    let at = world.row(lost.from.0, &receiver).await.unwrap().key.at;
    assert_eq!((gap.events, gap.from, gap.until), (3, at, at));

    // What was parked comes when it is back, and there is room again.
    world.change_health(endpoint, Health::enable).await;
    world.deliverer.tend(tend(&receiver)).await.unwrap();
    world.settle().await;
    assert_eq!(taken(&receiver), (1..=17).collect());
    let health = world.health(&receiver).await;
    assert_eq!((health.parked, health.health.gap), (0, Some(gap)));
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it_for_all_events() {
    let world = World::new().await;
    let receiver = Receiver::replying(&[(429, Some(("retry-after", "600")))]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    for _ in 0..9 {
        let dispatch = world.commit_balances(1).await;
        assert_eq!(world.dispatch(&dispatch).await.paced, 1);
        world.pass(MINUTE, MINUTE).await;
    }
    assert_eq!(receiver.requests().len(), 1);
    world.pass(MINUTE * 2, MINUTE).await;
    assert_eq!(taken(&receiver), (1..=10).collect());
}

#[tokio::test]
async fn what_comes_too_fast_waits_its_turn_without_an_attempt() {
    let world = World::at_rate(Rate::default()).await;
    let receiver = Receiver::answering(&[]).await;
    world.endpoint(&receiver, &[], None).await;
    let mut report = (0, 0);
    for _ in 0..3 {
        let dispatch = world.commit_balances(32).await;
        let done = world.dispatch(&dispatch).await;
        report = (report.0 + done.delivered, report.1 + done.paced);
    }
    assert_eq!(report, (50, 46));
    assert!(
        world.row(60, &receiver).await.is_none(),
        "no attempt was made"
    );
    world
        .pass(SignedDuration::from_secs(1), SignedDuration::from_secs(1))
        .await;
    assert_eq!(receiver.requests().len(), 75);
    world
        .pass(SignedDuration::from_secs(1), SignedDuration::from_secs(1))
        .await;
    assert_eq!(taken(&receiver), (1..=96).collect());
    assert_eq!(receiver.requests().len(), 96);
}

#[tokio::test]
async fn a_receiver_can_refuse_an_event_or_all_of_them() {
    let world = World::new().await;
    let replies = [
        (422, Some(("webhook-delivery", "abort-message"))),
        (200, Some(("webhook-delivery", "disable"))),
    ];
    let receiver = Receiver::replying(&replies).await;
    world.endpoint(&receiver, &[], None).await;
    let state = async |seq| world.row(seq, &receiver).await.unwrap().state;
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.exhausted, 1);
    assert_eq!(state(1).await, DeliveryState::Exhausted);
    assert_eq!(
        world.row(1, &receiver).await.unwrap().last().unwrap().class,
        "aborted"
    );
    assert_eq!(
        world.health(&receiver).await.version,
        0,
        "no fault of the endpoint"
    );
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    assert_eq!(state(2).await, DeliveryState::Delivered);
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.parked, 1);
    let by = world.health(&receiver).await.health.disabled.unwrap().by;
    assert_eq!(by, DisabledBy::Receiver);
}

/// The entry that tells of it is committed, and the process ends before it has said so to anybody.
#[tokio::test]
async fn an_event_that_is_given_up_is_told_also_by_a_process_that_ends() {
    let world = World::new().await;
    let abort = Some(("webhook-delivery", "abort-message"));
    let receiver = Receiver::replying(&[(422, abort)]).await;
    let operator = Receiver::answering(&[]).await;
    world.endpoint(&receiver, &[], None).await;
    world.endpoint(&operator, &[], None).await;
    world.narrow(&operator, &["delivery.exhausted"]).await;
    let committed = std::sync::atomic::AtomicBool::new(false);
    let dispatch = world.commit_balances(1).await;
    world.emulator.inject(move |service, operation| {
        use std::sync::atomic::Ordering::SeqCst;
        committed.fetch_or(operation == "TransactWriteItems", SeqCst);
        if service == Service::Sqs && committed.load(SeqCst) {
            return Fate::Fail;
        }
        Fate::Pass
    });
    world.deliverer.dispatch(dispatch).await.unwrap_err();
    world.emulator.inject(|_, _| Fate::Pass);
    assert_eq!(world.dispatch(&dispatch).await.skipped, 1);
    world.pass(MINUTE * 2, MINUTE).await;
    assert_eq!(told(&operator), ["delivery.exhausted"]);
}

#[tokio::test]
async fn a_success_of_a_healthy_endpoint_writes_once_and_one_of_a_troubled_one_twice() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[200, 500]).await;
    world.endpoint(&receiver, &[], None).await;
    let mut units = Vec::new();
    for _ in 0..4 {
        let dispatch = world.commit_balances(1).await;
        world.advance(SignedDuration::from_secs(1));
        let before = world.store.capacity();
        world.dispatch(&dispatch).await;
        units.push((world.store.capacity() - before).write_units);
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
async fn answers_of_the_table_that_are_lost_lose_no_event() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[]).await;
    receiver.usually(500);
    world.endpoint(&receiver, &[], None).await;
    let puts = std::sync::atomic::AtomicUsize::new(0);
    world.emulator.inject(move |service, operation| {
        let put = service == Service::DynamoDb && operation == "PutItem";
        let third = put && puts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 == 2;
        if third { Fate::LoseAnswer } else { Fate::Pass }
    });
    for _ in 0..4 {
        let dispatch = world.commit_balances(3).await;
        while world.deliverer.dispatch(dispatch).await.is_err() {}
        world.pass(MINUTE * 2, MINUTE).await;
    }
    receiver.usually(200);
    world.pass(MINUTE * 60, MINUTE).await;
    assert_eq!(taken(&receiver), (1..=12).collect());
    assert_eq!(world.parked(&receiver).await, [0_u64; 0]);
    for seq in 1..=12 {
        let row = world.row(seq, &receiver).await.unwrap();
        assert_eq!(row.state, DeliveryState::Delivered, "{seq}");
    }
}

#[tokio::test]
async fn our_own_faults_use_up_no_attempt() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[500, 500]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    let row = world.row(1, &receiver).await.unwrap();
    world.set(row.next_at.unwrap());
    let retry = Retry {
        source: RECORD.into(),
        seq: row.key.seq,
        endpoint: row.key.endpoint,
        attempt: 1,
        paced: false,
    };
    // The claim is written, and then nothing any more.
    let puts = std::sync::atomic::AtomicUsize::new(0);
    world.emulator.inject(move |service, operation| {
        let put = service == Service::DynamoDb && operation == "PutItem";
        let first = put && puts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        if put && !first {
            Fate::Fail
        } else {
            Fate::Pass
        }
    });
    let error = world.deliverer.retry(retry).await.unwrap_err();
    assert!(matches!(error, DeliverError::Store(_)), "{error:?}");
    world.emulator.inject(|_, _| Fate::Pass);
    world.advance(MINUTE * 2);
    assert_eq!(world.deliverer.retry(retry).await.unwrap(), Told::Delivered);
    let row = world.row(1, &receiver).await.unwrap();
    assert_eq!((row.attempts, receiver.requests().len()), (2, 3));
    assert_eq!(receiver.headers("okra-attempt"), ["1", "2", "2"]);
}

#[tokio::test]
async fn a_probe_that_was_lost_is_made_up_for_by_the_next_event() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[500; 10]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(10).await;
    world.dispatch(&dispatch).await;
    let open = world.health(&receiver).await.health;
    assert!(matches!(open.circuit, Circuit::Open { .. }));
    world.advance(MINUTE * 25);
    while !world.messages().await.is_empty() {}
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.parked, 1);
    world.settle().await;
    let row = world.row(11, &receiver).await.unwrap();
    assert_eq!(row.state, DeliveryState::Delivered);
}

#[tokio::test]
async fn an_endpoint_is_told_of_the_events_it_named() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[]).await;
    world.endpoint(&receiver, &[], None).await;
    world
        .narrow(&receiver, &["balance.*", "endpoint.failing"])
        .await;
    let balances = world.commit_balances(2).await;
    let transaction = world.commit_transaction().await;
    assert_eq!(world.dispatch(&balances).await.delivered, 2);
    assert_eq!(world.dispatch(&transaction).await.delivered, 0);
    assert_eq!(taken(&receiver), HashSet::from([1, 2]));

    // By product and by name: both have to fit.
    let both = Receiver::answering(&[]).await;
    world.endpoint(&both, &[Product::Balance], None).await;
    world.narrow(&both, &["transaction.*"]).await;
    for dispatch in [&balances, &transaction] {
        assert_eq!(world.dispatch(dispatch).await.delivered, 0);
    }
    world
        .narrow(&both, &["transaction.*", "balance.success"])
        .await;
    for dispatch in [&balances, &transaction] {
        world.dispatch(dispatch).await;
    }
    assert_eq!(taken(&both), HashSet::from([1, 2]));
}

#[tokio::test]
async fn an_endpoint_that_takes_long_gets_messages_of_its_own() {
    let world = World::new().await;
    let (slow, fast) = (
        Receiver::answering(&[]).await,
        Receiver::answering(&[]).await,
    );
    world.endpoint(&slow, &[], None).await;
    world.endpoint(&fast, &[], None).await;
    // Half of its attempts fail, never ten in a row.
    for status in [500, 500, 200].repeat(6) {
        slow.usually(status);
        let dispatch = world.commit_balances(1).await;
        world.dispatch(&dispatch).await;
    }
    while !world.messages().await.is_empty() {}
    let dispatch = world.commit_balances(1).await;
    let report = world.dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.paced), (1, 1));
    let messages = world.messages().await;
    let [DeliverMessage::RetryV1(retry)] = messages.as_slice() else {
        panic!("{messages:?}");
    };
    assert_eq!((retry.seq, retry.attempt), (dispatch.from, 0));
    assert_eq!(
        world.deliverer.retry(*retry).await.unwrap(),
        Told::Delivered
    );
}
