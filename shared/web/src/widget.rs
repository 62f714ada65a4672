//! The widget: a script for the app's page, and the frame in which a customer links a bank.
//!
//! `bundle.js` opens the frame in the app's page and speaks Okra's `postMessage` protocol with it. The
//! frame is of our origin, so the page cannot see into it; what it shows is rendered here, step by
//! step. The customer logs in at the bank itself, in a window of the bank's origin, so that neither
//! the page nor the frame ever holds a bank's credentials.
//!
//! A session begins with the app's public key and client token, and only where the page that opened
//! the frame is of an origin that the app allows.

mod bank_side;
mod options;
mod session;
mod steps;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use maud::{DOCTYPE, html};
use okra_store::KeyHash;
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(crate) use self::options::origin;
use crate::{
    Web,
    assets::{self, href},
    form::Fields,
    html as shell,
    session::same,
    trouble::Trouble,
    widget::session::Link,
};

/// Bytes of what a page hands the widget at most.
const MAX_OPTIONS_BYTES: usize = 32 * 1024;

pub(crate) fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route("/", get(root))
        .route("/v2/bundle.js", get(|| async { assets::bundle() }))
        .route("/v1/bundle.js", get(|| async { assets::bundle() }))
        .route("/widget", get(frame))
        .route("/widget/begin", post(begin))
        .route("/widget/step", post(steps::step))
        .route("/widget/callback", get(bank_side::callback))
}

/// Okra's pages open the frame at the root of the host: a package's `baseUrl` is an origin.
async fn root(state: State<Arc<Web>>, uri: Uri) -> Response {
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    if query.get("isIframe").is_empty() {
        return Redirect::to("/dashboard").into_response();
    }
    frame(state, uri).await
}

/// The frame, the same for everybody: what it is for arrives by message. Where the page names its
/// public key, the browser itself refuses to show it on other origins than the app's.
async fn frame(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Link a bank account" }
                link rel="icon" href=(href("icon.svg"));
                link rel="stylesheet" href=(href("widget.css"));
                script src=(href("widget.js")) defer {}
            }
            body {
                div.dialog role="dialog" aria-modal="true" aria-label="Link a bank account" {
                    header {
                        button.back type="button" id="back" hidden { "Back" }
                        span.app id="app-name" {}
                        button.close type="button" id="close" aria-label="Close" { span aria-hidden="true" { "×" } }
                    }
                    main id="step" aria-live="polite" tabindex="-1" {
                        p.wait role="status" { "One moment…" }
                    }
                    footer { "Secured by okra-sync. Your bank login stays with your bank." }
                }
            }
        }
    };
    let ancestors = ancestors(&web, query.get("key")).await;
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
    );
    let mut response = shell::respond(StatusCode::OK, page);
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    // A frame on a page of another origin is what this is for.
    response.headers_mut().insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("cross-origin"),
    );
    response
}

/// Who may embed the frame, as far as the key tells. Okra's own packages name none: then the session
/// is refused instead, and the frame shows nothing but that.
async fn ancestors(web: &Web, key: &str) -> String {
    let app = async {
        let app = web
            .api
            .store
            .app_of_public_key(KeyHash::of(key))
            .await
            .ok()??;
        web.api.store.app(app).await.ok()?
    };
    match app.await {
        Some(app) if !app.origins.is_empty() => app.origins.join(" "),
        _ => "*".to_owned(),
    }
}

/// What the frame was handed.
#[derive(Deserialize)]
struct Begin {
    /// The origin of the page, as the browser told the frame.
    origin: String,
    #[serde(default)]
    options: Map<String, Value>,
}

/// A refusal as the frame hands it to the page: Okra's error object.
pub(crate) fn refusal(status: StatusCode, message: &str) -> Response {
    let body = json!({
        "type": "error", "error": true, "status": false, "code": 1000,
        "method": "Widget", "message": message,
    });
    (status, axum::Json(body)).into_response()
}

/// Begins a session.
async fn begin(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Trouble> {
    if !from_ourselves(&headers) {
        return Ok(refusal(
            StatusCode::FORBIDDEN,
            "The widget is opened by its frame alone.",
        ));
    }
    let body = to_bytes(body, MAX_OPTIONS_BYTES).await.unwrap_or_default();
    let Ok(begin) = serde_json::from_slice::<Begin>(&body) else {
        return Ok(refusal(
            StatusCode::BAD_REQUEST,
            "The options cannot be read: they have to be plain data of at most 32 KB.",
        ));
    };
    let text = |name: &str| {
        begin
            .options
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .trim()
    };
    if !text("ref").is_empty() || !text("short_url").is_empty() {
        return Ok(refusal(
            StatusCode::NOT_FOUND,
            "There is no short link of that name here: short links were made in Okra's App Builder. Use Okra.buildWithOptions.",
        ));
    }
    let (key, token) = (text("key"), text("token"));
    let Some(app) = web.api.store.app_of_public_key(KeyHash::of(key)).await? else {
        return Ok(refusal(
            StatusCode::UNAUTHORIZED,
            "key is not a public key of any app here. It is on the dashboard, under Keys; a secret key never belongs into a page.",
        ));
    };
    let Some(app) = web.api.store.app(app).await? else {
        return Ok(refusal(
            StatusCode::UNAUTHORIZED,
            "The app of that key is gone.",
        ));
    };
    if !same(&app.client_token().to_string(), token) {
        return Ok(refusal(
            StatusCode::UNAUTHORIZED,
            "token is not the client token of that key's app. It is on the dashboard, under Keys.",
        ));
    }
    if !options::may_embed(&app, &begin.origin) {
        let message = format!(
            "Pages of {} may not open the widget of this app. Add that origin on the dashboard, under Keys.",
            if begin.origin.is_empty() {
                "an unknown origin"
            } else {
                &begin.origin
            }
        );
        return Ok(refusal(StatusCode::FORBIDDEN, &message));
    }
    let asked = match options::read(&begin.options) {
        Ok(asked) => asked,
        Err(problem) => return Ok(refusal(StatusCode::BAD_REQUEST, &problem)),
    };
    let mut link = Link::new(app.id, begin.origin, asked);
    if let Err(problem) = steps::prepare(&web, &app, &mut link).await? {
        return Ok(refusal(StatusCode::BAD_REQUEST, &problem));
    }
    let first = steps::first(&web, &link).await?;
    let token = session::begin(&web, &link).await?;
    Ok(axum::Json(json!({
        "session": token,
        "app": link.asked.app_name.as_deref().unwrap_or(&app.name),
        "html": first.into_string(),
    }))
    .into_response())
}

/// True where a script of our own pages calls.
pub(crate) fn from_ourselves(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_none_or(|site| site == "same-origin")
}
