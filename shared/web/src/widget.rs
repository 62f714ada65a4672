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
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use maud::{DOCTYPE, Markup, html};
use okra_api::secrets_match;
use okra_core::model::ids::AppId;
use okra_store::{App, KeyHash};
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(crate) use self::options::parse_origin;
use crate::{
    WebState,
    assets::{self, asset_href},
    form::FormFields,
    html as shell,
    trouble::PageError,
    widget::session::LinkProgress,
};

/// Bytes of what a page hands the widget at most.
const MAX_BEGIN_BODY_BYTES: usize = 32 * 1024;

pub(crate) fn widget_routes() -> Router<Arc<WebState>> {
    Router::new()
        .route("/", get(serve_root))
        .route("/v2/bundle.js", get(|| async { assets::serve_bundle() }))
        .route("/v1/bundle.js", get(|| async { assets::serve_bundle() }))
        .route("/widget", get(serve_frame))
        .route("/link/{name}", get(serve_link_page))
        .route("/widget/begin", post(begin_session))
        .route("/widget/step", post(steps::handle_step))
        .route("/widget/callback", get(bank_side::handle_callback))
}

/// Okra's pages open the frame at the root of the host: a package's `baseUrl` is an origin.
async fn serve_root(state: State<Arc<WebState>>, uri: Uri) -> Response {
    let query = FormFields::parse(uri.query().unwrap_or_default().as_bytes());
    if query.get("isIframe").is_empty() {
        return Redirect::to("/dashboard").into_response();
    }
    serve_frame(state, uri).await
}

/// The frame, the same for everybody: what it is for arrives by message. Where the page names its
/// public key, the browser itself refuses to show it on other origins than the app's.
async fn serve_frame(State(web): State<Arc<WebState>>, uri: Uri) -> Response {
    let query = FormFields::parse(uri.query().unwrap_or_default().as_bytes());
    let ancestors = allowed_ancestors(&web, query.get("key")).await;
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
    );
    let mut response = shell::html_response(StatusCode::OK, render_dialog(None));
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

/// The page of a short link: the widget by itself, in no page of anybody's.
async fn serve_link_page(
    State(web): State<Arc<WebState>>,
    Path(name): Path<String>,
) -> Result<Response, PageError> {
    let Some(known) = web.api.store.find_short_link(&name).await? else {
        let sentence =
            "It was mistyped, or it was taken back. Ask whoever sent it to you for a new one.";
        let page = render_message("This link does not exist", sentence, false);
        return Ok(shell::html_response(StatusCode::NOT_FOUND, page));
    };
    Ok(shell::html_response(
        StatusCode::OK,
        render_dialog(Some(&known.name)),
    ))
}

/// The head of each document of the widget, with its script where it is `scripted`.
fn render_head(title: &str, has_script: bool) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) }
            link rel="icon" href=(asset_href("icon.svg"));
            link rel="stylesheet" href=(asset_href("widget.css"));
            @if has_script { script src=(asset_href("widget.js")) defer {} }
        }
    }
}

/// A document that says one thing, to a customer; in a window that `closes` by itself.
pub(crate) fn render_message(title: &str, sentence: &str, closes_itself: bool) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (render_head(title, closes_itself))
            body.returned data-returned[closes_itself] {
                div.dialog { main { h1 { (title) } p { (sentence) } } }
            }
        }
    }
}

/// The widget's document, which its script fills; of a short link where it names one.
fn render_dialog(short_url: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (render_head("Link a bank account", true))
            body data-link=[short_url] {
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
    }
}

/// Who may embed the frame, as far as the key tells. Okra's own packages name none: then the session
/// is refused instead, and the frame shows nothing but that.
async fn allowed_ancestors(web: &WebState, key: &str) -> String {
    let app = async {
        let app = web
            .api
            .store
            .find_app_by_public_key(KeyHash::hash_secret(key))
            .await
            .ok()??;
        web.api.store.find_app(app).await.ok()?
    };
    match app.await {
        Some(app) if !app.widget_origins.is_empty() => app.widget_origins.join(" "),
        _ => "*".to_owned(),
    }
}

/// What the frame was handed.
#[derive(Deserialize)]
struct BeginRequest {
    /// The origin of the page, as the browser told the frame.
    origin: String,
    #[serde(default)]
    options: Map<String, Value>,
    /// True on the page of a short link, which stands in no other page.
    #[serde(default)]
    #[serde(rename = "alone")]
    is_standalone: bool,
}

