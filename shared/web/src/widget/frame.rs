//! The documents of the widget: the frame, the page of a short link, and the page after a bank's login.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Redirect, Response},
};
use maud::{DOCTYPE, Markup, html};
use okra_store::KeyHash;

use crate::{
    assets::asset_href, components::document::html_response, form::FormFields,
    page_error::PageError, web_state::WebState,
};

/// The root of the host, at which Okra's packages open the frame: their `baseUrl` is an origin.
pub(crate) async fn serve_root(state: State<Arc<WebState>>, uri: Uri) -> Response {
    let query = FormFields::parse(uri.query().unwrap_or_default().as_bytes());
    if query.get("isIframe").is_empty() {
        return Redirect::to("/dashboard").into_response();
    }
    serve_frame(state, uri).await
}

/// The frame, which is the same for every app: the options arrive by message. Where the page names its public key, the
/// browser itself shows the frame on the app's origins only.
pub(crate) async fn serve_frame(State(web): State<Arc<WebState>>, uri: Uri) -> Response {
    let query = FormFields::parse(uri.query().unwrap_or_default().as_bytes());
    let ancestors = allowed_ancestors(&web, query.get("key")).await;
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
    );
    let mut response = html_response(StatusCode::OK, render_dialog(None));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    // The frame is for pages of other origins.
    response.headers_mut().insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("cross-origin"),
    );
    response
}

/// The page of a short link: the widget alone, on no page of an app.
pub(crate) async fn serve_link_page(
    State(web): State<Arc<WebState>>,
    Path(name): Path<String>,
) -> Result<Response, PageError> {
    let Some(link) = web.services.store.find_short_link(&name).await? else {
        let sentence =
            "It was mistyped, or it was withdrawn. Ask whoever sent it to you for a new one.";
        let page = render_message("This link does not exist", sentence, false);
        return Ok(html_response(StatusCode::NOT_FOUND, page));
    };
    Ok(html_response(
        StatusCode::OK,
        render_dialog(Some(&link.name)),
    ))
}

/// The head of each document of the widget.
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

/// A document with one message for the customer; in a window that may close itself.
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

/// The window of a login, until its script has where to go on to.
pub(crate) fn render_login_window() -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (render_head("Going to your bank", true))
            body.returned data-login {
                div.dialog { main {
                    h1 { "Going to your bank" }
                    p role="status" { "One moment…" }
                } }
            }
        }
    }
}

/// The widget's document, which its script fills; for a short link where one is named.
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

/// Which origins may embed the frame, as far as the key says. Okra's own packages name no key: then beginning the session
/// fails instead, and the frame shows only that.
async fn allowed_ancestors(web: &WebState, key: &str) -> String {
    let app = async {
        let app = web
            .services
            .store
            .find_app_by_public_key(KeyHash::hash_secret(key))
            .await
            .ok()??;
        web.services.store.find_app(app).await.ok()?
    };
    match app.await {
        Some(app) if !app.widget_origins.is_empty() => app.widget_origins.join(" "),
        _ => "*".to_owned(),
    }
}
