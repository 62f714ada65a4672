//! Webhook endpoints.

use axum::http::StatusCode;
use okra_webhooks::{AddressPolicy, Keyring};
use serde_json::{Value, json};

use crate::world::World;

const URL: &str = "https://app.example/okra/hook";

#[tokio::test]
async fn an_endpoints_secret_is_shown_once() {
    let world = World::new().await;
    let set = async |body: Value| world.post("webhooks/set", body).await.data();
    let made = set(json!({ "url": URL, "token": "t0ken" })).await;
    let first = made["secret"].as_str().unwrap().to_owned();
    assert!(first.starts_with("whsec_"));
    assert_eq!(made["payload"], "full");
    assert_eq!(made["products"], json!(["balance", "transactions"]));

    // Set again, it keeps its secret, its token and what is not given.
    let again = set(json!({ "url": URL, "payload": "reference", "products": "balance" })).await;
    assert_eq!(again.get("secret"), None);
    assert_eq!(
        (&again["token"], &again["payload"]),
        (&json!(true), &json!("reference"))
    );
    let rotated = set(json!({ "url": URL, "rotate": true })).await;
    let second = rotated["secret"].as_str().unwrap();
    assert_ne!(second, first);
    assert_eq!(rotated["payload"], "reference");

    let environment = &world.environment;
    let keyring = Keyring::new(environment.store.clone(), environment.vault.clone());
    let app = okra_core::ids::AppId::from_bytes([0xa0; 12]);
    let stored = environment.store.endpoints(app).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(keyring.secrets(&stored[0]).unwrap().current(), second);
    assert!(keyring.bearer(&stored[0]).unwrap().is_some());

    let listed = world.post("webhooks/list", json!({})).await;
    assert_eq!(listed.data()["webhooks"][0]["url"], URL);
    assert!(!listed.text.contains("whsec_") && !listed.text.contains("t0ken"));
    world
        .post("webhooks/remove", json!({ "url": URL }))
        .await
        .data();
    let answer = world.post("webhooks/remove", json!({ "url": URL })).await;
    answer.refusal(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_secret_of_data_sync_is_the_apps() {
    let world = World::new().await;
    let secret =
        async |body: Value| world.post("webhooks/secret", body).await.data()["secret"].clone();
    let first = secret(json!({})).await;
    assert_eq!(secret(Value::Null).await, first);
    assert_ne!(secret(json!({ "rotate": "true" })).await, first);
}

#[tokio::test]
async fn what_cannot_be_an_endpoint_is_refused() {
    let world = World::new().await;
    for (body, field) in [
        (json!({}), "url"),
        (json!({ "url": "http://127.0.0.1:9001/" }), "url"),
        (json!({ "url": "https://metadata.internal/" }), "url"),
        (json!({ "url": "https://user:pass@app.example/" }), "url"),
        (json!({ "url": URL, "payload": "half" }), "payload"),
        (json!({ "url": URL, "token": "two words" }), "token"),
        (json!({ "url": URL, "products": ["income"] }), "products"),
    ] {
        let answer = world.post("webhooks/set", body).await;
        let (kind, message) = answer.refusal(StatusCode::BAD_REQUEST);
        assert_eq!(kind, "VALIDATION");
        assert!(message.starts_with(field), "{message}");
    }
    let listed = world.post("webhooks/list", json!({})).await.data();
    assert_eq!(listed["webhooks"], json!([]));

    let local = World::with(AddressPolicy::AllowLoopback, true).await;
    let loopback = json!({ "url": "http://127.0.0.1:3002/hook" });
    local.post("webhooks/set", loopback).await.data();
}

#[tokio::test]
async fn an_app_has_no_more_endpoints_than_can_be_read() {
    let world = World::new().await;
    let set = async |n: usize| {
        let url = format!("https://app.example/{n}");
        world.post("webhooks/set", json!({ "url": url })).await
    };
    for n in 0..okra_store::MAX_ENDPOINTS_PER_APP {
        set(n).await.data();
    }
    set(okra_store::MAX_ENDPOINTS_PER_APP)
        .await
        .refusal(StatusCode::BAD_REQUEST);
    set(0).await.data();
}
