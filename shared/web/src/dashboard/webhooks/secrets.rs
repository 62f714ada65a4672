//! Signing secrets: each is shown once, on the page that answers the form.

use axum::response::Response;
use maud::html;
use okra_app::endpoints::EndpointUpdate;
use okra_store::Endpoint;
use okra_webhooks::SigningSecrets;

use super::{
    super::session::{AppSession, SubmittedForm},
    webhooks_page::respond_webhooks_page,
};
use crate::page_error::PageError;

/// Shows the secret of the data sync URLs, or creates a new one.
pub(crate) async fn show_sync_secret(posted: SubmittedForm) -> Result<Response, PageError> {
    let scope = &posted.session.scope;
    let secrets = match posted.fields.get("rotate") {
        "true" => scope.rotate_sync_secret(None).await?,
        _ => scope.load_sync_secrets().await?,
    };
    let secret = secrets.current_secret();
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
pub(crate) fn render_new_secret(session: &AppSession, update: &EndpointUpdate) -> Response {
    let Endpoint { url, id, .. } = &update.details.endpoint;
    let body = html! {
        div.head { h1 { "Endpoint set" } p.sub { (url) } }
        @match update.new_secrets.as_ref().map(SigningSecrets::current_secret) {
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
