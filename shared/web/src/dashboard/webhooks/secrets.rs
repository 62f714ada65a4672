//! Signing secrets: each is shown once, on the page that answers the form.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use maud::html;
use serde_json::{Value, json};

use super::{
    super::{
        api_call::call_api,
        session::{AppSession, SubmittedForm},
    },
    webhooks_page::respond_webhooks_page,
};
use crate::{page_error::PageError, web_state::WebState};

/// Shows the secret of the data sync URLs, or creates a new one.
pub(crate) async fn show_sync_secret(
    State(web): State<Arc<WebState>>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let rotate = posted.fields.get("rotate") == "true";
    let request = json!({ "rotate": rotate });
    let response = call_api(&web, &posted.session, "webhooks/secret", request).await?;
    let secret = response["secret"].as_str().unwrap_or_default();
    let body = html! {
        div.head { h1 { "Secret of the data sync URLs" } }
        section.card.notice aria-labelledby="secret" {
            h2 #secret { "Signing secret" }
            p { "Verify webhooks with any Standard Webhooks library." }
            p.secret { code #secret-text { (secret) } button type="button" data-copy="secret-text" { "Copy" } }
        }
        p { a.button href="/dashboard/webhooks" { "To the webhooks" } }
    };
    Ok(respond_webhooks_page(
        &posted.session,
        "Signing secret",
        None,
        body,
    ))
}

/// The page with a new secret: the response to the form itself, to which no link leads back.
pub(crate) fn render_new_secret(session: &AppSession, endpoint_data: &Value) -> Response {
    let (url, id) = (
        endpoint_data["url"].as_str().unwrap_or_default(),
        endpoint_data["id"].as_str().unwrap_or_default(),
    );
    let body = html! {
        div.head { h1 { "Endpoint set" } p.sub { (url) } }
        @match endpoint_data["secret"].as_str() {
            Some(secret) => {
                section.card.notice aria-labelledby="secret" {
                    h2 #secret { "Signing secret" }
                    p { "Copy it now: it is shown only once. Verify webhooks with any Standard Webhooks library." }
                    p.secret { code #secret-text { (secret) } button type="button" data-copy="secret-text" { "Copy" } }
                }
            }
            None => p { "The endpoint existed already. Its secret stays; the settings that you entered were saved." },
        }
        p { a.button href={ "/dashboard/webhooks/" (id) } { "To the endpoint" } }
    };
    respond_webhooks_page(session, "Endpoint set", None, body)
}
