//! The token endpoint of the bank's authorisation server: `POST /open-banking/token` (RFC 6749). It serves the grant types
//! `authorization_code`, `refresh_token` and `client_credentials` to the one client the bank knows.

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
    authorise::codes::RedeemedCode,
    bank::{
        error::CommandError,
        state::SandboxBank,
        tokens::{CLIENT_ID, CLIENT_SECRET, SandboxTokens},
    },
    command::TokenTerms,
    fault::SandboxResource,
};

/// The path of the token endpoint.
pub const TOKEN_PATH: &str = "/open-banking/token";

/// Most bytes of a request.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// How tokens live that a user granted on the login page.
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
    if let Some(response) = faulty_response(&bank).await {
        return response;
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
    granted_response(bank.renew_tokens(token))
}

/// Exchanges the code of a login that its user allowed.
fn grant_by_code(bank: &SandboxBank, fields: &TokenFormFields) -> Response {
    let (Some(code), Some(redirect_uri)) = (fields.get("code"), fields.get("redirect_uri")) else {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request");
    };
    let verifier = fields.get("code_verifier").map(String::as_str);
    let redeemed = bank.redeem_code(CLIENT_ID, code, redirect_uri, verifier);
    let Some(RedeemedCode { login, consent_id }) = redeemed else {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_grant");
    };
    let issued = bank.issue_for_consent(login, LOGIN_PAGE_TERMS, Some(consent_id));
    granted_response(issued.map(Some))
}

/// The response to a grant; `None` for one that buys nothing.
fn granted_response(granted: Result<Option<SandboxTokens>, CommandError>) -> Response {
    match granted {
        Ok(Some(tokens)) => token_response(&tokens),
        Ok(None) => oauth_error(StatusCode::BAD_REQUEST, "invalid_grant"),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the sandbox bank could not grant a token"
            );
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What the bank's faults make of the request, where they affect its authorisation server.
async fn faulty_response(bank: &SandboxBank) -> Option<Response> {
    let (slow_ms, outage, rejection) = {
        let mut faults = bank.lock_faults();
        if !faults.affects_request(SandboxResource::Token, None) {
            return None;
        }
        let outage = faults.outage;
        let rejection = if outage.is_none() {
            faults.consume_rate_limit()
        } else {
            None
        };
        (faults.slow_ms, outage, rejection)
    };
    tokio::time::sleep(Duration::from_millis(slow_ms.into())).await;
    if outage.is_some() {
        return Some(StatusCode::SERVICE_UNAVAILABLE.into_response());
    }
    let rejection = rejection?;
    let mut response = StatusCode::TOO_MANY_REQUESTS.into_response();
    if let Some(seconds) = rejection.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    Some(response)
}

/// True where the client's id and secret are there, as HTTP Basic or in the form.
fn is_registered_client(headers: &HeaderMap, fields: &TokenFormFields) -> bool {
    let basic = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
        .and_then(|encoded| BASE64.decode(encoded.trim().as_bytes()).ok());
    match basic {
        Some(credentials) => credentials == format!("{CLIENT_ID}:{CLIENT_SECRET}").as_bytes(),
        None => {
            fields.get("client_id").is_some_and(|id| id == CLIENT_ID)
                && fields
                    .get("client_secret")
                    .is_some_and(|secret| secret == CLIENT_SECRET)
        }
    }
}

/// Tokens with what RFC 6749 puts beside them.
#[derive(Serialize)]
struct SandboxTokenResponse<'a, T> {
    #[serde(flatten)]
    tokens: &'a T,
    token_type: &'static str,
    scope: &'static str,
}

/// A response with tokens, which no cache may keep (RFC 6749, 5.1).
fn token_response(tokens: &impl Serialize) -> Response {
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

/// An error response with its code (RFC 6749, 5.2).
fn oauth_error(status: StatusCode, error: &'static str) -> Response {
    let body = axum::Json(serde_json::json!({ "error": error }));
    let mut response = (status, body).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let headers = response.headers_mut();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
    }
    response
}
