//! The app's keys: the secret keys of its server, the public key of its pages, and the origins that may open its widget.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::model::snapshot::Environment;
use okra_store::{ApiKey, App, KeyHash, MAX_KEYS_PER_APP, MAX_WIDGET_ORIGINS};
use okra_vault::generate_nonce;

use super::{
    page::{DashboardPage, Section, render_csrf_field},
    session::{AppSession, SubmittedForm},
};
use crate::{
    components::{
        format::{render_id, render_relative_time},
        parts::render_table,
    },
    page_error::PageError,
    web_state::WebState,
    widget,
};

/// The secret keys, and the forms that create and revoke them.
fn render_secret_keys(session: &AppSession, keys: &[ApiKey], now: Timestamp) -> Markup {
    html! {
        section aria-labelledby="secret-keys" {
            h2 #secret-keys { "Secret keys" span.note { "at most " (MAX_KEYS_PER_APP) } }
            (render_table("Secret keys", &html! { th { "Key" } th { "Created" } th { "Expires" } th { span.hidden { "Change" } } }, &html! {
                @for key in keys {
                    @let is_own = key.hash == session.key_hash;
                    tr {
                        td { code { "okra_sk_…" (key.last_digits) } @if is_own { span.note { "signed in with it" } } }
                        td { @match key.created_at { Some(at) => (render_relative_time(now, at)), None => "unknown" } }
                        td { @match key.expires_at { Some(at) => (render_relative_time(now, at)), None => "never" } }
                        td {
                            form method="post" action="/dashboard/keys/revoke" {
                                (render_csrf_field(session))
                                input type="hidden" name="id" value=(key.key_id());
                                button.danger disabled[keys.len() == 1] aria-label={ "Revoke the key that ends in " (key.last_digits) } { "Revoke" }
                            }
                        }
                    }
                }
            }))
            form.row method="post" action="/dashboard/keys/rotate" {
                (render_csrf_field(session))
                label { span { "The existing keys stay valid for" }
                    select name="overlap_hours" {
                        option value="24" { "24 hours" }
                        option value="168" { "7 days" }
                        option value="720" { "30 days" }
                        option value="1" { "1 hour" }
                    }
                }
                button.main disabled[keys.len() >= MAX_KEYS_PER_APP] { "Create a new key" }
            }
            p.note { "Deploy the new key while both are valid. Revoking ends a key, and the sessions that signed in with it, at once." }
        }
    }
}

/// Creates a new key, shows it once, and sets when the existing ones expire.
pub(crate) async fn rotate_secret_key(posted: SubmittedForm) -> Result<Response, PageError> {
    let session = &posted.session;
    let overlap_hours = posted.fields.parse_number("overlap_hours")?;
    let created = session.scope.rotate_key(overlap_hours).await?;
    let body = html! {
        div.head { h1 { "New secret key" } }
        section.card.notice aria-labelledby="secret" {
            h2 #secret { "Secret key" }
            p { "Copy it now: it is shown only once, and only its hash is stored." }
            p.secret { code #secret-text { (created.secret_key) }
                button type="button" data-copy="secret-text" { "Copy" } }
        }
        p { a.button href="/dashboard/keys" { "To the keys" } }
    };
    let page = DashboardPage {
        session,
        section: Section::Keys,
        title: "New secret key",
        live_url: None,
        body,
    };
    Ok(page.into_response())
}

/// Revokes a key.
pub(crate) async fn revoke_secret_key(posted: SubmittedForm) -> Result<Response, PageError> {
    let id = posted.fields.get("id");
    posted.session.scope.revoke_key(id).await?;
    Ok(Redirect::to("/dashboard/keys#secret-keys").into_response())
}

pub(crate) async fn render_keys_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
) -> Result<Response, PageError> {
    let keys = session.scope.list_valid_keys().await?;
    let (app, now) = (session.app(), web.now());
    let url = &web.services.public_url;
    let body = html! {
        div.head { h1 { "Keys" } p.sub { "How your server and your pages call the API." } }
        div.columns {
            section.card aria-labelledby="server" { (render_server_card(app, url, now)) }
            section.card aria-labelledby="pages" { (render_pages_card(&session)) }
        }
        (render_secret_keys(&session, &keys, now))
        section.card aria-labelledby="origins" { (render_origins_form(&session)) }
        @if let Some(key) = &app.public_key {
            section aria-labelledby="snippet" {
                h2 #snippet { "The widget on a page" }
                pre { code { (format_widget_snippet(url, key, app)) } }
            }
        }
    };
    let page = DashboardPage {
        session: &session,
        section: Section::Keys,
        title: "Keys",
        live_url: None,
        body,
    };
    Ok(page.into_response())
}

