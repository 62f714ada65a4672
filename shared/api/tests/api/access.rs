//! Who may call what, and how calls are spelled.

use axum::http::{Method, StatusCode};
use okra_api::{Access, MAX_BODY_BYTES, ROUTES};
use okra_emulator::{AwsService, CallFate};
use serde_json::json;

use crate::world::{APP_KEY, ApiWorld};

const PREFIXES: [&str; 7] = [
    "/v1",
    "/v2",
    "/sandbox/v1",
    "/sandbox/v2",
    "/v1/sandbox",
    "/v2/sandbox",
    "",
];

#[tokio::test]
async fn every_route_with_a_key_wants_one() {
    let world = ApiWorld::new().await;
    for route in ROUTES {
        for prefix in PREFIXES {
            let uri = format!("{prefix}/{}", route.path);
            for key in [None, Some(""), Some("Bearer "), Some("Bearer wrong")] {
                let answer = world.call_api(route.main_method(), &uri, key, "{}").await;
                if route.access == Access::Key {
                    let (kind, _) = answer.expect_error(StatusCode::UNAUTHORIZED);
                    assert_eq!(kind, "API", "{uri} {key:?}");
                } else {
                    assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{uri} {key:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn keys_are_read_as_clients_send_them() {
    let world = ApiWorld::new().await;
    for key in [
        format!("Bearer {APP_KEY}"),
        format!(" Bearer {APP_KEY}"),
        format!("bearer {APP_KEY} "),
        APP_KEY.to_owned(),
    ] {
        let answer = world
            .call_api(Method::POST, "/v2/customers/list", Some(&key), "")
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{key}");
    }
}

#[tokio::test]
async fn every_spelling_of_a_path_leads_to_it() {
    let world = ApiWorld::new().await;
    for prefix in PREFIXES {
        let answer = world
            .call_api(Method::GET, &format!("{prefix}/health"), None, "")
            .await;
        assert_eq!(answer.success_data()["store"], "up", "{prefix}");
    }
    for uri in [
        "/v2//banks///list",
        "//v2/banks/list",
        "/v2/sandbox/sandbox/banks/list/",
        "/v2/banks/list?page=1&",
        "https://api.okra.ng/v2/banks/list",
        "http://localhost:3000/banks/list",
    ] {
        let answer = world.call_api(Method::GET, uri, None, "").await;
        assert_eq!(
            answer.success_data()["banks"].as_array().unwrap().len(),
            1,
            "{uri}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_in_the_envelope() {
    let world = ApiWorld::new().await;
    let key = format!("Bearer {APP_KEY}");
    let check = async |method: Method, uri: &str, body: String, status: u16, kind: &str| {
        let answer = world.call_api(method, uri, Some(&key), body).await;
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(answer.expect_error(status).0, kind, "{uri}");
        answer
    };
    let (get, post) = (Method::GET, Method::POST);
    let empty = String::new;
    check(get.clone(), "/v2/nothing/here", empty(), 404, "NOT_FOUND").await;
    check(get.clone(), "/", empty(), 404, "NOT_FOUND").await;
    for path in [
        "identity/getById",
        "products/income/get",
        "pay/now",
        "wallet/list",
    ] {
        let uri = format!("/v2/{path}");
        check(post.clone(), &uri, empty(), 501, "NOT_IMPLEMENTED").await;
    }
    let answer = check(get, "/v2/balance/getById", empty(), 405, "API").await;
    assert_eq!(answer.headers["allow"], "POST");
    assert_eq!(answer.parse_json()["data"]["method"], "BALANCE");
    let large = "x".repeat(MAX_BODY_BYTES + 1);
    check(
        post.clone(),
        "/v2/balance/getById",
        large,
        413,
        "VALIDATION",
    )
    .await;
    for body in ["[1]", "7", "{\"a\""] {
        let body = body.to_owned();
        check(post.clone(), "/v2/balance/getById", body, 400, "VALIDATION").await;
    }
}

#[tokio::test]
async fn our_own_faults_are_told_without_their_cause() {
    let world = ApiWorld::new().await;
    world
        .emulator
        .inject_fates(|service, operation| match (service, operation) {
            (AwsService::DynamoDb, "GetItem" | "Query") => CallFate::Fail,
            _ => CallFate::Serve,
        });
    let answer = world.post_json("customers/list", json!({})).await;
    let (kind, message) = answer.expect_error(StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(kind, "INTERNAL");
    assert!(message.contains("request id"));
    for inner in ["DynamoDB", "GetItem", "service", "okra_store", "table"] {
        assert!(!answer.text.contains(inner), "{}", answer.text);
    }
    let health = world.call_api(Method::GET, "/health", None, "").await;
    health.expect_error(StatusCode::SERVICE_UNAVAILABLE);
}
