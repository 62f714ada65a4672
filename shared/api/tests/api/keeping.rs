//! Keys, calls that are repeated, limits, and what is removed.

use axum::http::{Method, Request, StatusCode, header};
use okra_core::model::ids::{Seq, TransactionId};
use okra_store::{Consistency, DEFAULT_REFRESHES_PER_MINUTE, RecordStatus};
use serde_json::{Value, json};

use crate::world::{APP_KEY, ApiWorld, TestResponse};

/// Calls under a name.
async fn call_with_key(world: &ApiWorld, name: &str, path: &str, body: &Value) -> TestResponse {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/v2/{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {APP_KEY}"))
        .header("Idempotency-Key", name);
    world
        .send_request(request.body(body.to_string().into()).unwrap())
        .await
}

#[tokio::test]
async fn a_named_call_runs_once() {
    let world = ApiWorld::new().await;
    let body = json!({ "name": "Ada" });
    let first = call_with_key(&world, "n-1", "customers/create", &body).await;
    let again = call_with_key(&world, "n-1", "customers/create", &body).await;
    assert_eq!(again.success_data(), first.success_data());
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(first.headers.get("idempotency-replayed"), None);
    let all = world
        .post_json("customers/list", json!({}))
        .await
        .success_data();
    assert_eq!(all["customers"].as_array().unwrap().len(), 1);

    // Another body, or another path, under that name.
    for (path, body) in [
        ("customers/create", json!({})),
        ("customers/generate", body),
    ] {
        let answer = call_with_key(&world, "n-1", path, &body).await;
        let (kind, _) = answer.expect_error(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(kind, "IDEMPOTENCY_MISMATCH");
    }
    // A refusal is not kept: what was wrong can be put right.
    let wrong = json!({ "noOfAccount": 9 });
    call_with_key(&world, "n-2", "customers/create", &wrong)
        .await
        .expect_error(StatusCode::BAD_REQUEST);
    call_with_key(&world, "n-2", "customers/create", &json!({}))
        .await
        .success_data();
    // After a day the name is free.
    world
        .environment
        .clock
        .set_time("2026-03-16T12:00:31Z".parse().unwrap());
    let later = call_with_key(
        &world,
        "n-1",
        "customers/create",
        &json!({ "name": "Bola" }),
    )
    .await;
    assert_eq!(later.success_data()["name"], "Bola");
    for name in ["", " ", &"x".repeat(256)] {
        let answer = call_with_key(&world, name, "customers/create", &json!({})).await;
        assert!(
            answer
                .expect_error(StatusCode::BAD_REQUEST)
                .1
                .starts_with("Idempotency-Key")
        );
    }
}

/// What a query says is asked for as much as what a body says, in whatever order and spelling.
#[tokio::test]
async fn the_query_is_part_of_what_was_asked() {
    let world = ApiWorld::new().await;
    let first = call_with_key(
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
        let again = call_with_key(&world, "q", &path, &json!({})).await;
        assert_eq!(again.headers["idempotency-replayed"], "true", "{same}");
        assert_eq!(again.success_data(), first.success_data(), "{same}");
    }
    for other in ["", "?name=Bola&email=a@b", "?name=Ada"] {
        let answer =
            call_with_key(&world, "q", &format!("customers/create{other}"), &json!({})).await;
        let (kind, _) = answer.expect_error(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(kind, "IDEMPOTENCY_MISMATCH", "{other}");
    }
}

#[tokio::test]
async fn a_secret_that_is_shown_once_is_shown_again_to_its_own_call_alone() {
    let world = ApiWorld::new().await;
    let made = call_with_key(&world, "k", "keys/rotate", &json!({}))
        .await
        .success_data();
    let again = call_with_key(&world, "k", "keys/rotate", &json!({}))
        .await
        .success_data();
    assert_eq!(made["secret_key"], again["secret_key"]);
}

#[tokio::test]
async fn keys_are_rotated_with_an_overlap_and_revoked() {
    let world = ApiWorld::new().await;
    let status = async |key: &str| {
        world
            .post_as(key, "customers/list", &json!({}))
            .await
            .status
    };
    let made = world
        .post_json("keys/rotate", json!({ "overlap_hours": 2 }))
        .await
        .success_data();
    let new = made["secret_key"].as_str().unwrap();
    assert_eq!(
        (status(APP_KEY).await, status(new).await),
        (StatusCode::OK, StatusCode::OK)
    );
    let listed = world.post_json("keys/list", json!({})).await;
    assert!(!listed.text.contains(new));
    let keys = listed.success_data()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2);
    let hints: Vec<&str> = keys
        .iter()
        .map(|key| key["hint"].as_str().unwrap())
        .collect();
    assert!(hints.contains(&&new[new.len() - 4..]), "{hints:?}");

    world
        .environment
        .clock
        .set_time("2026-03-15T14:00:30Z".parse().unwrap());
    assert_eq!(
        (status(APP_KEY).await, status(new).await),
        (StatusCode::UNAUTHORIZED, StatusCode::OK)
    );
    let only = json!({ "id": made["id"] });
    let answer = world.post_as(new, "keys/revoke", &only).await;
    assert_eq!(answer.expect_error(StatusCode::CONFLICT).0, "CONFLICT");
    let second = world
        .post_as(new, "keys/rotate", &json!({}))
        .await
        .success_data();
    let second = second["secret_key"].as_str().unwrap();
    world
        .post_as(second, "keys/revoke", &only)
        .await
        .success_data();
    assert_eq!(
        (status(new).await, status(second).await),
        (StatusCode::UNAUTHORIZED, StatusCode::OK)
    );
    let answer = world
        .post_as(second, "keys/rotate", &json!({ "overlap_hours": 721 }))
        .await;
    assert!(
        answer
            .expect_error(StatusCode::BAD_REQUEST)
            .1
            .starts_with("overlap_hours")
    );
}

#[tokio::test]
async fn refreshes_are_limited_by_the_minute_and_reads_cost_no_write() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let account = json!({ "account_id": linked.account_id() });
    for _ in 0..DEFAULT_REFRESHES_PER_MINUTE {
        world
            .post_json("balance/refresh", account.clone())
            .await
            .success_data();
    }
    let answer = world.post_json("balance/check", account.clone()).await;
    assert_eq!(
        answer.expect_error(StatusCode::TOO_MANY_REQUESTS).0,
        "RATE_LIMIT"
    );
    assert_eq!(answer.headers["retry-after"], "30");
    // Another product has its own, and so has the next minute.
    world
        .post_json("transactions/refresh", account.clone())
        .await
        .success_data();
    world
        .environment
        .clock
        .set_time("2026-03-15T12:01:00Z".parse().unwrap());
    world
        .post_json("balance/refresh", account.clone())
        .await
        .success_data();

    let before = world.environment.store.capacity_used();
    for _ in 0..2 * DEFAULT_REFRESHES_PER_MINUTE {
        world
            .post_json("balance/getByAccount", account.clone())
            .await
            .success_data();
    }
    let after = world.environment.store.capacity_used();
    assert_eq!(after.write_units, before.write_units);
}

#[tokio::test]
async fn a_customer_that_is_removed_leaves_nothing() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let other = world.create_refreshed().await;
    let store = &world.environment.store;
    let strong = Consistency::Strong;
    let customer = json!({ "customer": linked.customer_id() });
    let rows = world
        .post_json("transactions/getByCustomer", customer.clone())
        .await
        .success_data();
    let rows = rows["transaction"].as_array().unwrap().clone();
    let theirs = json!({ "customer": other.customer_id() });
    let theirs_before = world
        .post_json("transactions/getByCustomer", theirs.clone())
        .await
        .success_data();
    let head = store
        .find_head(linked.record_id(), strong)
        .await
        .unwrap()
        .unwrap();
    assert!(head.seq > Seq::ZERO && !rows.is_empty());

    let removed = world
        .post_json("customers/remove", customer.clone())
        .await
        .success_data();
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
    let receipt = world
        .post_json("receipts/get", receipt)
        .await
        .success_data();
    assert_eq!(receipt, removed);

    assert_eq!(
        store.find_head(linked.record_id(), strong).await.unwrap(),
        None
    );
    assert_eq!(
        store
            .find_consent(linked.record_id(), strong)
            .await
            .unwrap(),
        None
    );
    assert!(
        store
            .find_account(linked.account_id().parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
    for row in rows {
        let id: TransactionId = row["_id"].as_str().unwrap().parse().unwrap();
        assert!(store.find_transaction(id).await.unwrap().is_none());
    }
    for key in head.due_keys() {
        assert_eq!(store.find_due_entry(key, strong).await.unwrap(), None);
    }
    world
        .post_json("customers/get", customer)
        .await
        .expect_error(StatusCode::NOT_FOUND);
    // What was on its way finds nothing, and makes nothing.
    world.process_chunks().await;
    assert_eq!(
        store.find_head(linked.record_id(), strong).await.unwrap(),
        None
    );

    let theirs_after = world
        .post_json("transactions/getByCustomer", theirs)
        .await
        .success_data();
    assert_eq!(theirs_after, theirs_before);
    let unlinked = json!({ "record_id": other.record_id() });
    world
        .post_json("records/unlink", unlinked)
        .await
        .success_data();
    let head = store.find_head(other.record_id(), strong).await.unwrap();
    assert!(head.is_none_or(|head| head.status == RecordStatus::Invalid));
}
