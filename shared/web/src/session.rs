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
use okra_api::same_secret;
use okra_core::ids::AppId;
use okra_store::{App, KeyHash};
use okra_vault::fresh_nonce;
use serde::{Deserialize, Serialize};

use crate::{Web, form::Fields, trouble::Trouble};

/// How long one sign-in lasts.
pub(crate) const LASTS: SignedDuration = SignedDuration::from_hours(12);

/// How long a sign-in page may stand open.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

const COOKIE_NAME: &str = "okra_session";

/// What the seal is for; it opens for nothing else.
const PURPOSE: &[u8] = b"dashboard session";

/// What the cookie holds.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Nobody's before the sign-in: then it only guards the sign-in form.
    pub(crate) of: Option<SignedIn>,
    /// What each form sends back.
    pub(crate) csrf: String,
    /// Seconds since 1970.
    expires_s: i64,
}

/// Who signed in.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SignedIn {
    pub(crate) app: AppId,
    /// SHA-256 of the key, in hexadecimal digits.
    key: String,
}

impl Session {
    /// A session of nobody.
    pub(crate) fn guest(web: &Web) -> Result<Self, Trouble> {
        Self::fresh(web, None, PATIENCE)
    }

    /// A session of the app that a secret key is of; `None` where it is of none.
    pub(crate) async fn sign_in(web: &Web, key: &str) -> Result<Option<Self>, Trouble> {
        // Looked up by its hash: how long that takes says nothing about any key.
        let hash = KeyHash::of(key);
        let Some(app) = web.api.store.app_of_key(hash, web.api.clock.now()).await? else {
            return Ok(None);
        };
        let key = HEXLOWER.encode(hash.as_bytes());
        Self::fresh(web, Some(SignedIn { app, key }), LASTS).map(Some)
    }

    fn fresh(web: &Web, of: Option<SignedIn>, lasts: SignedDuration) -> Result<Self, Trouble> {
        let csrf = HEXLOWER.encode(&fresh_nonce()?);
        Ok(Self {
            of,
            csrf,
            expires_s: web.now().as_second() + lasts.as_secs(),
        })
    }

    /// The session of a request's cookie, where it is ours and not over.
    pub(crate) fn of(web: &Web, headers: &HeaderMap) -> Option<Self> {
        let sealed = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .find_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))?;
        let sealed = BASE64URL_NOPAD.decode(sealed.as_bytes()).ok()?;
        let plain = web.api.vault.open(PURPOSE, &sealed).ok()?;
        let session: Self = serde_json::from_slice(&plain).ok()?;
        (session.expires_s > web.now().as_second()).then_some(session)
    }

    /// The value of `set-cookie` that keeps it.
    pub(crate) fn cookie(&self, web: &Web) -> Result<String, Trouble> {
        let plain = serde_json::to_vec(self)?;
        let sealed = web.api.vault.seal(PURPOSE, &plain, fresh_nonce()?)?;
        let age_s = self.expires_s - web.now().as_second();
        Ok(cookie(web, &BASE64URL_NOPAD.encode(&sealed), age_s))
    }

    /// The value of `set-cookie` that forgets it.
    pub(crate) fn forgotten(web: &Web) -> String {
        cookie(web, "", 0)
    }
}

fn cookie(web: &Web, value: &str, age_s: i64) -> String {
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
pub(crate) struct Signed {
    pub(crate) app: App,
    /// The hash of the key that signed in.
    pub(crate) key: KeyHash,
    pub(crate) csrf: String,
    pub(crate) query: Fields,
}

impl FromRequestParts<Arc<Web>> for Signed {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Trouble> {
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
            true => Trouble::Refused(StatusCode::UNAUTHORIZED, "Sign in again.".to_owned()),
            false => Trouble::SignIn { next: next.clone() },
        };
        let session = Session::of(web, &parts.headers).ok_or_else(sign_in)?;
        let of = session.of.ok_or_else(sign_in)?;
        let hash = HEXLOWER.decode(of.key.as_bytes()).ok();
        let hash = hash.and_then(|hash| hash.try_into().ok());
        let hash = KeyHash::from_bytes(hash.ok_or_else(sign_in)?);
        if web.api.store.app_of_key(hash, web.api.clock.now()).await? != Some(of.app) {
            return Err(sign_in());
        }
        let app = web.api.store.app(of.app).await?.ok_or_else(sign_in)?;
        Ok(Self {
            app,
            key: hash,
            csrf: session.csrf,
            query: Fields::parse(parts.uri.query().unwrap_or_default().as_bytes()),
        })
    }
}

/// A form that an app which is signed in has sent, with the token that its page had.
pub(crate) struct Posted {
    pub(crate) signed: Signed,
    pub(crate) fields: Fields,
}

impl FromRequest<Arc<Web>> for Posted {
    type Rejection = Trouble;

    async fn from_request(request: Request, web: &Arc<Web>) -> Result<Self, Trouble> {
        let (mut parts, body) = request.into_parts();
        let signed = Signed::from_request_parts(&mut parts, web).await?;
        let fields = checked(&parts.headers, body, &signed.csrf).await?;
        Ok(Self { signed, fields })
    }
}

/// The fields of a form, where it comes from a page of ours.
pub(crate) async fn checked(
    headers: &HeaderMap,
    body: Body,
    csrf: &str,
) -> Result<Fields, Trouble> {
    let forged = || {
        let sentence =
            "This form is too old or was not sent from the dashboard. Go back and try again.";
        Trouble::Refused(StatusCode::FORBIDDEN, sentence.to_owned())
    };
    let site = headers.get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin") {
        return Err(forged());
    }
    let fields = Fields::read(body).await.ok_or_else(forged)?;
    if csrf.is_empty() || !same_secret(fields.get("csrf"), csrf) {
        return Err(forged());
    }
    Ok(fields)
}
