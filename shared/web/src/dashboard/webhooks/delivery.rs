//! The page of one delivery: its attempts, the request, and the response to it.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_app::endpoint_lookup::EndpointSelector;
use okra_core::model::ids::FeedSource;
use okra_store::Delivery;

use super::{
    super::{
        hrefs::{change_href, log_href},
        page::render_csrf_field,
        session::{AppSession, SubmittedForm},
    },
    loaded_delivery::{DeliveryDetails, load_delivery_details},
    log::{render_breadcrumb, requested_url},
    payload_body::truncate_body,
    webhooks_page::respond_webhooks_page,
};
use crate::{
    components::{
        badges::render_delivery_state,
        format::{format_count, render_id, render_relative_time},
        labels::attempt_outcome_label,
        parts::{render_empty_state, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

pub(crate) async fn render_delivery_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    Path(event): Path<String>,
) -> Result<Response, PageError> {
    let (url, now) = (requested_url(&session)?, web.now());
    let details = load_delivery_details(&web, &session, url, &event).await?;
    let it = &details.delivery;
    let body = html! {
        div.head {
            (render_breadcrumb(&web, &session, url).await?)
            div.title {
                h1 { (it.event_name) }
                (render_delivery_state(it.state))
                @if let FeedSource::Record(_) = it.key.source {
                    form.act method="post" action={ "/dashboard/deliveries/" (event) "/resend" } {
                        (render_csrf_field(&session))
                        input type="hidden" name="url" value=(url);
                        button.main { "Resend" }
                    }
                }
            }
        }
        div.columns {
            section.card aria-labelledby="event" { (render_event(&details, now)) }
            section.card aria-labelledby="response" { (render_response(it)) }
        }
        section aria-labelledby="attempts" {
            h2 #attempts { "Attempts" }
            (render_attempts(it, now))
        }
        section aria-labelledby="request" {
            h2 #request { "Request" @if details.payload.is_some() { span.note { "signed anew for each attempt" } } }
            (render_request(url, &details, now))
        }
    };
    let live_url = log_href("/live", &[("url", url), ("event", &event)]);
    Ok(respond_webhooks_page(
        &session,
        &it.event_name,
        Some(live_url),
        body,
    ))
}

/// The event that is delivered.
fn render_event(details: &DeliveryDetails, now: Timestamp) -> Markup {
    let it = &details.delivery;
    html! {
        h2 #event { "Event" }
        dl {
            dt { "Id" } dd { (render_id(it.event_id())) }
            @match it.key.source {
                FeedSource::Record(record) => {
                    dt { "Record" } dd { a href={ "/dashboard/records/" (record) } { (render_id(record)) } }
                    dt { "Change" } dd { a href=(change_href(record, it.key.seq)) { "#" (it.key.seq) } }
                },
                FeedSource::App(_) => { dt { "About" } dd { "the app's own endpoints" } },
            }
            dt { "Committed" } dd { (render_relative_time(now, it.key.committed_at)) }
            dt { "Attempts" } dd { (it.attempt_count) }
            @if let Some(at) = it.next_attempt_at { dt { "Next attempt" } dd { (render_relative_time(now, at)) } }
        }
    }
}

/// The response to the last attempt, where it is stored.
fn render_response(it: &Delivery) -> Markup {
    html! {
        h2 #response { "Response" }
        @match &it.response_excerpt {
            Some(text) if !text.is_empty() => {
                p.note { "The beginning of the last response that was not a 2xx" }
                pre.limited tabindex="0" { code { (text) } }
            },
            _ => p { "Of a response that accepts the event, only the status is stored." },
        }
    }
}

fn render_attempts(it: &Delivery, now: Timestamp) -> Markup {
    html! {
        @if it.attempt_log.is_empty() {
            (render_empty_state("No attempt yet", &html! { p { "It is sent after those before it." } }))
        } @else {
            (render_table("Attempts, newest first", &html! { th { "When" } th { "Outcome" } th.number { "Status" } th.number { "Latency" } }, &html! {
                @for attempt in it.attempt_log.iter().rev() {
                    tr {
                        td { (render_relative_time(now, attempt.attempted_at)) }
                        td { (attempt_outcome_label(&attempt.outcome_class)) }
                        td.number { @match attempt.status { Some(status) => (status), None => "none" } }
                        td.number { (format_count(attempt.latency_ms)) " ms" }
                    }
                }
            }))
        }
    }
}

/// The request as the last attempt sent it; before the first, as it would be sent now.
fn render_request(url: &str, details: &DeliveryDetails, now: Timestamp) -> Markup {
    let it = &details.delivery;
    let sent_at = it.last_attempt().map_or(now, |last| last.attempted_at);
    html! {
        @match &details.body {
            Some(body) => {
                pre { code {
                    "POST " (url) "\ncontent-type: application/json\nwebhook-id: " (it.event_id())
                    "\nwebhook-timestamp: " (sent_at.as_second())
                    "\nwebhook-signature: v1,…\nokra-event-sequence: " (it.key.seq) "\nokra-attempt: " (it.attempt_count.max(1))
                } }
                pre.limited tabindex="0" { code { (truncate_body(body)) } }
            },
            None => p.note { "The body is about an endpoint of the app, and is rendered when it is sent." },
        }
    }
}

/// Sends an event once more.
pub(crate) async fn resend_event(
    Path(event): Path<String>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let url = posted.fields.get("url");
    let endpoint = EndpointSelector::Url(url.to_owned());
    posted.session.scope.resend_event(&event, &endpoint).await?;
    Ok(Redirect::to(&log_href(&format!("/{event}"), &[("url", url)])).into_response())
}