/// A refusal as the frame hands it to the page: Okra's error object.
pub(crate) fn error_response(status: StatusCode, message: &str) -> Response {
    let body = json!({
        "type": "error", "error": true, "status": false, "code": 1000,
        "method": "Widget", "message": message,
    });
    (status, axum::Json(body)).into_response()
}

/// The app of the short link that the options name, where they name one: what was set with the link
/// stands below what the page says. What is wrong is a sentence.
async fn resolve_short_link(
    web: &WebState,
    request: &mut BeginRequest,
) -> Result<Result<Option<AppId>, &'static str>, PageError> {
    let name = ["ref", "short_url"]
        .iter()
        .find_map(|name| request.options.get(*name)?.as_str());
    let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else {
        return Ok(Ok(None));
    };
    let Some(link) = web.api.store.find_short_link(name).await? else {
        return Ok(Err(
            "There is no short link of that name here. They are made with links/new.",
        ));
    };
    let page = std::mem::replace(&mut request.options, link.options);
    request.options.extend(page);
    Ok(Ok(Some(link.app)))
}

/// The app of the options' public key and client token. What is wrong with them is a sentence.
async fn load_app_by_key(
    web: &WebState,
    options: &Map<String, Value>,
) -> Result<Result<App, &'static str>, PageError> {
    let text = |name: &str| {
        options
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (key, token) = (text("key").trim(), text("token").trim());
    let store = &web.api.store;
    let Some(app) = store
        .find_app_by_public_key(KeyHash::hash_secret(key))
        .await?
    else {
        return Ok(Err(
            "key is not a public key of any app here. It is on the dashboard, under Keys; a secret key never belongs into a page.",
        ));
    };
    let Some(app) = store.find_app(app).await? else {
        return Ok(Err("The app of that key is gone."));
    };
    if !secrets_match(&app.client_token().to_string(), token) {
        return Ok(Err(
            "token is not the client token of that key's app. It is on the dashboard, under Keys.",
        ));
    }
    Ok(Ok(app))
}

/// Begins a session.
async fn begin_session(
    State(web): State<Arc<WebState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PageError> {
    if !is_same_origin(&headers) {
        return Ok(error_response(
            StatusCode::FORBIDDEN,
            "The widget is opened by its frame alone.",
        ));
    }
    let body = to_bytes(body, MAX_BEGIN_BODY_BYTES)
        .await
        .unwrap_or_default();
    let Ok(mut begin) = serde_json::from_slice::<BeginRequest>(&body) else {
        return Ok(error_response(
            StatusCode::BAD_REQUEST,
            "The options cannot be read: they have to be plain data of at most 32 KB.",
        ));
    };
    let by_link = resolve_short_link(&web, &mut begin).await?;
    let app = match by_link {
        Ok(Some(app)) => web.api.store.find_app(app).await?,
        Ok(None) => match load_app_by_key(&web, &begin.options).await? {
            Ok(app) => Some(app),
            Err(problem) => return Ok(error_response(StatusCode::UNAUTHORIZED, problem)),
        },
        Err(problem) => return Ok(error_response(StatusCode::NOT_FOUND, problem)),
    };
    let Some(app) = app else {
        return Ok(error_response(
            StatusCode::UNAUTHORIZED,
            "The app of that key is gone.",
        ));
    };
    let alone = begin.is_standalone && matches!(by_link, Ok(Some(_)));
    if !alone && !options::may_embed(&app, &begin.origin) {
        let message = format!(
            "Pages of {} may not open the widget of this app. Add that origin on the dashboard, under Keys.",
            if begin.origin.is_empty() {
                "an unknown origin"
            } else {
                &begin.origin
            }
        );
        return Ok(error_response(StatusCode::FORBIDDEN, &message));
    }
    let asked = match options::parse_options(&begin.options) {
        Ok(asked) => asked,
        Err(problem) => return Ok(error_response(StatusCode::BAD_REQUEST, &problem)),
    };
    let warnings = options::collect_warnings(&begin.options, app.environment);
    let mut link = LinkProgress::new(app.id, begin.origin, asked);
    if let Err(problem) = steps::validate_options(&web, &app, &mut link).await? {
        return Ok(error_response(StatusCode::BAD_REQUEST, &problem));
    }
    let first = steps::render_first_step(&web, &link).await?;
    let token = session::create_session(&web, &link).await?;
    Ok(axum::Json(json!({
        "session": token,
        "app": link.options.app_name.as_deref().unwrap_or(&app.name),
        "html": first.into_string(),
        "color": options::parse_color(&begin.options),
        "warnings": warnings,
    }))
    .into_response())
}

/// True where a script of our own pages calls.
pub(crate) fn is_same_origin(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_none_or(|site| site == "same-origin")
}
