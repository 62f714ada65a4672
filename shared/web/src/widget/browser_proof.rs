//! That a login ends in the browser that began it.
//!
//! Whoever has an app's public key can begin a session, and could send the bank's address to somebody else: that
//! person's accounts would be linked for the one who began. So the address is not enough. The window of the login is
//! opened at [`serve_login_window`], which the frame hands the session's token, one window to another of our own origin;
//! for that token [`authorize_browser`] sets a cookie, and only with it is the bank's code redeemed.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{COOKIE, SET_COOKIE},
    },
    response::{IntoResponse, Response},
};
use cookie::{Cookie, SameSite};
use data_encoding::HEXLOWER;
use okra_store::{KeyHash, LINK_SESSION_RETENTION_S};
use okra_vault::{generate_nonce, secrets_match};
use serde_json::json;

use super::{
    frame::render_login_window,
    link_session::{self, BankAuthorization},
    origins::is_same_origin,
};
use crate::{components::document::html_response, page_error::PageError, web_state::WebState};

/// What the cookie's name begins with; the rest tells the logins of one browser apart.
const COOKIE_PREFIX: &str = "okra_login_";

/// Digits of the login's hash in the cookie's name.
const COOKIE_NAME_DIGITS: usize = 12;

/// The path to which the browser sends the cookie: the bank's redirect.
pub(super) const CALLBACK_PATH: &str = "/widget/callback";

/// The window of the login, until it has the session's token from the frame and goes on to the bank.
pub(crate) async fn serve_login_window() -> Response {
    html_response(StatusCode::OK, render_login_window())
}

/// Binds the login that is in progress to this browser, and returns where the window goes on to.
pub(crate) async fn authorize_browser(
    State(web): State<Arc<WebState>>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    // A form of another site sends no header of ours, and a script of another site needs our leave to.
    if !is_same_origin(&headers) {
        return Ok(StatusCode::FORBIDDEN.into_response());
    }
    let token = link_session::find_session_token(&headers);
    let Some(mut open) = link_session::load_session(&web, token).await? else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    let Some(authorization) = open.link.authorization.as_mut() else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    let secret = HEXLOWER.encode(&generate_nonce()?);
    authorization.browser_hash = Some(hash_proof(&secret));
    let url = authorization.authorization_url.clone();
    let cookie = build_cookie(&web, authorization, secret);
    if !open.save_session(&web).await? {
        return Ok(StatusCode::CONFLICT.into_response());
    }
    let cookie = HeaderValue::try_from(cookie.to_string()).map_err(PageError::internal)?;
    Ok(([(SET_COOKIE, cookie)], Json(json!({ "url": url }))).into_response())
}

/// True where the request is of the browser in which the login began.
pub(super) fn is_same_browser(authorization: &BankAuthorization, headers: &HeaderMap) -> bool {
    let Some(expected) = &authorization.browser_hash else {
        return false;
    };
    let name = cookie_name(authorization);
    let cookies = headers.get_all(COOKIE).iter();
    cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .filter_map(Result::ok)
        .any(|cookie| cookie.name() == name && secrets_match(&hash_proof(cookie.value()), expected))
}

fn hash_proof(secret: &str) -> String {
    KeyHash::hash_secret(secret).to_hex()
}

fn cookie_name(authorization: &BankAuthorization) -> String {
    let mut login = hash_proof(&authorization.nonce);
    login.truncate(COOKIE_NAME_DIGITS);
    format!("{COOKIE_PREFIX}{login}")
}

/// The cookie is sent along with the bank's redirect, which is a navigation (`Lax`), and to no script.
fn build_cookie(
    web: &WebState,
    authorization: &BankAuthorization,
    secret: String,
) -> Cookie<'static> {
    Cookie::build((cookie_name(authorization), secret))
        .path(CALLBACK_PATH)
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(web.services.public_url.starts_with("https:"))
        .max_age(cookie::time::Duration::seconds(LINK_SESSION_RETENTION_S))
        .build()
}
