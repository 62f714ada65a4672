//! Calls as API Gateway hands them to the function (payload version 2.0), sloppy, broken and hostile:
//! each is served or refused in the envelope, and none is a fault of ours.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use data_encoding::BASE64;
use jiff::SignedDuration;
use okra_api::{MAX_BODY_BYTES, gateway};
use okra_core::{
    model::{
        ids::{AccountId, EpochDay, Seq, TransactionId},
        money::{Currency, Money},
        snapshot::{BookingStatus, Direction, Transaction, TransactionFacts},
    },
    sync::feed::{Change, FeedEntry, FetchKind, TransactionsDiff},
};
use okra_store::{Consistency, RecordCommit};
use serde_json::{Value, json};

use crate::world::{APP_KEY, ApiWorld, TestResponse};

/// An event of API Gateway.
fn gateway_event(method: &str, path: &str, query: &str) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {
            "authorization": format!("Bearer {APP_KEY}"),
            "content-type": "application/json",
            "host": "abcdefghij.execute-api.eu-west-1.amazonaws.com",
            "x-forwarded-for": "192.0.2.1",
            "x-forwarded-proto": "https"
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdefghij",
            "domainName": "abcdefghij.execute-api.eu-west-1.amazonaws.com",
            "domainPrefix": "abcdefghij",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "test"
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": "$default",
            "time": "15/Mar/2026:12:00:30 +0000",
            "timeEpoch": 1_773_576_030_000_u64
        },
        "isBase64Encoded": false
    })
}

fn post_event(path: &str, body: impl Into<Value>) -> Value {
    let mut event = gateway_event("POST", path, "");
    event["body"] = body.into();
    event
}

/// With a body of any bytes, which the gateway encodes.
fn post_bytes_event(path: &str, body: &[u8]) -> Value {
    let mut event = post_event(path, BASE64.encode(body));
    event["isBase64Encoded"] = json!(true);
    event
}

fn with_header(mut event: Value, name: &str, value: &str) -> Value {
    event["headers"][name] = json!(value);
    event
}

async fn send_event(world: &ApiWorld, event: &Value) -> TestResponse {
    let event = serde_json::from_str(&event.to_string()).unwrap();
    world.send_request(gateway::request_from_event(event)).await
}

