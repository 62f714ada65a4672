//! Tokens that expire, and the token endpoint.

use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use okra_sandbox::{
    CLIENT_ID, CLIENT_SECRET, ConsentState, FaultTarget, Faults, Outage, SandboxBank,
    SandboxOptions, SandboxResource, SandboxTokens, TOKEN_PATH, TokenTerms,
};
use serde_json::Value;
use tower::ServiceExt;

use crate::support::{LoginClient, login_with_rows, send_get};

const FIVE_MINUTES: TokenTerms = TokenTerms {
    life_s: 300,
    rotate: true,
};

struct TokenClient {
    login_client: LoginClient,
}

impl TokenClient {
    fn new() -> Self {
        Self {
            login_client: LoginClient::with_ten_rows(),
        }
    }

    fn issue_tokens(&self, terms: TokenTerms) -> SandboxTokens {
        self.login_client
            .bank
            .issue_tokens(self.login_client.login, terms)
            .unwrap()
    }

    async fn accounts_status(&self, token: &str) -> StatusCode {
        let path = "/open-banking/v3.1/aisp/accounts";
        send_get(&self.login_client.bank.api_router(), path, Some(token))
            .await
            .status
    }

    async fn post_form(&self, form: String) -> (StatusCode, Value) {
        let request = Request::post(TOKEN_PATH)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap();
        let response = self
            .login_client
            .bank
            .api_router()
            .oneshot(request)
            .await
            .unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn renew_tokens(&self, refresh_token: &str) -> (StatusCode, Value) {
        self.post_form(format!(
            "grant_type=refresh_token&refresh_token={refresh_token}&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}"
        ))
        .await
    }
}

#[tokio::test]
async fn a_token_expires_and_its_refresh_token_buys_the_next() {
    let client = TokenClient::new();
    let first = client.issue_tokens(FIVE_MINUTES);
    assert_eq!(
        client.accounts_status(first.access_token.as_str()).await,
        200
    );
    client.login_client.manual_clock.advance_seconds(299);
    assert_eq!(
        client.accounts_status(first.access_token.as_str()).await,
        200
    );
    client.login_client.manual_clock.advance_seconds(1);
    assert_eq!(
        client.accounts_status(first.access_token.as_str()).await,
        401
    );

    let (status, second) = client.renew_tokens(first.refresh_token.as_str()).await;
    assert_eq!(status, 200);
    assert_eq!(second["token_type"], "Bearer");
    assert_eq!(second["expires_in"], 300);
    let access = second["access_token"].as_str().unwrap();
    assert_eq!(client.accounts_status(access).await, 200);
    assert_ne!(second["refresh_token"], first.refresh_token.as_str());
}

#[tokio::test]
async fn a_refresh_token_shown_twice_ends_the_grant() {
    let client = TokenClient::new();
    let first = client.issue_tokens(FIVE_MINUTES);
    let (_, second) = client.renew_tokens(first.refresh_token.as_str()).await;
    let (status, again) = client.renew_tokens(first.refresh_token.as_str()).await;
    assert_eq!(
        (status.as_u16(), &again["error"]),
        (400, &"invalid_grant".into())
    );
    let access = second["access_token"].as_str().unwrap();
    assert_eq!(client.accounts_status(access).await, 401);
    let (status, _) = client
        .renew_tokens(second["refresh_token"].as_str().unwrap())
        .await;
    assert_eq!(status, 400);
    // Other grants of the login stay.
    assert_eq!(
        client.accounts_status(&client.login_client.token).await,
        200
    );
}

#[tokio::test]
async fn a_refresh_token_that_is_not_rotated_stays_valid() {
    let client = TokenClient::new();
    let terms = TokenTerms {
        rotate: false,
        ..FIVE_MINUTES
    };
    let first = client.issue_tokens(terms);
    for _ in 0..3 {
        let (status, next) = client.renew_tokens(first.refresh_token.as_str()).await;
        assert_eq!(status, 200);
        assert_eq!(next["refresh_token"], first.refresh_token.as_str());
        let access = next["access_token"].as_str().unwrap();
        assert_eq!(client.accounts_status(access).await, 200);
    }
}

#[tokio::test]
async fn the_endpoint_rejects_invalid_requests() {
    let client = TokenClient::new();
    let tokens = client.issue_tokens(FIVE_MINUTES);
    let check = async |form: &str, status: u16, error: &str| {
        let (code, body) = client.post_form(form.to_owned()).await;
        assert_eq!(
            (code.as_u16(), &body["error"]),
            (status, &error.into()),
            "{form}"
        );
    };
    let us = format!("client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}");
    check(
        "grant_type=refresh_token&refresh_token=x",
        401,
        "invalid_client",
    )
    .await;
    check(
        &format!("{us}1&grant_type=refresh_token"),
        401,
        "invalid_client",
    )
    .await;
    check(&us, 400, "invalid_request").await;
    check(
        &format!("{us}&grant_type=refresh_token"),
        400,
        "invalid_request",
    )
    .await;
    check(
        &format!("{us}&grant_type=password"),
        400,
        "unsupported_grant_type",
    )
    .await;
    let unknown = format!("{us}&grant_type=refresh_token&refresh_token=x");
    check(&unknown, 400, "invalid_grant").await;

    client
        .login_client
        .bank
        .set_consent(client.login_client.login, ConsentState::Expired)
        .unwrap();
    let (status, _) = client.renew_tokens(tokens.refresh_token.as_str()).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn the_endpoint_fails_where_a_fault_is_set() {
    let client = TokenClient::new();
    let tokens = client.issue_tokens(FIVE_MINUTES);
    let faults = Faults {
        outage: Some(Outage::Unavailable),
        resource: Some(SandboxResource::Token),
        ..Faults::default()
    };
    client
        .login_client
        .bank
        .set_faults(FaultTarget::Bank, faults)
        .unwrap();
    let (status, _) = client.renew_tokens(tokens.refresh_token.as_str()).await;
    assert_eq!(status, 503);
    assert_eq!(
        client.accounts_status(tokens.access_token.as_str()).await,
        200
    );
}

#[tokio::test]
async fn tokens_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let manual_clock = crate::support::ManualClock::new();
    let open = || {
        SandboxBank::open_folder(
            SandboxOptions::default(),
            manual_clock.bank_clock(),
            folder.path(),
        )
        .unwrap()
    };
    let probe = LoginClient::for_bank(open(), manual_clock.clone(), login_with_rows(10));
    let login = probe.login;
    let first = probe.bank.issue_tokens(login, FIVE_MINUTES).unwrap();
    let second = probe
        .bank
        .renew_tokens(first.refresh_token.as_str())
        .unwrap()
        .unwrap();
    drop(probe);
    let bank = open();
    let path = "/open-banking/v3.1/aisp/accounts";
    let token = Some(second.access_token.as_str());
    assert_eq!(send_get(&bank.api_router(), path, token).await.status, 200);
    manual_clock.advance_seconds(300);
    assert_eq!(send_get(&bank.api_router(), path, token).await.status, 401);
    assert!(
        bank.renew_tokens(second.refresh_token.as_str())
            .unwrap()
            .is_some()
    );
    assert_eq!(
        bank.renew_tokens(first.refresh_token.as_str()).unwrap(),
        None
    );
}