/// How a server calls the API.
fn render_server_card(app: &App, url: &str, now: Timestamp) -> Markup {
    html! {
        h2 #server { "Your server" }
        p { "Sends the secret key with each call: " code { "Authorization: Bearer okra_sk_…" }
            ". Only its hash is stored, so it cannot be shown again. Never put it on a page." }
        dl {
            dt { "API" } dd { code { (url) "/v2" } }
            dt { "App" } dd { (app.name) }
            dt { "Environment" } dd { (app.environment.as_str()) }
            dt { "App id" } dd { (render_id(app.id)) }
            dt { "Created" } dd { (render_relative_time(now, app.created_at)) }
        }
    }
}

/// How a page opens the widget.
fn render_pages_card(session: &AppSession) -> Markup {
    let app = session.app();
    html! {
        h2 #pages { "Your pages" }
        p { "Open the widget with these two. Everybody can read them on your page, and they give access to nothing else." }
        dl {
            dt { "Public key" }
            dd { @match &app.public_key { Some(key) => code #public-key { (key) }, None => "none yet" } }
            dt { "Client token" } dd { code #client-token { (app.client_token()) } }
        }
        form method="post" action="/dashboard/keys/public" {
            (render_csrf_field(session))
            button { @if app.public_key.is_some() { "Replace the public key" } @else { "Create a public key" } }
            @if app.public_key.is_some() { p.note { "Pages with the old key cannot open the widget any more." } }
        }
    }
}

/// Which pages may open the widget.
fn render_origins_form(session: &AppSession) -> Markup {
    let app = session.app();
    html! {
        h2 #origins { "Pages that may open the widget" }
        form.stack method="post" action="/dashboard/keys/origins" {
            (render_csrf_field(session))
            label for="origin-list" { "Origins" span.note { "one on each line: https:// and the host" } }
            textarea id="origin-list" name="origins" rows="4" spellcheck="false" placeholder="https://app.example" aria-describedby="origins-help" {
                @for origin in &app.widget_origins { (origin) "\n" }
            }
            p.note id="origins-help" {
                @match app.environment {
                    Environment::Sandbox => "With none, pages of your own machine (localhost) may, which is enough for development.",
                    Environment::Production => "With none, no page may.",
                }
                " At most " (MAX_WIDGET_ORIGINS) "."
            }
            button.main { "Save" }
        }
    }
}

/// The HTML that opens the widget on a page of the app.
fn format_widget_snippet(url: &str, key: &str, app: &App) -> String {
    format!(
        "<script src=\"{url}/v2/bundle.js\"></script>
<script>
  Okra.buildWithOptions({{
    key: \"{key}\",
    token: \"{token}\",
    env: \"{env}\",
    name: \"{name}\",
    refresh: {{ interval: \"one_hour\", products: [\"balance\", \"transactions\"] }},
    onSuccess: (data) => console.log(data.record_id),
  }});
</script>",
        token = app.client_token(),
        env = app.environment.as_str(),
        name = app.name.replace(['"', '<'], ""),
    )
}

/// Replaces the public key by a new one.
pub(crate) async fn replace_public_key(
    State(web): State<Arc<WebState>>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let store = &web.services.store;
    let mut app = posted.session.app().clone();
    let key = generate_public_key()?;
    let old = app.public_key.replace(key.clone());
    store
        .put_public_key(KeyHash::hash_secret(&key), app.id)
        .await?;
    store.put_app(&app).await?;
    if let Some(old) = old {
        store.delete_public_key(KeyHash::hash_secret(&old)).await?;
    }
    Ok(Redirect::to("/dashboard/keys#pages").into_response())
}

/// A random UUID, as Okra's public keys were (RFC 9562, version 4).
fn generate_public_key() -> Result<String, PageError> {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&generate_nonce()?[..16]);
    bytes[6] = (bytes[6] & 0x0F) | 0x40;
    bytes[8] = (bytes[8] & 0x3F) | 0x80;
    let hex = HEXLOWER.encode(&bytes);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]);
    Ok(parts.join("-"))
}

/// Sets the origins whose pages may open the widget.
pub(crate) async fn set_widget_origins(
    State(web): State<Arc<WebState>>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let mut app = posted.session.app().clone();
    let mut origins = Vec::new();
    for line in posted.fields.get("origins").split_whitespace() {
        let Some(origin) = widget::parse_origin(line) else {
            let sentence = format!(
                "{line} is not an origin. An origin is https:// and a host, as in https://app.example; http:// is allowed for this machine only."
            );
            return Err(PageError::invalid_form(sentence));
        };
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    if origins.len() > MAX_WIDGET_ORIGINS {
        return Err(PageError::invalid_form(format!(
            "An app can have at most {MAX_WIDGET_ORIGINS} origins."
        )));
    }
    app.widget_origins = origins;
    web.services.store.put_app(&app).await?;
    Ok(Redirect::to("/dashboard/keys#origins").into_response())
}
