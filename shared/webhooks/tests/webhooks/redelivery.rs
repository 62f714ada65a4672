//! What somebody requests: to send an event again, to replay a range, to ping.

use jiff::SignedDuration;
use okra_core::{
    model::ids::{ReplayId, Seq},
    sync::feed::{BodyVersion, PayloadMode},
};
use okra_queue::{EndpointPing, Redelivery, ReplayStep};
use okra_store::{Consistency, DeliveryState, Replay, ReplayFilter, ReplayState};
use okra_webhooks::{BodyFormat, endpoint_id, render_bodies};
use serde_json::Value;

use crate::support::{APP, DeliveryWorld, RECORD, TestReceiver};

fn begin_replay(world: &DeliveryWorld, receiver: &TestReceiver, of: ReplayFilter) -> Replay {
    let (id, endpoint) = (
        ReplayId::from_bytes([7; 12]),
        endpoint_id(APP, &receiver.url),
    );
    Replay {
        record: Some(RECORD),
        ..Replay::start_replay(id, APP, endpoint, of, 50, world.clock.now())
    }
}

/// Starts a replay and lets it run for some seconds.
async fn run_replay(world: &DeliveryWorld, mut replay: Replay, seconds: i64) -> Replay {
    assert!(world.store.put_replay(&mut replay).await.unwrap());
    Box::pin(take_replay_step(world, &replay)).await;
    let second = SignedDuration::from_secs(1);
    let seconds = i32::try_from(seconds).unwrap();
    Box::pin(world.pass_time(second * seconds, second)).await;
    world
        .store
        .find_replay(APP, replay.id)
        .await
        .unwrap()
        .unwrap()
}

async fn take_replay_step(world: &DeliveryWorld, replay: &Replay) {
    let step = ReplayStep {
        app: APP,
        replay: replay.id,
        version: replay.version,
    };
    world.deliverer.advance_replay(step).await.unwrap();
}

fn received_seqs(receiver: &TestReceiver) -> Vec<u64> {
    let of = |seq: &String| seq.parse().unwrap();
    let mut taken: Vec<u64> = receiver
        .header_values("okra-event-sequence")
        .iter()
        .map(of)
        .collect();
    taken.sort_unstable();
    taken
}

#[tokio::test]
async fn a_resend_has_the_same_id_and_body() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    let row = world.load_delivery(1, &receiver).await.unwrap();
    let resend = Redelivery {
        source: RECORD.into(),
        seq: Seq(1),
        endpoint: row.key.endpoint,
        has_permit: false,
    };
    receiver.set_default_status(500);
    world.deliverer.attempt_resend(resend).await.unwrap();
    let row = world.load_delivery(1, &receiver).await.unwrap();
    // The schedule begins anew, and so does what can be seen of it.
    assert_eq!((row.state, row.attempt_count), (DeliveryState::Retry, 1));
    assert_eq!(row.attempt_log.len(), 2);
    receiver.set_default_status(200);
    world
        .pass_time(SignedDuration::from_secs(10), SignedDuration::from_secs(10))
        .await;
    let row = world.load_delivery(1, &receiver).await.unwrap();
    assert_eq!(
        (row.state, row.attempt_count),
        (DeliveryState::Delivered, 2)
    );
    let requests = receiver.received_requests();
    assert_eq!(requests.len(), 3);
    for (headers, body) in &requests {
        assert_eq!(headers["webhook-id"], requests[0].0["webhook-id"]);
        assert_eq!(body, &requests[0].1);
    }
    // That somebody asked for it is said in each attempt since, and not in the body.
    let asked_for = requests
        .iter()
        .map(|(it, _)| it.get("okra-replay").is_some());
    assert_eq!(asked_for.collect::<Vec<_>>(), [false, true, true]);
}

#[tokio::test]
async fn a_replay_sends_failed_missing_or_all_events() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    let abort = Some(("webhook-delivery", "abort-message"));
    let refusing = TestReceiver::with_replies(&[(200, None), (422, abort), (200, None)]).await;
    world.add_endpoint(&refusing, &[], None).await;
    for _ in 0..3 {
        let dispatch = world.commit_balances(1).await;
        world.deliver_dispatch(&dispatch).await;
    }
    // An endpoint that came later.
    world.add_endpoint(&receiver, &[], None).await;
    let failed = run_replay(
        &world,
        begin_replay(&world, &refusing, ReplayFilter::Failed),
        2,
    )
    .await;
    assert_eq!((failed.state, failed.sent_count), (ReplayState::Done, 1));
    assert_eq!(received_seqs(&refusing), [1, 2, 2, 3]);

    let missing = Replay {
        id: ReplayId::from_bytes([8; 12]),
        record: None,
        ..begin_replay(&world, &receiver, ReplayFilter::Missing)
    };
    let missing = run_replay(&world, missing, 2).await;
    assert_eq!((missing.state, missing.sent_count), (ReplayState::Done, 3));
    assert_eq!(received_seqs(&receiver), [1, 2, 3]);

    let all = Replay {
        id: ReplayId::from_bytes([9; 12]),
        seq_range: (Seq(2), Seq(3)),
        ..begin_replay(&world, &receiver, ReplayFilter::All)
    };
    assert_eq!(run_replay(&world, all, 2).await.sent_count, 2);
    assert_eq!(received_seqs(&receiver), [1, 2, 2, 3, 3]);
}

