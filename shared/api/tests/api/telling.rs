//! Webhook endpoints.

use axum::http::StatusCode;
use okra_webhooks::{AddressPolicy, Keyring};
use serde_json::{Value, json};

use crate::world::{ApiWorld, EVENT_BUS_ARN};

const ENDPOINT_URL: &str = "https://app.example/okra/hook";

#[tokio::test]
async fn an_endpoints_secret_is_shown_once() {
    let world = ApiWorld::new().await;
    let set = async |body: Value| world.post_json("webhooks/set", body).await.success_data();
    let made = set(json!({ "url": ENDPOINT_URL, "token": "t0ken" })).await;
    let first = made["secret"].as_str().unwrap().to_owned();
    assert!(first.starts_with("whsec_"));
    assert_eq!(made["payload"], "full");
    assert_eq!(made["products"], json!(["balance", "transactions"]));

    // Set again, it keeps its secret, its token and what is not given.
    let again =
        set(json!({ "url": ENDPOINT_URL, "payload": "reference", "products": "balance" })).await;
    assert_eq!(again.get("secret"), None);
    assert_eq!(
        (&again["token"], &again["payload"]),
        (&json!(true), &json!("reference"))
    );
    let rotated = set(json!({ "url": ENDPOINT_URL, "rotate": true })).await;
    let second = rotated["secret"].as_str().unwrap();
    assert_ne!(second, first);
    assert_eq!(rotated["payload"], "reference");

    let environment = &world.environment;
    let keyring = Keyring::new(environment.store.clone(), environment.vault.clone());
    let app = okra_core::model::ids::AppId::from_bytes([0xa0; 12]);
    let stored = environment.store.list_endpoints(app).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(
        keyring.open_secrets(&stored[0]).unwrap().current_secret(),
        second
    );
    assert!(keyring.open_bearer(&stored[0]).unwrap().is_some());

    let listed = world.post_json("webhooks/list", json!({})).await;
    assert_eq!(listed.success_data()["webhooks"][0]["url"], ENDPOINT_URL);
    assert!(!listed.text.contains("whsec_") && !listed.text.contains("t0ken"));
    world
        .post_json("webhooks/remove", json!({ "url": ENDPOINT_URL }))
        .await
        .success_data();
    let answer = world
        .post_json("webhooks/remove", json!({ "url": ENDPOINT_URL }))
        .await;
    answer.expect_error(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_secret_of_data_sync_is_the_apps() {
    let world = ApiWorld::new().await;
    let secret = async |body: Value| {
        world
            .post_json("webhooks/secret", body)
            .await
            .success_data()["secret"]
            .clone()
    };
    let first = secret(json!({})).await;
    assert_eq!(secret(Value::Null).await, first);
    assert_ne!(secret(json!({ "rotate": "true" })).await, first);
}

#[tokio::test]
async fn what_cannot_be_an_endpoint_is_refused() {
    let world = ApiWorld::new().await;
    for (body, field) in [
        (json!({}), "url"),
        (json!({ "url": ENDPOINT_URL, "rate": 0 }), "rate"),
        (json!({ "url": ENDPOINT_URL, "rate": 201 }), "rate"),
        (json!({ "url": ENDPOINT_URL, "payload": "half" }), "payload"),
        (
            json!({ "url": ENDPOINT_URL, "token": "two words" }),
            "token",
        ),
        (
            json!({ "url": ENDPOINT_URL, "products": ["income"] }),
            "products",
        ),
    ] {
        let answer = world.post_json("webhooks/set", body).await;
        let (kind, message) = answer.expect_error(StatusCode::BAD_REQUEST);
        assert_eq!(kind, "VALIDATION");
        assert!(message.starts_with(field), "{message}");
    }
    for (body, kind, says) in [
        (
            json!({ "url": "http://app.example/" }),
            "WEBHOOK_URL",
            "(scheme)",
        ),
        (
            json!({ "url": "https://127.0.0.1:9001/" }),
            "WEBHOOK_URL",
            "(ip_literal)",
        ),
        (
            json!({ "url": "https://metadata.internal/" }),
            "WEBHOOK_URL",
            "(internal_name)",
        ),
        (
            json!({ "url": "https://user:pass@app.example/" }),
            "WEBHOOK_URL",
            "(user_info)",
        ),
        (
            json!({ "url": "https://app.example:22/" }),
            "WEBHOOK_URL",
            "(port)",
        ),
        (
            json!({ "url": format!("https://app.example/{}", "a".repeat(2048)) }),
            "WEBHOOK_URL",
            "(too_long)",
        ),
        (
            json!({ "url": "https://app.example/a b" }),
            "WEBHOOK_URL",
            "(unreadable)",
        ),
        (
            json!({ "url": "https://sync.example/v2/webhooks/set" }),
            "WEBHOOK_URL",
            "(own_host)",
        ),
        (
            json!({ "url": "https://SYNC.example.:8443/" }),
            "WEBHOOK_URL",
            "(own_host)",
        ),
        (
            json!({ "url": "eventbridge:elsewhere" }),
            "WEBHOOK_URL",
            "(event_bus)",
        ),
        (
            json!({ "url": "eventbridge:" }),
            "WEBHOOK_URL",
            "(event_bus)",
        ),
        (
            json!({ "url": ENDPOINT_URL, "secret": "whsec_not base64" }),
            "INVALID_SECRET",
            "whsec_",
        ),
        (
            json!({ "url": ENDPOINT_URL, "secret": format!("whsec_{}", "QUJD".repeat(22)) }),
            "INVALID_SECRET",
            "24 to 64",
        ),
        (
            json!({ "url": ENDPOINT_URL, "events": ["income.success"] }),
            "UNKNOWN_EVENT",
            "income.success",
        ),
        (
            json!({ "url": ENDPOINT_URL, "events": ["bal*"] }),
            "UNKNOWN_EVENT",
            "bal*",
        ),
        (
            json!({ "url": ENDPOINT_URL, "version": "2024-01-01" }),
            "UNKNOWN_VERSION",
            "known are 2026-03-01",
        ),
        (
            json!({ "url": ENDPOINT_URL, "secret": "hunter2" }),
            "INVALID_SECRET",
            "whsec_",
        ),
        (
            json!({ "url": ENDPOINT_URL, "secret": "whsec_c2hvcnQ=" }),
            "INVALID_SECRET",
            "24 to 64",
        ),
    ] {
        let answer = world.post_json("webhooks/set", body).await;
        let (refused, message) = answer.expect_error(StatusCode::BAD_REQUEST);
        assert_eq!(refused, kind, "{message}");
        assert!(
            message.contains(says) && !message.contains("hunter2"),
            "{message}"
        );
    }
    let listed = world
        .post_json("webhooks/list", json!({}))
        .await
        .success_data();
    assert_eq!(listed["webhooks"], json!([]));

    // The bus of the deployment is an endpoint, by its name and by its ARN.
    for url in [
        "eventbridge:okra".to_owned(),
        format!("eventbridge:{EVENT_BUS_ARN}"),
    ] {
        world
            .post_json("webhooks/set", json!({ "url": url }))
            .await
            .success_data();
    }
    let local = ApiWorld::with_options(AddressPolicy::AllowLoopback, true).await;
    let loopback = json!({ "url": "http://127.0.0.1:3002/hook" });
    local
        .post_json("webhooks/set", loopback)
        .await
        .success_data();
}

#[tokio::test]
async fn an_app_has_no_more_endpoints_than_can_be_read() {
    let world = ApiWorld::new().await;
    let set = async |n: usize| {
        let url = format!("https://app.example/{n}");
        world.post_json("webhooks/set", json!({ "url": url })).await
    };
    for n in 0..okra_store::MAX_ENDPOINTS_PER_APP {
        set(n).await.success_data();
    }
    set(okra_store::MAX_ENDPOINTS_PER_APP)
        .await
        .expect_error(StatusCode::CONFLICT);
    set(0).await.success_data();
}

/// What waits in the deliver queue, by kind.
async fn take_messages(world: &ApiWorld, kind: &str) -> Vec<Value> {
    let queues = &world.environment.queues;
    let mut found = Vec::new();
    loop {
        let received = queues
            .receive_messages(okra_queue::Queue::Deliver, 10, 0)
            .await
            .unwrap();
        if received.is_empty() {
            return found;
        }
        let bodies = received
            .iter()
            .map(|it| serde_json::from_str::<Value>(&it.body).unwrap());
        found.extend(bodies.filter(|body| body["kind"] == kind));
        let receipts: Vec<String> = received.iter().map(|it| it.receipt.clone()).collect();
        queues
            .delete_messages(okra_queue::Queue::Deliver, &receipts)
            .await
            .unwrap();
    }
}

/// An endpoint is told in order from when that was asked for, or from when it was told of others.
#[tokio::test]
async fn an_endpoint_asks_for_order_and_keeps_its_version() {
    let world = ApiWorld::new().await;
    let (clock, store) = (&world.environment.clock, &world.environment.store);
    let app = okra_core::model::ids::AppId::from_bytes([0xa0; 12]);
    let mut since: Vec<Option<jiff::Timestamp>> = Vec::new();
    for (body, ordered) in [
        (json!({}), false),
        (json!({ "ordered": true }), true),
        (json!({ "rate": 5 }), true),
        (json!({ "ordered": "true", "version": "2026-03-01" }), true),
        (json!({ "events": ["balance.*"] }), true),
        (json!({ "ordered": false }), false),
    ] {
        clock.set_time(clock.now() + jiff::SignedDuration::from_secs(1));
        let mut set = body.clone();
        set["url"] = json!(ENDPOINT_URL);
        let made = world.post_json("webhooks/set", set).await.success_data();
        assert_eq!(made["ordered"], json!(ordered), "{body}");
        assert_eq!(made["version"], "2026-03-01");
        let listed = world
            .post_json("webhooks/list", json!({}))
            .await
            .success_data();
        assert_eq!(listed["webhooks"][0]["ordered"], json!(ordered), "{body}");
        let endpoint = store.list_endpoints(app).await.unwrap().remove(0);
        since.push(endpoint.ordered_since);
    }
    assert_eq!((since[1], since[2]), (since[2], since[3]));
    assert!(since[3] < since[4], "{since:?}");
}

#[tokio::test]
async fn a_new_endpoint_is_pinged_and_can_be_switched_off_and_on() {
    let world = ApiWorld::new().await;
    let set = json!({ "url": ENDPOINT_URL, "events": "balance.*,endpoint.failing", "rate": 7 });
    let made = world.post_json("webhooks/set", set).await.success_data();
    assert_eq!(made["events"], json!(["balance.*", "endpoint.failing"]));
    assert_eq!(
        (&made["rate"], &made["health"]["status"]),
        (&json!(7), &json!("healthy"))
    );
    assert_eq!(made["health"]["ping"], Value::Null);
    let pings = take_messages(&world, "ping_v1").await;
    assert_eq!(pings[0]["endpoint"], made["id"]);
    world
        .post_json("webhooks/set", json!({ "url": ENDPOINT_URL }))
        .await
        .success_data();
    assert_eq!(
        take_messages(&world, "ping_v1").await.len(),
        0,
        "it was known"
    );
    world
        .post_json("webhooks/test", json!({ "id": made["id"] }))
        .await
        .success_data();
    assert_eq!(take_messages(&world, "ping_v1").await.len(), 1);

    let off = world
        .post_json("webhooks/disable", json!({ "url": ENDPOINT_URL }))
        .await
        .success_data();
    assert_eq!(off["health"]["status"], "disabled");
    assert_eq!(off["health"]["disabled_by"], "app");
    let listed = world
        .post_json("webhooks/list", json!({}))
        .await
        .success_data();
    assert_eq!(listed["webhooks"][0]["health"], off["health"]);
    let on = world
        .post_json("webhooks/enable", json!({ "id": made["id"] }))
        .await
        .success_data();
    assert_eq!(on["health"]["status"], "healthy");
    assert_eq!(
        take_messages(&world, "tend_v1").await.len(),
        1,
        "what was parked is sent"
    );
}

#[tokio::test]
async fn a_secret_can_be_brought_along_and_the_one_before_signs_as_long_as_was_said() {
    let world = ApiWorld::new().await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let set = async |body: Value| world.post_json("webhooks/set", body).await.success_data();
    let made = set(json!({ "url": ENDPOINT_URL, "secret": secret })).await;
    assert_eq!(made["secret"], secret);
    assert_eq!(made["previous_secret_until"], Value::Null);
    let rotated = set(json!({ "url": ENDPOINT_URL, "rotate": true, "overlap_hours": 48 })).await;
    assert_eq!(rotated["previous_secret_until"], "2026-03-17T12:00:30.000Z");
    let environment = &world.environment;
    let keyring = Keyring::new(environment.store.clone(), environment.vault.clone());
    let app = okra_core::model::ids::AppId::from_bytes([0xa0; 12]);
    let endpoint = environment
        .store
        .list_endpoints(app)
        .await
        .unwrap()
        .remove(0);
    let both = |hours| {
        let at = environment.clock.now() + jiff::SignedDuration::from_hours(hours);
        let plain = keyring
            .open_active_secrets(&endpoint, at)
            .unwrap()
            .to_plain();
        plain.split(|byte| *byte == b' ').count()
    };
    assert_eq!((both(47), both(48)), (2, 1));
    let at_once = set(json!({ "url": ENDPOINT_URL, "rotate": true, "overlap_hours": 0 })).await;
    assert_eq!(at_once["previous_secret_until"], Value::Null);
    let long = json!({ "url": ENDPOINT_URL, "rotate": true, "overlap_hours": 169 });
    let answer = world.post_json("webhooks/set", long).await;
    answer.expect_error(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn events_are_read_and_their_deliveries_looked_up_and_sent_again() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let hook = world
        .post_json("webhooks/set", json!({ "url": ENDPOINT_URL }))
        .await
        .success_data();
    let list = json!({ "record_id": linked.record_id(), "after": 0, "limit": 2 });
    let page = world.post_json("events/list", list).await.success_data();
    let events = page["events"].as_array().unwrap();
    assert_eq!((events.len(), &page["has_more"]), (2, &json!(true)));
    for (n, event) in (1..).zip(events) {
        assert_eq!(
            (&event["sequence"], &event["record"]),
            (&json!(n), &json!(linked.record_id()))
        );
    }
    let last = page["last_sequence"].as_u64().unwrap();
    let rest = json!({ "record_id": linked.record_id(), "after": 2 });
    let rest = world.post_json("events/list", rest).await.success_data();
    assert_eq!(rest["events"].as_array().unwrap().len() as u64, last - 2);
    assert_eq!(rest["has_more"], false);

    // As if two were delivered.
    let store = &world.environment.store;
    let record = linked.record_id();
    for seq in [1, 2] {
        let entry = store
            .find_feed_entry(record, okra_core::model::ids::Seq(seq))
            .await
            .unwrap()
            .unwrap();
        let delivery = okra_store::Delivery {
            key: okra_store::DeliveryKey {
                endpoint: hook["id"].as_str().unwrap().parse().unwrap(),
                committed_at: entry.committed_at,
                source: record.into(),
                seq: entry.seq,
            },
            event_name: "auth.success".to_owned(),
            state: match seq {
                1 => okra_store::DeliveryState::Delivered,
                _ => okra_store::DeliveryState::Exhausted,
            },
            attempt_count: 1,
            attempt_log: vec![okra_store::LoggedAttempt {
                status: Some(418),
                outcome_class: "rejected".to_owned(),
                attempted_at: entry.committed_at,
                latency_ms: 12,
            }],
            response_excerpt: Some("short and stout".to_owned()),
            next_attempt_at: None,
            is_redelivery: false,
            fifo_position: okra_store::FifoPosition::Unordered,
            version: 1,
        };
        store
            .put_delivery(&delivery, entry.committed_at)
            .await
            .unwrap();
    }
    let id = &events[1]["event_id"];
    let of_event = world
        .post_json("events/deliveries", json!({ "event_id": id }))
        .await
        .success_data();
    let delivery = &of_event["deliveries"][0];
    assert_eq!(delivery["state"], "exhausted");
    assert_eq!(delivery["response"], "short and stout");
    assert_eq!(delivery["log"][0]["status"], 418);

    let log = async |more: Value| {
        let mut body = json!({ "url": ENDPOINT_URL });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        world
            .post_json("webhooks/deliveries", body)
            .await
            .success_data()
    };
    let first = log(json!({ "limit": 1 })).await;
    let next = log(json!({ "limit": 1, "cursor": first["next_cursor"] })).await;
    let ids: Vec<&Value> = [&first, &next]
        .map(|it| &it["deliveries"][0]["event_id"])
        .into();
    assert_eq!(ids, [&events[1]["event_id"], &events[0]["event_id"]]);
    let failed = log(json!({ "state": "exhausted" })).await;
    assert_eq!(failed["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(failed["next_cursor"], Value::Null);

    let resend = json!({ "event_id": id, "url": ENDPOINT_URL });
    world
        .post_json("events/resend", resend)
        .await
        .success_data();
    let sent = take_messages(&world, "resend_v1").await;
    assert_eq!(
        (&sent[0]["seq"], &sent[0]["endpoint"]),
        (&json!(2), &hook["id"])
    );
    let elsewhere = json!({ "event_id": id, "url": "https://elsewhere.example/" });
    let answer = world.post_json("events/resend", elsewhere).await;
    answer.expect_error(StatusCode::NOT_FOUND);

    let trigger = json!({ "recordIds": [linked.record_id()] });
    let triggered = world
        .post_json("callback/trigger", trigger)
        .await
        .success_data();
    let count = triggered["events"].as_u64().unwrap();
    assert!(
        count >= 2,
        "the newest balance and the newest transactions at least"
    );
    assert_eq!(take_messages(&world, "resend_v1").await.len() as u64, count);
    let nowhere = json!({ "recordIds": [linked.record_id()], "url": "https://nowhere.example/" });
    world
        .post_json("callback/trigger", nowhere)
        .await
        .expect_error(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_event_about_an_endpoint_is_looked_up_and_sent_again_by_its_app_alone() {
    let world = ApiWorld::new().await;
    let hook = world
        .post_json(
            "webhooks/set",
            json!({ "url": ENDPOINT_URL, "events": "endpoint.*" }),
        )
        .await
        .success_data();
    let endpoint = hook["id"].as_str().unwrap().parse().unwrap();
    let app = okra_core::model::ids::AppId::from_bytes([0xa0; 12]);
    let now = world.environment.clock.now();
    let store = &world.environment.store;
    let mut stored = store.load_endpoint_health(endpoint).await.unwrap();
    stored.health.disable_by_app(now);
    let entries = [okra_store::NewAppFeedEntry {
        endpoint,
        endpoint_url: ENDPOINT_URL.to_owned(),
        notice: okra_store::AppNotice::Health(
            okra_core::delivery::endpoint_health::HealthNotice::Parked { since: now },
        ),
    }];
    let put = store.put_endpoint_health(app, endpoint, &stored, &entries, now);
    let committed = put.await.unwrap().unwrap();
    assert_eq!(committed.len(), 1);
    take_messages(&world, "resend_v1").await;

    let id = format!("evt_app_{app}_1");
    let asked = json!({ "event_id": id, "url": ENDPOINT_URL });
    let known = world
        .post_json("events/deliveries", asked.clone())
        .await
        .success_data();
    assert_eq!(known["deliveries"], json!([]));
    let sent = world.post_json("events/resend", asked).await.success_data();
    assert_eq!(sent["event_id"], id);
    let sent = take_messages(&world, "resend_v1").await;
    assert_eq!(sent.len(), 1);
    for strange in [
        format!("evt_app_{app}_2"),
        "evt_app_b0b0b0b0b0b0b0b0b0b0b0b0_1".to_owned(),
    ] {
        let asked = json!({ "event_id": strange, "url": ENDPOINT_URL });
        let answer = world.post_json("events/resend", asked).await;
        answer.expect_error(StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_replay_has_a_beginning_and_an_end_within_what_is_kept() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    world
        .post_json("webhooks/set", json!({ "url": ENDPOINT_URL }))
        .await
        .success_data();
    let record = linked.record_id();
    for (more, kind) in [
        (json!({}), "REPLAY_RANGE"),
        (json!({ "since": "2026-03-10T00:00:00Z" }), "REPLAY_RANGE"),
        (json!({ "record_id": record, "from": 1 }), "REPLAY_RANGE"),
        (json!({ "from": 1, "to": 2 }), "REPLAY_RANGE"),
        (
            json!({ "since": "2026-03-12", "until": "2026-03-11" }),
            "REPLAY_RANGE",
        ),
        (
            json!({ "since": "2026-02-01", "until": "2026-03-11" }),
            "REPLAY_BEYOND_RETENTION",
        ),
        (
            json!({ "since": "soon", "until": "2026-03-11" }),
            "VALIDATION",
        ),
        (
            json!({ "record_id": record, "from": 1, "to": 2, "which": "some" }),
            "VALIDATION",
        ),
    ] {
        let mut body = json!({ "url": ENDPOINT_URL });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let answer = world.post_json("webhooks/replay", body).await;
        assert_eq!(
            answer.expect_error(StatusCode::BAD_REQUEST).0,
            kind,
            "{more}"
        );
    }
    let ask = json!({ "url": ENDPOINT_URL, "since": "2026-03-10", "until": "2026-03-16", "which": "all" });
    let replay = world.post_json("webhooks/replay", ask).await.success_data();
    assert_eq!(
        (&replay["state"], &replay["rate"]),
        (&json!("running"), &json!(10))
    );
    let steps = take_messages(&world, "replay_v1").await;
    assert_eq!(
        (&steps[0]["replay"], &steps[0]["version"]),
        (&replay["id"], &json!(1))
    );
    let id = json!({ "id": replay["id"] });
    let cancelled = world
        .post_json("webhooks/replay/cancel", id.clone())
        .await
        .success_data();
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(take_messages(&world, "replay_v1").await.len(), 0);
    let resume = json!({ "id": replay["id"], "resume": true });
    assert_eq!(
        world
            .post_json("webhooks/replay/cancel", resume)
            .await
            .success_data()["state"],
        "running"
    );
    assert_eq!(take_messages(&world, "replay_v1").await[0]["version"], 3);
    assert_eq!(
        world
            .post_json("webhooks/replay/get", id)
            .await
            .success_data()["state"],
        "running"
    );
    let listed = world
        .post_json("webhooks/replay/list", json!({}))
        .await
        .success_data();
    assert_eq!(listed["replays"].as_array().unwrap().len(), 1);
}

/// The URL of a data sync is seen, tried, switched off and on, and told again, like an endpoint; by nobody else.
#[tokio::test]
async fn the_url_of_a_data_sync_is_looked_after_like_an_endpoint() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let url = "https://app.example/sync";
    let sync = json!({
        "customer": linked.customer_id(), "products": ["balance"], "webhook_url": url,
    });
    world.post_json("data-sync", sync).await.success_data();
    let listed = async || {
        let body = json!({ "customer": linked.customer_id() });
        world.post_json("data-sync/list", body).await.success_data()["subscriptions"][0]["health"]
            .clone()
    };
    assert_eq!(listed().await["status"], "healthy");
    take_messages(&world, "").await;
    let named = json!({ "url": url });
    let tried = world
        .post_json("webhooks/test", named.clone())
        .await
        .success_data();
    assert_eq!(
        (&tried["of"], &tried["created_at"]),
        (&json!("data_sync"), &Value::Null)
    );
    let pings = take_messages(&world, "ping_v1").await;
    assert_eq!(
        (&pings[0]["url"], &pings[0]["endpoint"]),
        (&json!(url), &tried["id"])
    );

    let off = world
        .post_json("webhooks/disable", named.clone())
        .await
        .success_data();
    assert_eq!(off["health"]["status"], "disabled");
    assert_eq!(listed().await, off["health"]);
    let one = world
        .post_json("webhooks/list", named.clone())
        .await
        .success_data();
    assert_eq!(one["webhooks"][0]["health"], off["health"]);
    // By its id, and with the customer whose it is; also when the data sync is over.
    let by_id = json!({ "id": off["id"], "customer": linked.customer_id() });
    let on = world
        .post_json("webhooks/enable", by_id)
        .await
        .success_data();
    assert_eq!(on["health"]["status"], "healthy");
    assert_eq!(
        take_messages(&world, "tend_v1").await[0]["endpoint"],
        on["id"]
    );
    let times = json!({ "url": url, "since": "2026-03-14", "until": "2026-03-15T12:00:00Z" });
    let replay = world
        .post_json("webhooks/replay", times.clone())
        .await
        .success_data();
    assert_eq!(replay["endpoint"], on["id"]);

    let nobodys = "https://app.example/nobodys";
    for path in ["test", "enable", "disable", "list", "replay"] {
        let path = format!("webhooks/{path}");
        let mut body = times.clone();
        body["url"] = json!(nobodys);
        let answer = world.post_json(&path, body).await;
        assert_eq!(
            answer.expect_error(StatusCode::NOT_FOUND).0,
            "NOT_FOUND",
            "{path}"
        );
        for by in [json!({ "url": url }), json!({ "id": on["id"] })] {
            let mut body = times.clone();
            body.as_object_mut().unwrap().remove("url");
            body.as_object_mut()
                .unwrap()
                .extend(by.as_object().unwrap().clone());
            let answer = world.post_as(crate::world::OTHER_KEY, &path, &body).await;
            assert_eq!(
                answer.expect_error(StatusCode::NOT_FOUND).0,
                "NOT_FOUND",
                "{path}"
            );
        }
    }
    assert_eq!(
        world
            .post_json("webhooks/list", json!({}))
            .await
            .success_data()["webhooks"],
        json!([])
    );
}

#[tokio::test]
async fn a_token_and_a_rate_are_taken_away() {
    let world = ApiWorld::new().await;
    let set = async |mut body: Value| {
        body["url"] = json!(ENDPOINT_URL);
        let set = world.post_json("webhooks/set", body).await.success_data();
        (set["token"].clone(), set["rate"].clone())
    };
    let both = (json!(true), json!(7));
    assert_eq!(set(json!({ "token": "t0ken", "rate": 7 })).await, both);
    assert_eq!(set(json!({ "token": null })).await, both, "not given");
    assert_eq!(set(json!({ "token": "" })).await, (json!(false), json!(7)));
    assert_eq!(
        set(json!({ "rate": null })).await,
        (json!(false), json!(25))
    );
}
