//! The requests that control the bank.

use http::{Method, StatusCode};
use okra_sandbox::{SandboxBank, SandboxOptions};
use serde_json::{Value, json};

use crate::support::{ClientResponse, ManualClock, send_get, send_request};

struct ControlClient {
    router: axum::Router,
}

impl ControlClient {
    fn new() -> Self {
        let bank =
            SandboxBank::in_memory(SandboxOptions::default(), ManualClock::new().bank_clock());
        Self {
            router: bank.control_router().merge(bank.api_router()),
        }
    }

    async fn send_json(&self, method: Method, path: &str, body: Value) -> ClientResponse {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        send_request(&self.router, method, path, None, body).await
    }
}

#[tokio::test]
async fn a_login_is_created_linked_edited_and_made_to_fail() {
    let driver = ControlClient::new();
    let wanted =
        json!({"name": "Musa Bello", "accounts": 2, "volume": "low", "standard": "obie-4.0"});
    let made = driver
        .send_json(Method::POST, "/control/logins", wanted)
        .await;
    assert_eq!(made.status, StatusCode::CREATED);
    let made = made.parse_json();
    assert_eq!(made["accounts"].as_array().unwrap().len(), 2);
    let login = format!("/control/logins/{}", made["id"]);
    let account = made["accounts"][0]["account_id"].as_str().unwrap();

    let linked = driver
        .send_json(Method::POST, &format!("{login}/link"), Value::Null)
        .await;
    let linked = linked.parse_json();
    let token = linked["access_token"].as_str().unwrap();
    let base = linked["base_path"].as_str().unwrap();
    assert_eq!(base, "/open-banking/v4.0/aisp");
    let url = format!("{base}/accounts/{account}/transactions");
    let count = async || {
        let response = send_get(&driver.router, &url, Some(token)).await;
        assert_eq!(response.status, StatusCode::OK);
        response.parse_json()["Data"]["Transaction"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count().await, 30);

    let rows = format!("{login}/accounts/{account}/transactions");
    let new = json!({"direction": "debit", "amount": "99.90", "text": "HOLD", "status": "pending"});
    let added = driver.send_json(Method::POST, &rows, new).await;
    assert_eq!(added.status, StatusCode::CREATED);
    assert_eq!(count().await, 31);
    let id = added.parse_json()["transaction_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let booked = driver
        .send_json(
            Method::POST,
            &format!("{rows}/{id}/book"),
            json!({"drift": 10}),
        )
        .await;
    assert_eq!(booked.parse_json()["status"], "booked");
    assert_eq!(booked.parse_json()["amount"], "100.00");
    let row = format!("{rows}/{}", booked.parse_json()["row"].as_str().unwrap());
    let amended = driver
        .send_json(Method::PATCH, &row, json!({"id": "missing"}))
        .await;
    assert_eq!(amended.parse_json()["transaction_id"], Value::Null);
    let removed = driver.send_json(Method::DELETE, &row, Value::Null).await;
    assert_eq!(removed.status, StatusCode::OK);
    assert_eq!(count().await, 30);
    let listed = driver
        .send_json(Method::GET, &rows, Value::Null)
        .await
        .parse_json();
    assert_eq!(listed.as_array().unwrap().len(), 30);

    let faults = json!({"outage": "unavailable"});
    let set = driver
        .send_json(Method::PUT, &format!("{login}/faults"), faults.clone())
        .await;
    assert_eq!(set.status, StatusCode::NO_CONTENT);
    let status = async || {
        send_get(&driver.router, &url, Some(token))
            .await
            .status
            .as_u16()
    };
    assert_eq!(status().await, 503);
    driver
        .send_json(Method::PUT, &format!("{login}/faults"), Value::Null)
        .await;
    assert_eq!(status().await, 200);
    driver
        .send_json(Method::PUT, "/control/faults", faults)
        .await;
    assert_eq!(status().await, 503);
    let shown = driver
        .send_json(Method::GET, "/control/faults", Value::Null)
        .await
        .parse_json();
    assert_eq!(shown["outage"], "unavailable");
    driver
        .send_json(Method::PUT, "/control/faults", json!({}))
        .await;
    let consent = json!({"state": "expired"});
    driver
        .send_json(Method::PUT, &format!("{login}/consent"), consent)
        .await;
    assert_eq!(status().await, 403);
    let shown = driver
        .send_json(Method::GET, &login, Value::Null)
        .await
        .parse_json();
    assert_eq!(shown["consent"], "expired");
    let all = driver
        .send_json(Method::GET, "/control/logins", Value::Null)
        .await
        .parse_json();
    assert_eq!(all, json!([shown]));
}

#[tokio::test]
async fn a_request_without_effect_states_why() {
    let driver = ControlClient::new();
    driver
        .send_json(Method::POST, "/control/logins", json!({"history_rows": 1}))
        .await;
    let rows = "/control/logins/1/accounts/0000000101/transactions";
    let new = json!({"direction": "debit", "amount": "1"});
    for (method, path, body, status) in [
        (Method::POST, "/control/logins", json!({"acounts": 1}), 400),
        (Method::POST, "/control/logins", json!({"accounts": 9}), 400),
        (Method::POST, "/control/logins/7/link", Value::Null, 404),
        (Method::GET, "/control/logins/0", Value::Null, 404),
        (
            Method::GET,
            "/control/logins/1/accounts/x/transactions",
            Value::Null,
            404,
        ),
        (
            Method::PUT,
            "/control/faults",
            json!({"slow_ms": 120_001}),
            400,
        ),
        (
            Method::POST,
            rows,
            json!({"direction": "up", "amount": "1"}),
            400,
        ),
        (
            Method::POST,
            rows,
            json!({"direction": "debit", "amount": "1,5"}),
            400,
        ),
        (Method::DELETE, &format!("{rows}/h7"), Value::Null, 404),
        (Method::DELETE, &format!("{rows}/nothing"), Value::Null, 404),
        (Method::POST, &format!("{rows}/h0/book"), Value::Null, 409),
        (Method::POST, rows, new, 201),
    ] {
        let response = driver.send_json(method.clone(), path, body).await;
        assert_eq!(response.status.as_u16(), status, "{method} {path}");
        assert_eq!(response.parse_json().get("error").is_some(), status >= 400);
    }
}