#[tokio::test]
async fn a_replay_keeps_its_rate_has_no_cap_and_goes_on_where_it_was_cancelled() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    for _ in 0..4 {
        world.commit_balances(90).await;
    }
    let running = run_replay(
        &world,
        begin_replay(&world, &receiver, ReplayFilter::Missing),
        3,
    )
    .await;
    assert_eq!(running.state, ReplayState::Running);
    let made = received_seqs(&receiver).len();
    assert!((150..=200).contains(&made), "{made}");
    let mut cancelled = running.clone();
    cancelled.state = ReplayState::Cancelled;
    assert!(world.store.put_replay(&mut cancelled).await.unwrap());
    world
        .pass_time(SignedDuration::from_secs(5), SignedDuration::from_secs(1))
        .await;
    let sent = received_seqs(&receiver).len();
    assert!(sent < 360, "{sent}");
    // A step that was under way when it was cancelled is void.
    take_replay_step(&world, &running).await;
    world.handle_until_idle().await;
    assert_eq!(received_seqs(&receiver).len(), sent);

    let resumed = Replay {
        state: ReplayState::Running,
        ..world
            .store
            .find_replay(APP, cancelled.id)
            .await
            .unwrap()
            .unwrap()
    };
    let done = run_replay(&world, resumed, 10).await;
    assert_eq!(
        (done.state, done.sent_count, done.examined_count),
        (ReplayState::Done, 360, 360)
    );
    assert_eq!(received_seqs(&receiver), (1..=360).collect::<Vec<_>>());
}

/// The URL of a data sync comes with the ping; one that was removed is pinged no more.
#[tokio::test]
async fn a_url_that_is_no_endpoint_is_pinged_where_it_comes_along() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[204]).await;
    let endpoint = endpoint_id(APP, &receiver.url);
    for (url, sent) in [(None, 0), (Some(receiver.url.clone()), 1)] {
        let ping = EndpointPing {
            app: APP,
            endpoint,
            url,
        };
        world.deliverer.send_ping(ping).await.unwrap();
        assert_eq!(receiver.received_requests().len(), sent);
        let health = world.load_health(&receiver).await;
        assert_eq!(health.last_ping.is_some(), sent > 0);
    }
}

#[tokio::test]
async fn a_ping_is_signed_and_its_result_is_stored() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[204, 500]).await;
    let secret = world.add_endpoint(&receiver, &[], None).await;
    let endpoint = endpoint_id(APP, &receiver.url);
    for class in ["ok", "rejected"] {
        world
            .deliverer
            .send_ping(EndpointPing {
                app: APP,
                endpoint,
                url: None,
            })
            .await
            .unwrap();
        let health = world.load_health(&receiver).await;
        assert_eq!(health.last_ping.unwrap().outcome_class, class);
        // Whether it answers a ping is no news about its events.
        assert!(!health.health.is_failing());
        world.advance_clock(SignedDuration::from_secs(1));
    }
    let (headers, body) = receiver.received_requests().remove(0);
    let json: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&json["event"], &json["code"]),
        (&"webhook.ping".into(), &"WEBHOOK_PING".into())
    );
    let id = headers["webhook-id"].to_str().unwrap();
    assert_eq!(json["event_id"], id);
    let at = headers["webhook-timestamp"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let signer = standardwebhooks::Webhook::new(&secret).unwrap();
    assert_eq!(
        headers["webhook-signature"],
        signer.sign(id, at, &body).unwrap()
    );
}

#[tokio::test]
async fn a_gap_is_filled_with_the_bodies_that_were_sent() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(2).await;
    world.deliver_dispatch(&dispatch).await;
    let head = world
        .store
        .find_head(RECORD, Consistency::Strong)
        .await
        .unwrap()
        .unwrap();
    let entries = world
        .store
        .read_feed(RECORD, Seq(0), 10, Consistency::Strong)
        .await
        .unwrap();
    let bodies = render_bodies(
        &world.store,
        "https://okra.example",
        &head,
        &entries,
        BodyFormat {
            endpoint_url: "",
            payload_mode: PayloadMode::Full,
            body_version: BodyVersion::LATEST,
        },
    )
    .await
    .unwrap();
    for (headers, sent) in receiver.received_requests() {
        let seq: usize = headers["okra-event-sequence"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let mut sent: Value = serde_json::from_slice(&sent).unwrap();
        sent["callbackURL"] = "".into();
        let read: Value = serde_json::from_slice(&bodies[seq - 1]).unwrap();
        assert_eq!(read, sent);
    }
    assert_eq!(PayloadMode::default(), PayloadMode::Full);
}

#[tokio::test]
async fn the_previous_secret_of_data_sync_signs_for_the_promised_time_after_a_rotation() {
    let world = DeliveryWorld::new().await;
    let (keyring, now) = (world.deliverer.keyring(), world.clock.now());
    let until = now + SignedDuration::from_hours(24);
    let rotated = keyring
        .load_or_create_app_secrets(APP, now)
        .await
        .unwrap()
        .with_new_secret(&[9; 24]);
    keyring.put_app_secrets(APP, &rotated, until).await.unwrap();
    for (hours, expected) in [(1, 2), (23, 2), (24, 1), (48, 1)] {
        let at = now + SignedDuration::from_hours(hours);
        let plain = keyring
            .load_or_create_app_secrets(APP, at)
            .await
            .unwrap()
            .to_plain();
        let count = plain.split(|byte| *byte == b' ').count();
        assert_eq!(count, expected, "{hours}");
    }
}
