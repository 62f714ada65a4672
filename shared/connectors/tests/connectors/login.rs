//! The login at a bank: the consent that is made for it, and what becomes of consents afterwards.

use axum::response::{IntoResponse, Response};
use okra_core::model::{
    bank::{ClientAuth, OAuthClient},
    fault::FaultClass,
    snapshot::Product,
};

use crate::bank::{TestBank, json_response, status_response};

const CONSENT_TARGET: &str = "/account-access-consents/urn:bank:1";

/// A bank with a token endpoint below its base, whose other responses come from a function.
async fn bank_with_client(
    handler: impl Fn(&str) -> Response + Clone + Send + Sync + 'static,
) -> TestBank {
    let mut bank = TestBank::with_handler(move |target| match target {
        "/token" => json_response(r#"{"access_token":"client-token"}"#),
        target => handler(target),
    })
    .await;
    bank.config.oauth = Some(OAuthClient {
        token_url: format!("{}/token", bank.config.base_url),
        authorization_url: Some("https://bank.example/authorise".to_owned()),
        client_id: "okra".to_owned(),
        client_auth: ClientAuth::default(),
        sealed_secret: None,
    });
    bank
}

#[tokio::test]
async fn a_login_begins_with_a_consent_that_our_own_client_makes() {
    let bank = bank_with_client(|_| {
        let created = json_response(r#"{"Data":{"ConsentId":"urn:bank:1"}}"#);
        (axum::http::StatusCode::CREATED, created).into_response()
    })
    .await;
    let login = bank.begin_login(&[Product::Balance]).await.unwrap();
    assert_eq!(login.consent_id.as_str(), "urn:bank:1");
    let page = "https://bank.example/authorise?response_type=code&client_id=okra&";
    assert!(login.authorization_url.starts_with(page), "{login:?}");
    assert_eq!(
        bank.request_targets(),
        ["/token", "/account-access-consents"]
    );
    let token = bank.last_request_header("authorization");
    assert_eq!(token.as_deref(), Some("Bearer client-token"));
}

#[tokio::test]
async fn a_login_without_a_page_or_a_client_is_our_own_fault() {
    let mut bank = bank_with_client(|_| status_response(500)).await;
    assert!(okra_connectors::has_login_page(&bank.config));
    let client = bank.config.oauth.as_mut().unwrap();
    client.authorization_url = None;
    assert!(!okra_connectors::has_login_page(&bank.config));
    let fault = bank.begin_login(&Product::ALL).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Internal);
    bank.config.oauth = None;
    let fault = bank.begin_login(&Product::ALL).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Internal);
    assert!(bank.request_targets().is_empty());
}

#[tokio::test]
async fn a_consent_is_read_and_revoked_by_its_id() {
    let bank = bank_with_client(|_| {
        json_response(r#"{"Data":{"ExpirationDateTime":"2026-06-01T00:00:00Z"}}"#)
    })
    .await;
    let terms = bank.fetch_consent_terms().await.unwrap();
    assert_eq!(terms.expires_at, "2026-06-01T00:00:00Z".parse().ok());
    assert_eq!(terms.transactions_from, None);
    bank.revoke_consent().await.unwrap();
    let expected = ["/token", CONSENT_TARGET, "/token", CONSENT_TARGET];
    assert_eq!(bank.request_targets(), expected);
}

#[tokio::test]
async fn a_consent_that_is_gone_at_the_bank_is_revoked() {
    for status in [204, 404, 410] {
        let bank = bank_with_client(move |_| status_response(status)).await;
        bank.revoke_consent().await.unwrap();
    }
}

#[tokio::test]
async fn a_rejection_of_our_own_token_never_requires_the_user() {
    for (status, class) in [
        (401, FaultClass::Internal),
        (403, FaultClass::Internal),
        (429, FaultClass::RateLimited),
        (503, FaultClass::BankUnavailable),
    ] {
        let bank = bank_with_client(move |_| status_response(status)).await;
        let fault = bank.revoke_consent().await.unwrap_err();
        assert_eq!(fault.class, class, "{fault}");
        let detail = format!("account-access-consents: status {status}");
        assert_eq!(fault.detail, detail);
        let fault = bank.begin_login(&Product::ALL).await.unwrap_err();
        assert_eq!(fault.class, class, "{fault}");
    }
}
