//! The token endpoint of the bank's authorisation server: `POST /open-banking/token` (RFC 6749).

use std::{collections::HashMap, time::Duration};

use axum::{
    Form, Router,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::post,
};
use data_encoding::BASE64;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

use crate::{
    bank::SandboxBank,
    fault::SandboxResource,
    tokens::{CLIENT_ID, CLIENT_SECRET, TokenTerms},
};

/// Where it is.
pub const TOKEN_PATH: &str = "/open-banking/token";

/// Bytes of a request at most.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// How tokens come and go where a user allowed them on the login page.
const LOGIN_PAGE_TERMS: TokenTerms = TokenTerms {
    life_s: 300,
    rotate: true,
};

/// Fields of the form, by name.
type TokenFormFields = HashMap<String, String>;

pub(super) fn token_router(bank: &SandboxBank) -> Router {
    Router::new()
        .route(TOKEN_PATH, post(issue_token))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(bank.clone())
}

async fn issue_token(
    State(bank): State<SandboxBank>,
    headers: HeaderMap,
    Form(fields): Form<TokenFormFields>,
) -> Response {
    if let Some(upset) = faulty_response(&bank).await {
        return upset;
    }
    if !is_registered_client(&headers, &fields) {
        return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    match fields.get("grant_type").map(String::as_str) {
        Some("refresh_token") => grant_by_refresh_token(&bank, &fields),
        Some("authorization_code") => grant_by_code(&bank, &fields),
        Some("client_credentials") => token_response(&bank.client_credentials_token()),
        Some(_) => oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        None => oauth_error(StatusCode::BAD_REQUEST, "invalid_request"),
    }
}

fn grant_by_refresh_token(bank: &SandboxBank, fields: &TokenFormFields) -> Response {
    let Some(token) = fields.get("refresh_token") else {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request");
    };
    match bank.renew_tokens(token) {
        Ok(Some(tokens)) => token_response(&tokens),
        Ok(None) => oauth_error(StatusCode::BAD_REQUEST, "invalid_grant"),
        Err(error) => {
            tracing::error!(%error, "the sandbox bank could not renew a token");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The tokens of a login that a user has allowed.
fn grant_by_code(bank: &SandboxBank, fields: &TokenFormFields) -> Response {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let (Some(code), Some(redirect_uri)) = (field("code"), field("redirect_uri")) else {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request");
    };
    let redeemed = bank.redeem_code(CLIENT_ID, code, redirect_uri, field("code_verifier"));
    let Some((login, consent)) = redeemed else {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_grant");
    };
    match bank.issue_for_consent(login, LOGIN_PAGE_TERMS, Some(consent)) {
        Ok(tokens) => token_response(&tokens),
        Err(error) => {
            tracing::error!(%error, "the sandbox bank could not issue a token");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The bank's faults, as far as they concern its authorisation server.
async fn faulty_response(bank: &SandboxBank) -> Option<Response> {
    let (slow_ms, outage, refused) = {
        let mut faults = bank.lock_faults();
        if !faults.affects_request(SandboxResource::Token, None) {
            return None;
        }
        let outage = faults.outage;
        let refused = if outage.is_none() {
            faults.consume_rate_limit()
        } else {
            None
        };
        (faults.slow_ms, outage, refused)
    };
    tokio::time::sleep(Duration::from_millis(slow_ms.into())).await;
    if outage.is_some() {
        return Some(StatusCode::SERVICE_UNAVAILABLE.into_response());
    }
    let limit = refused?;
    let mut response = StatusCode::TOO_MANY_REQUESTS.into_response();
    if let Some(seconds) = limit.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    Some(response)
}

/// As HTTP Basic or in the form.
fn is_registered_client(headers: &HeaderMap, fields: &TokenFormFields) -> bool {
    let ours = format!("{CLIENT_ID}:{CLIENT_SECRET}");
    let basic = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
        .and_then(|encoded| BASE64.decode(encoded.trim().as_bytes()).ok());
    match basic {
        Some(said) => said == ours.as_bytes(),
        None => {
            let field = |name: &str| fields.get(name).map(String::as_str);
            field("client_id") == Some(CLIENT_ID) && field("client_secret") == Some(CLIENT_SECRET)
        }
    }
}

/// A token answer, which nobody may keep (RFC 6749, 5.1).
pub(crate) fn token_response(tokens: &impl Serialize) -> Response {
    #[derive(Serialize)]
    struct SandboxTokenResponse<'a, T> {
        #[serde(flatten)]
        tokens: &'a T,
        token_type: &'static str,
        scope: &'static str,
    }
    let body = SandboxTokenResponse {
        tokens,
        token_type: "Bearer",
        scope: "accounts",
    };
    let mut response = axum::Json(body).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A refusal with its code (RFC 6749, 5.2).
pub(crate) fn oauth_error(status: StatusCode, error: &'static str) -> Response {
    let body = axum::Json(serde_json::json!({ "error": error }));
    let mut response = (status, body).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let headers = response.headers_mut();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
    }
    response
}
