//! The token endpoint: what is sent to it, and what its errors mean.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use okra_core::model::{
    bank::{ClientAuth, OAuthClient},
    fault::FaultClass,
};

use crate::bank::{TEST_CONSENT, TestBank, status_response};

type TokenRequests = Arc<Mutex<Vec<(Option<String>, String)>>>;

/// A bank whose token endpoint always returns one response, and the requests that it was sent.
async fn bank_with_token_response(
    code: u16,
    body: &'static str,
    auth: ClientAuth,
) -> (TestBank, TokenRequests) {
    let requests = TokenRequests::default();
    let token =
        async move |State(requests): State<TokenRequests>, headers: HeaderMap, form: String| {
            let authorization = headers.get("authorization");
            let authorization = authorization.map(|it| it.to_str().unwrap().to_owned());
            requests.lock().unwrap().push((authorization, form));
            (StatusCode::from_u16(code).unwrap(), body)
        };
    let router = Router::new()
        .route("/token", post(token))
        .with_state(requests.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut bank = TestBank::with_handler(|_| status_response(404)).await;
    bank.config.oauth = Some(OAuthClient {
        token_url: format!("http://{address}/token"),
        authorization_url: None,
        client_id: "okra sync".to_owned(),
        client_auth: auth,
        sealed_secret: None,
    });
    (bank, requests)
}

/// Checks the last token request: its `Authorization` header and its form.
fn check_last_request(requests: &TokenRequests, authorization: Option<&str>, form: &str) {
    let last = requests.lock().unwrap().pop();
    assert_eq!(
        last,
        Some((authorization.map(str::to_owned), form.to_owned()))
    );
}

#[tokio::test]
async fn each_grant_is_requested_as_the_standard_says() {
    let body = r#"{"access_token":"at"}"#;
    // Id and secret are form-encoded, joined and in base64: okra+sync:s3cret%2F%2B
    let basic = Some("Basic b2tyYStzeW5jOnMzY3JldCUyRiUyQg==");
    let refresh_form = "grant_type=refresh_token&refresh_token=rt%261";

    let (bank, requests) = bank_with_token_response(200, body, ClientAuth::ClientSecretPost).await;
    bank.renew_tokens("rt&1").await.unwrap();
    let posted = format!("{refresh_form}&client_id=okra+sync&client_secret=s3cret%2F%2B");
    check_last_request(&requests, None, &posted);

    let (bank, requests) = bank_with_token_response(200, body, ClientAuth::None).await;
    bank.renew_tokens("rt&1").await.unwrap();
    let public = format!("{refresh_form}&client_id=okra+sync");
    check_last_request(&requests, None, &public);

    let (bank, requests) = bank_with_token_response(200, body, ClientAuth::ClientSecretBasic).await;
    bank.renew_tokens("rt&1").await.unwrap();
    check_last_request(&requests, basic, refresh_form);
    bank.complete_login("c").await.unwrap();
    let form = "grant_type=authorization_code&code=c&redirect_uri=https%3A%2F%2Fokra.example%2Fcb&code_verifier=v";
    check_last_request(&requests, basic, form);
    bank.revoke_consent().await.unwrap();
    let form = "grant_type=client_credentials&scope=accounts";
    check_last_request(&requests, basic, form);
}

#[tokio::test]
async fn tokens_belong_to_the_consent_they_were_requested_for() {
    let body = r#"{"access_token":"at"}"#;
    let (bank, _) = bank_with_token_response(200, body, ClientAuth::default()).await;
    let renewed = bank.renew_tokens("rt").await.unwrap();
    assert_eq!(renewed.consent_id.as_ref().unwrap().as_str(), TEST_CONSENT);
    assert_eq!(renewed.refresh_token.as_deref(), Some("rt"));
    let linked = bank.complete_login("c").await.unwrap();
    assert_eq!(linked.consent_id.as_ref().unwrap().as_str(), TEST_CONSENT);
    assert_eq!(linked.refresh_token, None);
}

#[tokio::test]
async fn only_a_grant_that_is_over_requires_the_user() {
    use FaultClass::{BankUnavailable, ConsentRejected, Internal, MalformedResponse, RateLimited};
    let check = async |code: u16, body: &'static str, class: FaultClass, detail: &str| {
        let (bank, _) = bank_with_token_response(code, body, ClientAuth::default()).await;
        let fault = bank.renew_tokens("rt").await.unwrap_err();
        assert_eq!(fault.class, class, "{code} {body}: {fault}");
        assert_eq!(fault.detail, detail);
    };
    let detail = "token endpoint: status 400, invalid_grant";
    check(400, r#"{"error":"invalid_grant"}"#, ConsentRejected, detail).await;
    let detail = "token endpoint: status 401, invalid_client";
    check(401, r#"{"error":"invalid_client"}"#, Internal, detail).await;
    let detail = "token endpoint: status 400, unauthorized_client";
    check(400, r#"{"error":"unauthorized_client"}"#, Internal, detail).await;
    let odd = r#"{"error":"Ada Obi, 0123456789"}"#;
    check(400, odd, MalformedResponse, "token endpoint: status 400").await;
    check(401, "", Internal, "token endpoint: status 401").await;
    check(403, "", Internal, "token endpoint: status 403").await;
    check(429, "", RateLimited, "token endpoint: status 429").await;
    check(503, "", BankUnavailable, "token endpoint: status 503").await;
    check(302, "", MalformedResponse, "token endpoint: status 302").await;
    let unread = "the token response cannot be read";
    check(200, "<html>", MalformedResponse, unread).await;
}

#[tokio::test]
async fn a_token_response_has_a_cap() {
    let body: &'static str = Box::leak(" ".repeat(64 * 1024 + 1).into_boxed_str());
    let (bank, _) = bank_with_token_response(200, body, ClientAuth::default()).await;
    let fault = bank.renew_tokens("rt").await.unwrap_err();
    assert!(fault.detail.contains("more than 65536 bytes"), "{fault}");
}
