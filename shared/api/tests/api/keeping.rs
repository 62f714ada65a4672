//! Keys, calls that are repeated, limits, and what is removed.

use axum::http::{Method, Request, StatusCode, header};
use okra_core::{ids::Seq, ids::TransactionId};
use okra_store::{Consistency, DEFAULT_RATE, RecordStatus};
use serde_json::{Value, json};

use crate::world::{Answer, KEY, World};

/// Calls under a name.
async fn named(world: &World, name: &str, path: &str, body: &Value) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/v2/{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {KEY}"))
        .header("Idempotency-Key", name);
    world
        .send(request.body(body.to_string().into()).unwrap())
        .await
}

#[tokio::test]
async fn a_named_call_runs_once() {
    let world = World::new().await;
    let body = json!({ "name": "Ada" });
    let first = named(&world, "n-1", "customers/create", &body).await;
    let again = named(&world, "n-1", "customers/create", &body).await;
    assert_eq!(again.data(), first.data());
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(first.headers.get("idempotency-replayed"), None);
    let all = world.post("customers/list", json!({})).await.data();
    assert_eq!(all["customers"].as_array().unwrap().len(), 1);

    // Another body, or another path, under that name.
    for (path, body) in [
        ("customers/create", json!({})),
        ("customers/generate", body),
    ] {
        let answer = named(&world, "n-1", path, &body).await;
        let (kind, _) = answer.refusal(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(kind, "IDEMPOTENCY_MISMATCH");
    }
    // A refusal is not kept: what was wrong can be put right.
    let wrong = json!({ "noOfAccount": 9 });
    named(&world, "n-2", "customers/create", &wrong)
        .await
        .refusal(StatusCode::BAD_REQUEST);
    named(&world, "n-2", "customers/create", &json!({}))
        .await
        .data();
    // After a day the name is free.
    world
        .environment
        .clock
        .set("2026-03-16T12:00:31Z".parse().unwrap());
    let later = named(
        &world,
        "n-1",
        "customers/create",
        &json!({ "name": "Bola" }),
    )
    .await;
    assert_eq!(later.data()["name"], "Bola");
    for name in ["", " ", &"x".repeat(256)] {
        let answer = named(&world, name, "customers/create", &json!({})).await;
        assert!(
            answer
                .refusal(StatusCode::BAD_REQUEST)
                .1
                .starts_with("Idempotency-Key")
        );
    }
}

/// What a query says is asked for as much as what a body says, in whatever order and spelling.
#[tokio::test]
async fn the_query_is_part_of_what_was_asked() {
    let world = World::new().await;
    let first = named(
        &world,
        "q",
        "customers/create?name=Ada&email=a%40b",
        &json!({}),
    )
    .await;
    for same in [
        "email=a@b&name=Ada",
        "name=Ada&email=a%40b&",
        "name=%41da&email=a@b&bank=",
    ] {
        let path = format!("customers/create?{same}");
        let again = named(&world, "q", &path, &json!({})).await;
        assert_eq!(again.headers["idempotency-replayed"], "true", "{same}");
        assert_eq!(again.data(), first.data(), "{same}");
    }
    for other in ["", "?name=Bola&email=a@b", "?name=Ada"] {
        let answer = named(&world, "q", &format!("customers/create{other}"), &json!({})).await;
        let (kind, _) = answer.refusal(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(kind, "IDEMPOTENCY_MISMATCH", "{other}");
    }
}

#[tokio::test]
async fn a_secret_that_is_shown_once_is_shown_again_to_its_own_call_alone() {
    let world = World::new().await;
    let made = named(&world, "k", "keys/rotate", &json!({})).await.data();
    let again = named(&world, "k", "keys/rotate", &json!({})).await.data();
    assert_eq!(made["secret_key"], again["secret_key"]);
}

#[tokio::test]
async fn keys_are_rotated_with_an_overlap_and_revoked() {
    let world = World::new().await;
    let status = async |key: &str| {
        world
            .post_as(key, "customers/list", &json!({}))
            .await
            .status
    };
    let made = world
        .post("keys/rotate", json!({ "overlap_hours": 2 }))
        .await
        .data();
    let new = made["secret_key"].as_str().unwrap();
    assert_eq!(
        (status(KEY).await, status(new).await),
        (StatusCode::OK, StatusCode::OK)
    );
    let listed = world.post("keys/list", json!({})).await;
    assert!(!listed.text.contains(new));
    let keys = listed.data()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2);
    let hints: Vec<&str> = keys
        .iter()
        .map(|key| key["hint"].as_str().unwrap())
        .collect();
    assert!(hints.contains(&&new[new.len() - 4..]), "{hints:?}");

    world
        .environment
        .clock
        .set("2026-03-15T14:00:30Z".parse().unwrap());
    assert_eq!(
        (status(KEY).await, status(new).await),
        (StatusCode::UNAUTHORIZED, StatusCode::OK)
    );
    let only = json!({ "id": made["id"] });
    let answer = world.post_as(new, "keys/revoke", &only).await;
    assert_eq!(answer.refusal(StatusCode::CONFLICT).0, "CONFLICT");
    let second = world.post_as(new, "keys/rotate", &json!({})).await.data();
    let second = second["secret_key"].as_str().unwrap();
    world.post_as(second, "keys/revoke", &only).await.data();
    assert_eq!(
        (status(new).await, status(second).await),
        (StatusCode::UNAUTHORIZED, StatusCode::OK)
    );
    let answer = world
        .post_as(second, "keys/rotate", &json!({ "overlap_hours": 721 }))
        .await;
    assert!(
        answer
            .refusal(StatusCode::BAD_REQUEST)
            .1
            .starts_with("overlap_hours")
    );
}

#[tokio::test]
async fn refreshes_are_limited_by_the_minute_and_reads_cost_no_write() {
    let world = World::new().await;
    let linked = world.refreshed().await;
    let account = json!({ "account_id": linked.account() });
    for _ in 0..DEFAULT_RATE {
        world.post("balance/refresh", account.clone()).await.data();
    }
    let answer = world.post("balance/check", account.clone()).await;
    assert_eq!(
        answer.refusal(StatusCode::TOO_MANY_REQUESTS).0,
        "RATE_LIMIT"
    );
    assert_eq!(answer.headers["retry-after"], "30");
    // Another product has its own, and so has the next minute.
    world
        .post("transactions/refresh", account.clone())
        .await
        .data();
    world
        .environment
        .clock
        .set("2026-03-15T12:01:00Z".parse().unwrap());
    world.post("balance/refresh", account.clone()).await.data();

    let before = world.environment.store.capacity();
    for _ in 0..2 * DEFAULT_RATE {
        world
            .post("balance/getByAccount", account.clone())
            .await
            .data();
    }
    let after = world.environment.store.capacity();
    assert_eq!(after.write_units, before.write_units);
}

#[tokio::test]
async fn a_customer_that_is_removed_leaves_nothing() {
    let world = World::new().await;
    let linked = world.refreshed().await;
    let other = world.refreshed().await;
    let store = &world.environment.store;
    let strong = Consistency::Strong;
    let customer = json!({ "customer": linked.customer() });
    let rows = world
        .post("transactions/getByCustomer", customer.clone())
        .await
        .data();
    let rows = rows["transaction"].as_array().unwrap().clone();
    let theirs = json!({ "customer": other.customer() });
    let theirs_before = world
        .post("transactions/getByCustomer", theirs.clone())
        .await
        .data();
    let head = store.head(linked.record(), strong).await.unwrap().unwrap();
    assert!(head.seq > Seq::ZERO && !rows.is_empty());

    let removed = world
        .post("customers/remove", customer.clone())
        .await
        .data();
    assert_eq!(removed["completed"], true);
    let deleted = &removed["deleted"];
    assert_eq!(
        (&deleted["records"], &deleted["accounts"]),
        (&json!(1), &json!(1))
    );
    assert!(
        deleted["transactions"].as_u64().unwrap() >= rows.len() as u64,
        "{removed}"
    );
    assert!(
        deleted["feed_entries"].as_u64().unwrap() >= head.seq.0,
        "{removed}"
    );
    let receipt = json!({ "receipt": removed["receipt"] });
    let receipt = world.post("receipts/get", receipt).await.data();
    assert_eq!(receipt, removed);

    assert_eq!(store.head(linked.record(), strong).await.unwrap(), None);
    assert_eq!(store.consent(linked.record(), strong).await.unwrap(), None);
    assert!(
        store
            .account(linked.account().parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
    for row in rows {
        let id: TransactionId = row["_id"].as_str().unwrap().parse().unwrap();
        assert!(store.transaction(id).await.unwrap().is_none());
    }
    for key in head.due_keys() {
        assert_eq!(store.due_entry(key, strong).await.unwrap(), None);
    }
    world
        .post("customers/get", customer)
        .await
        .refusal(StatusCode::NOT_FOUND);
    // What was on its way finds nothing, and makes nothing.
    world.work().await;
    assert_eq!(store.head(linked.record(), strong).await.unwrap(), None);

    let theirs_after = world
        .post("transactions/getByCustomer", theirs)
        .await
        .data();
    assert_eq!(theirs_after, theirs_before);
    let unlinked = json!({ "record_id": other.record() });
    world.post("records/unlink", unlinked).await.data();
    let head = store.head(other.record(), strong).await.unwrap();
    assert!(head.is_none_or(|head| head.status == RecordStatus::Invalid));
}