#[tokio::test]
async fn what_a_gateway_hands_over_is_served_or_refused_in_the_envelope() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let customer = linked.customer_id();
    let by_customer = "/v2/balance/getByCustomer";
    let asked = json!({ "customer": customer }).to_string();
    let form = format!("customer={customer}");
    let nested = |open: &str, depth: usize| open.repeat(depth);
    let long = "x".repeat(MAX_BODY_BYTES + 1);
    let many: String = (0..5000).map(|n| format!("a{n}=1&")).collect();
    let (ok, bad) = (StatusCode::OK, StatusCode::BAD_REQUEST);
    let missing = StatusCode::NOT_FOUND;
    let no_method = StatusCode::METHOD_NOT_ALLOWED;
    let cases: Vec<(&str, Value, StatusCode)> = vec![
        ("a body", post_event(by_customer, asked.as_str()), ok),
        (
            "an encoded body",
            post_bytes_event(by_customer, asked.as_bytes()),
            ok,
        ),
        (
            "an encoded form",
            post_bytes_event(by_customer, form.as_bytes()),
            ok,
        ),
        (
            "a form as a browser sends it",
            with_header(
                post_bytes_event(by_customer, form.as_bytes()),
                "content-type",
                "application/x-www-form-urlencoded",
            ),
            ok,
        ),
        (
            "no body",
            gateway_event("POST", "/v2/products/balances", ""),
            ok,
        ),
        (
            "a null body",
            post_event("/v2/products/balances", Value::Null),
            ok,
        ),
        (
            "the text null",
            post_event("/v2/products/balances", "null"),
            ok,
        ),
        (
            "a byte order mark",
            post_bytes_event(by_customer, &[b"\xEF\xBB\xBF", asked.as_bytes()].concat()),
            ok,
        ),
        (
            "a stage before the prefix",
            post_event(&format!("/prod{by_customer}"), asked.as_str()),
            ok,
        ),
        (
            "two slashes",
            post_event("/v2//balance//getByCustomer/", asked.as_str()),
            ok,
        ),
        (
            "a dangling &",
            gateway_event("GET", "/v2/banks/list", "page=1&"),
            ok,
        ),
        (
            "a query that is no form",
            gateway_event("GET", "/v2/banks/list", "%%%=%zz&&&==&%ff=%fe"),
            ok,
        ),
        (
            "five thousand parameters",
            gateway_event("GET", "/v2/banks/list", &many),
            ok,
        ),
        ("HEAD", gateway_event("HEAD", "/v2/banks/list", ""), ok),
        (
            "OPTIONS",
            gateway_event("OPTIONS", "/v2/banks/list", ""),
            StatusCode::NO_CONTENT,
        ),
        (
            "OPTIONS of what wants a key",
            gateway_event("OPTIONS", by_customer, ""),
            StatusCode::NO_CONTENT,
        ),
        (
            "a key in quotes",
            with_header(
                post_event(by_customer, asked.as_str()),
                "authorization",
                "\"\"",
            ),
            StatusCode::UNAUTHORIZED,
        ),
        (
            "a key that is no ASCII",
            with_header(
                post_event(by_customer, asked.as_str()),
                "authorization",
                "Bearer ключ",
            ),
            StatusCode::UNAUTHORIZED,
        ),
        (
            "a name that is no ASCII",
            with_header(
                post_event("/v2/customers/generate", "{}"),
                "idempotency-key",
                "ключ",
            ),
            bad,
        ),
        (
            "GET of a POST",
            gateway_event("GET", by_customer, ""),
            no_method,
        ),
        ("PUT", gateway_event("PUT", by_customer, ""), no_method),
        ("PATCH", gateway_event("PATCH", by_customer, ""), no_method),
        (
            "DELETE",
            gateway_event("DELETE", "/v2/banks/list", ""),
            no_method,
        ),
        (
            "TRACE",
            gateway_event("TRACE", "/v2/banks/list", ""),
            no_method,
        ),
        ("nothing", gateway_event("GET", "/v2/", ""), missing),
        (
            "a climb",
            gateway_event("GET", "/v2/../../etc/passwd", ""),
            missing,
        ),
        (
            "an encoded slash",
            gateway_event("POST", "/v2/balance%2FgetByCustomer", ""),
            missing,
        ),
        (
            "a nul",
            gateway_event("POST", "/v2/balance%00/getByCustomer", ""),
            missing,
        ),
        (
            "a long path",
            gateway_event("GET", &format!("/v2/{}", "a/".repeat(3000)), ""),
            missing,
        ),
        (
            "too large a body",
            post_event(by_customer, long.as_str()),
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
        (
            "half a body",
            post_event(by_customer, &asked[..asked.len() - 1]),
            bad,
        ),
        (
            "two bodies",
            post_event(by_customer, format!("{asked}{asked}")),
            bad,
        ),
        (
            "a body that is no UTF-8",
            post_bytes_event(by_customer, b"{\"customer\": \"\xff\xfe\"}"),
            bad,
        ),
        (
            "a form that is no UTF-8",
            post_bytes_event(by_customer, b"customer=\xff\xfe"),
            bad,
        ),
        (
            "deep lists",
            post_event(by_customer, nested("[", 100_000)),
            bad,
        ),
        (
            "deep objects",
            post_event(by_customer, nested("{\"a\":", 50_000)),
            bad,
        ),
        (
            "a deep form",
            post_event(by_customer, format!("customer{}=1", nested("[", 50_000))),
            bad,
        ),
        (
            "half a surrogate",
            post_event(by_customer, r#"{"customer": "\ud800"}"#),
            bad,
        ),
        (
            "too large a number",
            post_event(by_customer, r#"{"customer": 1e999}"#),
            bad,
        ),
        (
            "a number for an id",
            post_event(by_customer, r#"{"customer": 12345}"#),
            bad,
        ),
        (
            "a list for an id",
            post_event(by_customer, r#"{"customer": ["a"]}"#),
            bad,
        ),
        (
            "many items",
            post_event(by_customer, format!("[{}1]", "1,".repeat(100_000))),
            bad,
        ),
    ];
    for (name, event, expected) in cases {
        let answer = send_event(&world, &event).await;
        assert_eq!(answer.status, expected, "{name}: {}", answer.text);
        assert_eq!(answer.headers["x-request-id"].len(), 24, "{name}");
        match answer.status.as_u16() {
            200 if name == "HEAD" => assert_eq!(answer.text, ""),
            200 => drop(answer.success_data()),
            204 => assert_eq!(answer.text, "", "{name}"),
            _ => drop(answer.expect_error(expected)),
        }
    }
}

/// The events that stand in `tests/events` for `sam local invoke`, as they are, and with what a caller fills
/// in.
#[tokio::test]
async fn the_events_for_trying_the_function_are_answered() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/events");
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let world = ApiWorld::new().await;
    let customer = world.create_refreshed().await.customer_id();
    let health = send_event(&world, &read("api-health")).await;
    assert_eq!(health.status, StatusCode::OK, "{}", health.text);
    for refused in ["api-unauthorised", "api-balance-by-customer"] {
        let answer = send_event(&world, &read(refused)).await;
        assert_eq!(answer.expect_error(StatusCode::UNAUTHORIZED).0, "API");
    }
    let mut known = read("api-balance-by-customer");
    known["headers"]["authorization"] = json!(format!("Bearer {APP_KEY}"));
    let sent: Value = serde_json::from_str(known["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        sent["limit"], "20",
        "as texts, as one of Okra's clients sends them"
    );
    let body = known["body"].as_str().unwrap();
    known["body"] = json!(body.replace(sent["customer"].as_str().unwrap(), &customer));
    let balances = send_event(&world, &known).await.success_data();
    assert_eq!(balances["balance"].as_array().unwrap().len(), 1);
}

/// Pages may read what is open to all; a secret key is not for pages.
#[tokio::test]
async fn browsers_are_told_who_may_call() {
    let world = ApiWorld::new().await;
    let allowed = "access-control-allow-origin";
    let open = send_event(&world, &gateway_event("OPTIONS", "/v2/banks/list", "")).await;
    assert_eq!(open.headers[allowed], "*");
    assert_eq!(open.headers["access-control-allow-methods"], "GET, POST");
    let banks = send_event(&world, &gateway_event("GET", "/v2/banks/list", "")).await;
    assert_eq!(banks.headers[allowed], "*");
    let keyed = send_event(&world, &gateway_event("OPTIONS", "/v2/customers/list", "")).await;
    assert_eq!(keyed.headers["allow"], "POST");
    assert_eq!(keyed.headers.get(allowed), None);
    let listed = send_event(&world, &gateway_event("POST", "/v2/customers/list", "")).await;
    assert_eq!(listed.headers.get(allowed), None);
}

/// As many rows as an entry may have, with texts as long as they may be.
fn build_long_rows(account: AccountId) -> Change {
    let row = |n: u8| Transaction {
        id: TransactionId::new(account, EpochDay(20_000), &[&[n]]),
        facts: TransactionFacts {
            bank_id: Some(format!("{n}")),
            status: BookingStatus::Booked,
            direction: Direction::Debit,
            amount: Money::new(1_250_050, Currency::NGN),
            booked_at: "2026-03-01T12:00:00Z".parse().unwrap(),
            value_at: None,
            description: "RENT ".repeat(100),
            reference: None,
            code: None,
            balance_after: None,
        },
    };
    Change::Transactions(TransactionsDiff {
        fetch_kind: FetchKind::Periodic,
        added: (0..100).map(row).collect(),
        modified: vec![],
        removed: vec![],
        previous_seqs: BTreeMap::new(),
    })
}

/// A gap is filled through the gateway whatever it weighs: a page ends where its bytes do, and the next one
/// goes on there.
#[tokio::test]
async fn a_gap_of_heavy_events_is_filled_page_by_page() {
    const ENTRIES: u64 = 60;
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let store = &world.environment.store;
    let head = store
        .find_head(linked.record_id(), Consistency::Strong)
        .await;
    let mut head = head.unwrap().unwrap();
    let before = head.seq;
    let now = world.environment.clock.now() + SignedDuration::from_secs(1);
    let change = build_long_rows(linked.account_id().parse().unwrap());
    for _ in 0..ENTRIES {
        let entry = FeedEntry {
            record: head.record,
            seq: head.seq.next(),
            committed_at: now,
            account: Some(linked.account_id().parse().unwrap()),
            change: change.clone(),
        };
        let mut marks = head.watermarks;
        if let Some(mark) = &mut marks.transactions {
            mark.seq = entry.seq;
        }
        let commit = RecordCommit {
            head: &head,
            entries: &[entry],
            watermarks: marks,
            status: None,
            backfill: None,
            now,
        };
        head = store.commit_record(commit).await.unwrap();
    }
    let (mut after, mut pages, mut more) = (before.0, 0, true);
    while more {
        let body = json!({ "record_id": linked.record_id(), "after": after }).to_string();
        let asked = post_event("/v2/events/list", body);
        let asked = serde_json::from_str(&asked.to_string()).unwrap();
        let answer = gateway::serve_event(world.clone_router(), asked)
            .await
            .unwrap();
        assert_eq!(answer.status_code, 200, "{}", answer.body);
        assert!(serde_json::to_vec(&answer).unwrap().len() < 6_000_000);
        let page: Value = serde_json::from_str(&answer.body).unwrap();
        let events = page["data"]["events"].as_array().unwrap();
        for event in events {
            assert_eq!(event["sequence"], after + 1);
            assert_eq!(
                event["added_transactions"].as_array().map(Vec::len),
                Some(100)
            );
            after += 1;
        }
        assert!(!events.is_empty());
        assert_eq!(page["data"]["last_sequence"], before.0 + ENTRIES);
        more = page["data"]["has_more"].as_bool().unwrap();
        pages += 1;
    }
    assert_eq!(Seq(after), head.seq);
    assert!(pages > 1, "{pages}");
}
