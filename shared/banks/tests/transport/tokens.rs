//! The token endpoint: what is sent to it, and what its refusals mean.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use okra_banks::oauth::Grant;
use okra_core::{
    bank::{ClientAuth, OAuthClient},
    fault::FaultClass,
};

use crate::bank::{Bank, status};

type Asked = Arc<Mutex<Vec<(Option<String>, String)>>>;

/// A bank whose token endpoint gives one answer, and what that was asked.
async fn answering(code: u16, body: &'static str, auth: ClientAuth) -> (Bank, Asked) {
    let asked = Asked::default();
    let token = async move |State(asked): State<Asked>, headers: HeaderMap, form: String| {
        let authorization = headers.get("authorization");
        let authorization = authorization.map(|it| it.to_str().unwrap().to_owned());
        asked.lock().unwrap().push((authorization, form));
        (StatusCode::from_u16(code).unwrap(), body)
    };
    let router = Router::new()
        .route("/token", post(token))
        .with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut bank = Bank::answering(|_| status(404)).await;
    bank.config.oauth = Some(OAuthClient {
        token_url: format!("http://{address}/token"),
        authorization_url: None,
        client_id: "okra sync".to_owned(),
        client_auth: auth,
        sealed_secret: None,
    });
    (bank, asked)
}

async fn check_sent(auth: ClientAuth, grant: Grant<'_>, authorization: Option<&str>, form: &str) {
    let (bank, asked) = answering(200, r#"{"access_token":"at"}"#, auth).await;
    bank.token(grant).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(
        *asked,
        [(authorization.map(str::to_owned), form.to_owned())]
    );
}

#[tokio::test]
async fn each_grant_is_asked_for_as_the_standard_says() {
    // Id and secret are form-encoded, joined and in base64: okra+sync:s3cret%2F%2B
    let basic = Some("Basic b2tyYStzeW5jOnMzY3JldCUyRiUyQg==");
    let refresh = Grant::RefreshToken("rt&1");
    let form = "grant_type=refresh_token&refresh_token=rt%261";
    check_sent(ClientAuth::ClientSecretBasic, refresh, basic, form).await;
    let posted = format!("{form}&client_id=okra+sync&client_secret=s3cret%2F%2B");
    check_sent(ClientAuth::ClientSecretPost, refresh, None, &posted).await;
    let public = format!("{form}&client_id=okra+sync");
    check_sent(ClientAuth::None, refresh, None, &public).await;
    let code = Grant::AuthorizationCode {
        code: "c",
        redirect_uri: "https://okra.example/cb",
        verifier: Some("v"),
    };
    let form = "grant_type=authorization_code&code=c&redirect_uri=https%3A%2F%2Fokra.example%2Fcb&code_verifier=v";
    check_sent(ClientAuth::ClientSecretBasic, code, basic, form).await;
    let own = Grant::ClientCredentials { scope: "accounts" };
    let form = "grant_type=client_credentials&scope=accounts";
    check_sent(ClientAuth::ClientSecretBasic, own, basic, form).await;
}

#[tokio::test]
async fn only_a_grant_that_is_over_is_for_the_user() {
    use FaultClass::{BankUnavailable, ConsentRefused, Internal, Nonsense, RateLimited};
    let check = async |code: u16, body: &'static str, class: FaultClass, detail: &str| {
        let (bank, _) = answering(code, body, ClientAuth::default()).await;
        let fault = bank.token(Grant::RefreshToken("rt")).await.unwrap_err();
        assert_eq!(fault.class, class, "{code} {body}: {fault}");
        assert_eq!(fault.detail, detail);
    };
    let detail = "token endpoint: status 400, invalid_grant";
    check(400, r#"{"error":"invalid_grant"}"#, ConsentRefused, detail).await;
    let detail = "token endpoint: status 401, invalid_client";
    check(401, r#"{"error":"invalid_client"}"#, Internal, detail).await;
    let detail = "token endpoint: status 400, unauthorized_client";
    check(400, r#"{"error":"unauthorized_client"}"#, Internal, detail).await;
    let odd = r#"{"error":"Ada Obi, 0123456789"}"#;
    check(400, odd, Nonsense, "token endpoint: status 400").await;
    check(401, "", Internal, "token endpoint: status 401").await;
    check(403, "", Internal, "token endpoint: status 403").await;
    check(429, "", RateLimited, "token endpoint: status 429").await;
    check(503, "", BankUnavailable, "token endpoint: status 503").await;
    check(302, "", Nonsense, "token endpoint: status 302").await;
    let unread = "the token answer cannot be read";
    check(200, "<html>", Nonsense, unread).await;
}

#[tokio::test]
async fn a_token_answer_has_a_cap() {
    let body: &'static str = Box::leak(" ".repeat(64 * 1024 + 1).into_boxed_str());
    let (bank, _) = answering(200, body, ClientAuth::default()).await;
    let fault = bank.token(Grant::RefreshToken("rt")).await.unwrap_err();
    assert!(fault.detail.contains("more than 65536 bytes"), "{fault}");
}
