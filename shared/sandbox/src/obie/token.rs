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
    bank::Bank,
    fault::Resource,
    tokens::{CLIENT_ID, CLIENT_SECRET, TokenTerms},
};

/// Where it is.
pub const TOKEN_PATH: &str = "/open-banking/token";

/// Bytes of a request at most.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// How tokens come and go where a user allowed them on the login page.
const TERMS: TokenTerms = TokenTerms {
    life_s: 300,
    rotate: true,
};

/// Fields of the form, by name.
type Fields = HashMap<String, String>;

pub(super) fn router(bank: &Bank) -> Router {
    Router::new()
        .route(TOKEN_PATH, post(token))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(bank.clone())
}

async fn token(
    State(bank): State<Bank>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    if let Some(upset) = upset(&bank).await {
        return upset;
    }
    if !is_our_client(&headers, &fields) {
        return refused(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    match fields.get("grant_type").map(String::as_str) {
        Some("refresh_token") => by_refresh_token(&bank, &fields),
        Some("authorization_code") => by_code(&bank, &fields),
        Some("client_credentials") => granted(&bank.ours()),
        Some(_) => refused(StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        None => refused(StatusCode::BAD_REQUEST, "invalid_request"),
    }
}

fn by_refresh_token(bank: &Bank, fields: &Fields) -> Response {
    let Some(token) = fields.get("refresh_token") else {
        return refused(StatusCode::BAD_REQUEST, "invalid_request");
    };
    match bank.renew(token) {
        Ok(Some(tokens)) => granted(&tokens),
        Ok(None) => refused(StatusCode::BAD_REQUEST, "invalid_grant"),
        Err(error) => {
            tracing::error!(%error, "the sandbox bank could not renew a token");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The tokens of a login that a user has allowed.
fn by_code(bank: &Bank, fields: &Fields) -> Response {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let (Some(code), Some(redirect_uri)) = (field("code"), field("redirect_uri")) else {
        return refused(StatusCode::BAD_REQUEST, "invalid_request");
    };
    let redeemed = bank.redeem(CLIENT_ID, code, redirect_uri, field("code_verifier"));
    let Some((login, consent)) = redeemed else {
        return refused(StatusCode::BAD_REQUEST, "invalid_grant");
    };
    match bank.issue_for(login, TERMS, Some(consent)) {
        Ok(tokens) => granted(&tokens),
        Err(error) => {
            tracing::error!(%error, "the sandbox bank could not issue a token");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The bank's faults, as far as they concern its authorisation server.
async fn upset(bank: &Bank) -> Option<Response> {
    let (slow_ms, outage, refused) = {
        let mut faults = bank.faults();
        if !faults.concern(Resource::Token, None) {
            return None;
        }
        let outage = faults.outage;
        let refused = if outage.is_none() {
            faults.refuse()
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
fn is_our_client(headers: &HeaderMap, fields: &Fields) -> bool {
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
pub(crate) fn granted(tokens: &impl Serialize) -> Response {
    #[derive(Serialize)]
    struct Granted<'a, T> {
        #[serde(flatten)]
        tokens: &'a T,
        token_type: &'static str,
        scope: &'static str,
    }
    let body = Granted {
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
pub(crate) fn refused(status: StatusCode, error: &'static str) -> Response {
    let body = axum::Json(serde_json::json!({ "error": error }));
    let mut response = (status, body).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let headers = response.headers_mut();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
    }
    response
}
