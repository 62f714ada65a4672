//! Who is signed in: a cookie that the vault sealed, and a token in each form.
//!
//! There is no session in the table. The cookie holds the app and the hash of the key that signed in;
//! each request looks the hash up, so that a revoked key ends its sessions at once.

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
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jiff::SignedDuration;
use okra_api::secrets_match;
use okra_core::model::ids::AppId;
use okra_store::{App, KeyHash};
use okra_vault::generate_nonce;
use serde::{Deserialize, Serialize};

use crate::{form::FormFields, page_error::PageError, web_state::WebState};

/// How long one sign-in lasts.
pub(crate) const SESSION_LIFETIME: SignedDuration = SignedDuration::from_hours(12);

/// How long a sign-in page may stand open.
const SIGN_IN_FORM_LIFETIME: SignedDuration = SignedDuration::from_hours(1);

const COOKIE_NAME: &str = "okra_session";

/// What the seal is for; it opens for nothing else.
const SEAL_PURPOSE: &[u8] = b"dashboard session";

/// What the cookie holds.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SessionCookie {
    /// Nobody's before the sign-in: then it only guards the sign-in form.
    #[serde(rename = "of")]
    pub(crate) owner: Option<SessionOwner>,
    /// What each form sends back.
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
    /// A session of nobody.
    pub(crate) fn new_guest(web: &WebState) -> Result<Self, PageError> {
        Self::new_session(web, None, SIGN_IN_FORM_LIFETIME)
    }

    /// A session of the app that a secret key is of; `None` where it is of none.
    pub(crate) async fn sign_in(web: &WebState, key: &str) -> Result<Option<Self>, PageError> {
        // Looked up by its hash: how long that takes says nothing about any key.
        let hash = KeyHash::hash_secret(key);
        let Some(app) = web
            .api
            .store
            .find_app_by_key(hash, web.api.clock.now())
            .await?
        else {
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

    /// The session of a request's cookie, where it is ours and not over.
    pub(crate) fn from_headers(web: &WebState, headers: &HeaderMap) -> Option<Self> {
        let sealed = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .find_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))?;
        let sealed = BASE64URL_NOPAD.decode(sealed.as_bytes()).ok()?;
        let plain = web.api.vault.open_sealed(SEAL_PURPOSE, &sealed).ok()?;
        let session: Self = serde_json::from_slice(&plain).ok()?;
        (session.expires_s > web.now().as_second()).then_some(session)
    }

    /// The value of `set-cookie` that keeps it.
    pub(crate) fn set_cookie_header(&self, web: &WebState) -> Result<String, PageError> {
        let plain = serde_json::to_vec(self)?;
        let sealed = web
            .api
            .vault
            .seal_secret(SEAL_PURPOSE, &plain, generate_nonce()?)?;
        let age_s = self.expires_s - web.now().as_second();
        Ok(format_cookie(web, &BASE64URL_NOPAD.encode(&sealed), age_s))
    }

    /// The value of `set-cookie` that forgets it.
    pub(crate) fn expired_cookie_header(web: &WebState) -> String {
        format_cookie(web, "", 0)
    }
}

fn format_cookie(web: &WebState, value: &str, age_s: i64) -> String {
    let secure = if web.api.public_url.starts_with("https:") {
        "; Secure"
    } else {
        ""
    };
    format!(
        "{COOKIE_NAME}={value}; Path=/dashboard; HttpOnly; SameSite=Strict; Max-Age={age_s}{secure}"
    )
}

/// An app that is signed in.
pub(crate) struct AppSession {
    pub(crate) app: App,
    /// The hash of the key that signed in.
    pub(crate) key_hash: KeyHash,
    pub(crate) csrf: String,
    pub(crate) query: FormFields,
}

impl FromRequestParts<Arc<WebState>> for AppSession {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<WebState>) -> Result<Self, PageError> {
        let at = parts
            .uri
            .path_and_query()
            .map_or("/dashboard", |at| at.as_str());
        let next = match parts.method {
            Method::GET => at.to_owned(),
            _ => "/dashboard".to_owned(),
        };
        // What listens is no page that could be sent to the form: it is told, and its page asks anew.
        let accept = parts.headers.get(ACCEPT);
        let listens = accept.is_some_and(|it| it.as_bytes() == b"text/event-stream");
        let sign_in = || match listens {
            true => PageError::Rejected(StatusCode::UNAUTHORIZED, "Sign in again.".to_owned()),
            false => PageError::SignInRequired { next: next.clone() },
        };
        let session = SessionCookie::from_headers(web, &parts.headers).ok_or_else(sign_in)?;
        let of = session.owner.ok_or_else(sign_in)?;
        let hash = HEXLOWER.decode(of.key_hash.as_bytes()).ok();
        let hash = hash.and_then(|hash| hash.try_into().ok());
        let hash = KeyHash::from_bytes(hash.ok_or_else(sign_in)?);
        if web
            .api
            .store
            .find_app_by_key(hash, web.api.clock.now())
            .await?
            != Some(of.app)
        {
            return Err(sign_in());
        }
        let app = web.api.store.find_app(of.app).await?.ok_or_else(sign_in)?;
        Ok(Self {
            app,
            key_hash: hash,
            csrf: session.csrf,
            query: FormFields::parse(parts.uri.query().unwrap_or_default().as_bytes()),
        })
    }
}

/// A form that an app which is signed in has sent, with the token that its page had.
pub(crate) struct SubmittedForm {
    pub(crate) session: AppSession,
    pub(crate) fields: FormFields,
}

impl FromRequest<Arc<WebState>> for SubmittedForm {
    type Rejection = PageError;

    async fn from_request(request: Request, web: &Arc<WebState>) -> Result<Self, PageError> {
        let (mut parts, body) = request.into_parts();
        let signed = AppSession::from_request_parts(&mut parts, web).await?;
        let fields = read_verified_form(&parts.headers, body, &signed.csrf).await?;
        Ok(Self {
            session: signed,
            fields,
        })
    }
}

/// The fields of a form, where it comes from a page of ours.
pub(crate) async fn read_verified_form(
    headers: &HeaderMap,
    body: Body,
    csrf: &str,
) -> Result<FormFields, PageError> {
    let forged = || {
        let sentence =
            "This form is too old or was not sent from the dashboard. Go back and try again.";
        PageError::Rejected(StatusCode::FORBIDDEN, sentence.to_owned())
    };
    let site = headers.get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin") {
        return Err(forged());
    }
    let fields = FormFields::read_body(body).await.ok_or_else(forged)?;
    if csrf.is_empty() || !secrets_match(fields.get("csrf"), csrf) {
        return Err(forged());
    }
    Ok(fields)
}
