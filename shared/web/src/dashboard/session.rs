//! Who is signed in: [`SessionCookie`] is the content of the cookie, which the vault seals; a handler takes an
//! [`AppSession`], or a [`SubmittedForm`], whose token was checked against it.
//!
//! The rule: the cookie holds the session. The app and the hash of the key that signed in are in it, and each request
//! looks the hash up, so that a revoked key ends its sessions at once. The table holds only which sessions were signed
//! out: a copy of their cookie is worth nothing.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
    http::{
        HeaderMap, Method, StatusCode,
        header::{ACCEPT, COOKIE},
        request::Parts,
    },
};
use cookie::{Cookie, SameSite};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jiff::{SignedDuration, Timestamp};
use okra_app::AppScope;
use okra_core::model::ids::AppId;
use okra_store::{App, KeyHash};
use okra_vault::generate_nonce;
use okra_vault::secrets_match;
use serde::{Deserialize, Serialize};

use crate::{form::FormFields, page_error::PageError, web_state::WebState};

/// How long one sign-in lasts.
const SESSION_LIFETIME: SignedDuration = SignedDuration::from_hours(12);

/// How long a sign-in page may be open before its form is submitted.
const SIGN_IN_FORM_LIFETIME: SignedDuration = SignedDuration::from_hours(1);

const COOKIE_NAME: &str = "okra_session";

/// What the seal is for: it opens for no other purpose.
const SEAL_PURPOSE: &[u8] = b"dashboard session";

/// The content of the cookie.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SessionCookie {
    /// `None` before the sign-in: the cookie then only guards the sign-in form.
    #[serde(rename = "of")]
    pub(crate) owner: Option<SessionOwner>,
    /// The token that each form sends back.
    pub(crate) csrf: String,
    /// Seconds since 1970.
    expires_s: i64,
}

/// Who signed in.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SessionOwner {
    pub(crate) app: AppId,
    /// SHA-256 of the key, in hexadecimal digits.
    #[serde(rename = "key")]
    key_hash: String,
}

impl SessionCookie {
    /// A session before the sign-in.
    pub(crate) fn new_guest(web: &WebState) -> Result<Self, PageError> {
        Self::new_session(web, None, SIGN_IN_FORM_LIFETIME)
    }

    /// A session of the app that has this secret key; `None` where no app has it.
    pub(crate) async fn sign_in(web: &WebState, key: &str) -> Result<Option<Self>, PageError> {
        // Looked up by its hash: the time that takes reveals nothing about any key.
        let hash = KeyHash::hash_secret(key);
        let Some(app) = web.services.store.find_app_by_key(hash, web.now()).await? else {
            return Ok(None);
        };
        let key = HEXLOWER.encode(hash.as_bytes());
        Self::new_session(
            web,
            Some(SessionOwner { app, key_hash: key }),
            SESSION_LIFETIME,
        )
        .map(Some)
    }

    fn new_session(
        web: &WebState,
        owner: Option<SessionOwner>,
        lifetime: SignedDuration,
    ) -> Result<Self, PageError> {
        let csrf = HEXLOWER.encode(&generate_nonce()?);
        Ok(Self {
            owner,
            csrf,
            expires_s: web.now().as_second() + lifetime.as_secs(),
        })
    }

    /// The session of a request's cookie, where it is genuine and has not expired.
    pub(crate) fn from_headers(web: &WebState, headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(COOKIE).iter();
        let sealed = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(Cookie::split_parse)
            .filter_map(Result::ok)
            .find(|cookie| cookie.name() == COOKIE_NAME)?;
        let sealed = BASE64URL_NOPAD.decode(sealed.value().as_bytes()).ok()?;
        let plain = web.services.vault.open_sealed(SEAL_PURPOSE, &sealed).ok()?;
        let session: Self = serde_json::from_slice(&plain).ok()?;
        (session.expires_s > web.now().as_second()).then_some(session)
    }

    /// The cookie that holds this session.
    pub(crate) fn to_cookie(&self, web: &WebState) -> Result<Cookie<'static>, PageError> {
        let plain = serde_json::to_vec(self)?;
        let sealed = web
            .services
            .vault
            .seal_secret(SEAL_PURPOSE, &plain, generate_nonce()?)?;
        let age_s = self.expires_s - web.now().as_second();
        Ok(build_cookie(web, BASE64URL_NOPAD.encode(&sealed), age_s))
    }

    /// Ends the session of a request, wherever its cookie was copied to.
    pub(crate) async fn end_session(web: &WebState, headers: &HeaderMap) -> Result<(), PageError> {
        let Some(session) = Self::from_headers(web, headers) else {
            return Ok(());
        };
        let expires_at = Timestamp::from_second(session.expires_s).map_err(PageError::internal)?;
        let id = KeyHash::hash_secret(&session.csrf);
        Ok(web.services.store.end_session(id, expires_at).await?)
    }

    /// The cookie that ends the session in the browser.
    pub(crate) fn removal_cookie(web: &WebState) -> Cookie<'static> {
        build_cookie(web, String::new(), 0)
    }
}

