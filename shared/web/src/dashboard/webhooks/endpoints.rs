//! The list of the app's endpoints, and the form that adds one.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use maud::html;
use okra_app::endpoints::EndpointDetails;
use okra_core::model::snapshot::Product;
use okra_store::Endpoint;

use super::{
    super::{
        hrefs::log_href,
        page::render_csrf_field,
        session::{AppSession, SubmittedForm},
    },
    secrets::render_new_secret,
    settings_form::{read_endpoint_settings, render_endpoint_settings},
    webhooks_page::respond_webhooks_page,
};
use crate::{
    components::{
        badges::render_health_badge,
        format::render_relative_time,
        labels::payload_mode_label,
        parts::{render_empty_state, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

pub(crate) async fn render_webhooks_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
) -> Result<Response, PageError> {
    let endpoints = session.scope.list_endpoints().await?;
    let now = web.now();
    let body = html! {
        div.head {
            h1 { "Webhooks" }
            p.sub { "Every change of every record is delivered to these endpoints, signed, at least once." }
        }
        @if endpoints.is_empty() {
            (render_empty_state("No endpoints yet", &html! {
                p { "Add the URL of your server that receives webhooks. To try it without a server, " code { "cargo run" }
                    " has a receiver; to see webhooks on your own machine, run one there." }
            }))
        } @else {
            (render_table("Endpoints", &html! {
                th { "URL" } th { "State" } th { "Log" } th.wide { "Events" } th.wide { "Payload" } th.wide { "Created" }
            }, &html! {
                @for EndpointDetails { endpoint: it, health } in &endpoints {
                    tr {
                        td.break { a.strong href={ "/dashboard/webhooks/" (it.id) } { (it.url) } }
                        td { (render_health_badge(&health.health)) @if let Some(at) = health.health.next_probe_at() { span.note { "probe " (render_relative_time(now, at)) } } }
                        td { a href=(log_href("", &[("url", &it.url)])) { "Deliveries" } }
                        td.wide { (describe_event_filter(it)) }
                        td.wide { (payload_mode_label(it.payload_mode)) }
                        td.wide { (render_relative_time(now, it.created_at)) }
                    }
                }
            }))
        }
        section.card aria-labelledby="add" {
            h2 #add { "Add an endpoint" }
            form.stack method="post" action="/dashboard/webhooks" {
                (render_csrf_field(&session))
                label { span { "URL" } input type="url" name="url" required placeholder="https://app.example/webhooks/okra"; }
                (render_endpoint_settings(None))
                button.main { "Add endpoint" }
            }
        }
        section.card aria-labelledby="sync-secret" {
            h2 #sync-secret { "Secret of the data sync URLs" }
            p { "A " code { "webhook_url" } " that is given with data sync or in the widget's " code { "refresh" }
                " needs no endpoint here. Webhooks to it are signed with one secret of the app." }
            form.buttons method="post" action="/dashboard/webhooks/secret" {
                (render_csrf_field(&session))
                button name="rotate" value="false" { "Show the secret" }
                button name="rotate" value="true" { "Rotate the secret" }
            }
            p.note { "After a rotation the old secret signs as well for 24 hours." }
        }
    };
    Ok(respond_webhooks_page(
        &session,
        "Webhooks",
        Some("/dashboard/live".to_owned()),
        body,
    ))
}

/// Which events an endpoint receives.
fn describe_event_filter(endpoint: &Endpoint) -> &'static str {
    if !endpoint.events.is_empty() {
        return "Some events";
    }
    match endpoint.products.as_slice() {
        [Product::Balance] => "Balance",
        [Product::Transactions] => "Transactions",
        _ => "All",
    }
}

/// Creates an endpoint, and shows its secret once.
pub(crate) async fn add_endpoint(posted: SubmittedForm) -> Result<Response, PageError> {
    let SubmittedForm { session, fields } = posted;
    let url = fields.get("url");
    let request = read_endpoint_settings(&fields, url)?;
    let update = session.scope.set_endpoint(request).await?;
    Ok(render_new_secret(&session, &update))
}
