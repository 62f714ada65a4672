//! The token endpoint: what is sent to it, and what its refusals mean.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use okra_connectors::oauth::TokenGrant;
use okra_core::model::{
    bank::{ClientAuth, OAuthClient},
    fault::FaultClass,
};

use crate::bank::{TestBank, status_response};

type TokenRequests = Arc<Mutex<Vec<(Option<String>, String)>>>;

/// A bank whose token endpoint gives one answer, and what that was asked.
async fn bank_with_token_response(
    code: u16,
    body: &'static str,
    auth: ClientAuth,
) -> (TestBank, TokenRequests) {
    let asked = TokenRequests::default();
    let token =
        async move |State(asked): State<TokenRequests>, headers: HeaderMap, form: String| {
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
    let mut bank = TestBank::with_handler(|_| status_response(404)).await;
    bank.config.oauth = Some(OAuthClient {
        token_url: format!("http://{address}/token"),
        authorization_url: None,
        client_id: "okra sync".to_owned(),
        client_auth: auth,
        sealed_secret: None,
    });
    (bank, asked)
}

async fn check_token_request(
    auth: ClientAuth,
    grant: TokenGrant<'_>,
    authorization: Option<&str>,
    form: &str,
) {
    let (bank, asked) = bank_with_token_response(200, r#"{"access_token":"at"}"#, auth).await;
    bank.request_token(grant).await.unwrap();
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
    let refresh = TokenGrant::RefreshToken("rt&1");
    let form = "grant_type=refresh_token&refresh_token=rt%261";
    check_token_request(ClientAuth::ClientSecretBasic, refresh, basic, form).await;
    let posted = format!("{form}&client_id=okra+sync&client_secret=s3cret%2F%2B");
    check_token_request(ClientAuth::ClientSecretPost, refresh, None, &posted).await;
    let public = format!("{form}&client_id=okra+sync");
    check_token_request(ClientAuth::None, refresh, None, &public).await;
    let code = TokenGrant::AuthorizationCode {
        code: "c",
        redirect_uri: "https://okra.example/cb",
        verifier: Some("v"),
    };
    let form = "grant_type=authorization_code&code=c&redirect_uri=https%3A%2F%2Fokra.example%2Fcb&code_verifier=v";
    check_token_request(ClientAuth::ClientSecretBasic, code, basic, form).await;
    let own = TokenGrant::ClientCredentials { scope: "accounts" };
    let form = "grant_type=client_credentials&scope=accounts";
    check_token_request(ClientAuth::ClientSecretBasic, own, basic, form).await;
}

#[tokio::test]
async fn only_a_grant_that_is_over_is_for_the_user() {
    use FaultClass::{BankUnavailable, ConsentRejected, Internal, MalformedResponse, RateLimited};
    let check = async |code: u16, body: &'static str, class: FaultClass, detail: &str| {
        let (bank, _) = bank_with_token_response(code, body, ClientAuth::default()).await;
        let fault = bank
            .request_token(TokenGrant::RefreshToken("rt"))
            .await
            .unwrap_err();
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
    let unread = "the token answer cannot be read";
    check(200, "<html>", MalformedResponse, unread).await;
}

#[tokio::test]
async fn a_token_answer_has_a_cap() {
    let body: &'static str = Box::leak(" ".repeat(64 * 1024 + 1).into_boxed_str());
    let (bank, _) = bank_with_token_response(200, body, ClientAuth::default()).await;
    let fault = bank
        .request_token(TokenGrant::RefreshToken("rt"))
        .await
        .unwrap_err();
    assert!(fault.detail.contains("more than 65536 bytes"), "{fault}");
}