/// The session's cookie with this value, for so many seconds.
fn build_cookie(web: &WebState, value: String, age_s: i64) -> Cookie<'static> {
    Cookie::build((COOKIE_NAME, value))
        .path("/dashboard")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(web.services.public_url.starts_with("https:"))
        .max_age(cookie::time::Duration::seconds(age_s))
        .build()
}

/// An app that is signed in.
pub(crate) struct AppSession {
    /// What the app may see and do.
    pub(crate) scope: AppScope,
    /// The hash of the key that signed in.
    pub(crate) key_hash: KeyHash,
    pub(crate) csrf: String,
    pub(crate) query: FormFields,
}

impl AppSession {
    /// The app.
    pub(crate) fn app(&self) -> &App {
        self.scope.app()
    }

    /// The session of a request; `None` where nobody is signed in, or the key that signed in is revoked.
    async fn load_session(web: &WebState, parts: &Parts) -> Result<Option<Self>, PageError> {
        let Some(session) = SessionCookie::from_headers(web, &parts.headers) else {
            return Ok(None);
        };
        let Some((owner, key_hash)) = session
            .owner
            .and_then(|owner| Some((owner.app, owner.parse_key_hash()?)))
        else {
            return Ok(None);
        };
        let store = &web.services.store;
        let (key_owner, is_ended) = futures::future::try_join(
            store.find_app_by_key(key_hash, web.now()),
            store.is_session_ended(KeyHash::hash_secret(&session.csrf)),
        )
        .await?;
        if key_owner != Some(owner) || is_ended {
            return Ok(None);
        }
        let query = parts.uri.query().unwrap_or_default();
        Ok(store.find_app(owner).await?.map(|app| Self {
            scope: AppScope::new(Arc::clone(&web.services), Arc::new(app)),
            key_hash,
            csrf: session.csrf,
            query: FormFields::parse(query.as_bytes()),
        }))
    }
}

impl SessionOwner {
    fn parse_key_hash(&self) -> Option<KeyHash> {
        let hash = HEXLOWER.decode(self.key_hash.as_bytes()).ok()?;
        Some(KeyHash::from_bytes(hash.try_into().ok()?))
    }
}

/// The error of a request without a session: the sign-in form, which leads back to the page that was requested.
fn sign_in_error(parts: &Parts) -> PageError {
    // An event source cannot follow to the form: it gets a status, and its page finds out by loading anew.
    let accept = parts.headers.get(ACCEPT);
    if accept.is_some_and(|it| it.as_bytes() == b"text/event-stream") {
        return PageError::Rejected(StatusCode::UNAUTHORIZED, "Sign in again.".to_owned());
    }
    let page = parts
        .uri
        .path_and_query()
        .map(axum::http::uri::PathAndQuery::as_str);
    let next = match parts.method {
        Method::GET => page.unwrap_or("/dashboard"),
        _ => "/dashboard",
    };
    PageError::SignInRequired {
        next: next.to_owned(),
    }
}

impl FromRequestParts<Arc<WebState>> for AppSession {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<WebState>) -> Result<Self, PageError> {
        let session = Self::load_session(web, parts).await?;
        session.ok_or_else(|| sign_in_error(parts))
    }
}

/// A form that a signed-in app submitted, with the token of its page.
pub(crate) struct SubmittedForm {
    pub(crate) session: AppSession,
    pub(crate) fields: FormFields,
}

impl FromRequest<Arc<WebState>> for SubmittedForm {
    type Rejection = PageError;

    async fn from_request(request: Request, web: &Arc<WebState>) -> Result<Self, PageError> {
        let (mut parts, body) = request.into_parts();
        let session = AppSession::from_request_parts(&mut parts, web).await?;
        let fields = read_verified_form(&parts.headers, body, &session.csrf).await?;
        Ok(Self { session, fields })
    }
}

/// The fields of a form.
///
/// # Errors
///
/// [`PageError::Rejected`] where the form was not submitted from one of our pages, or its token is not the session's.
pub(crate) async fn read_verified_form(
    headers: &HeaderMap,
    body: Body,
    csrf: &str,
) -> Result<FormFields, PageError> {
    let site = headers.get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin") {
        return Err(forged_form_error());
    }
    let fields = FormFields::read_body(body)
        .await
        .ok_or_else(forged_form_error)?;
    if csrf.is_empty() || !secrets_match(fields.get("csrf"), csrf) {
        return Err(forged_form_error());
    }
    Ok(fields)
}

fn forged_form_error() -> PageError {
    let sentence =
        "This form is too old or was not submitted from the dashboard. Go back and try again.";
    PageError::Rejected(StatusCode::FORBIDDEN, sentence.to_owned())
}
