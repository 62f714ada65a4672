//! The delivery log of one URL, newest event first.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_webhooks::endpoint_id;
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{api_call::call_api, hrefs::log_href, session::AppSession},
    webhooks_page::{live_events_href, respond_webhooks_page},
};
use crate::{
    components::{
        badges::render_state_badge,
        format::{format_count, render_relative_time},
        labels::{DELIVERY_STATES, describe_outcome},
        parts::{render_empty_state, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

/// Deliveries on a page of the log.
const DELIVERIES_PER_PAGE: usize = 30;

/// Deliveries that stand on the page of an endpoint.
pub(crate) const NEWEST_DELIVERIES: usize = 8;

/// A delivery as `webhooks/deliveries` has it.
#[derive(Deserialize)]
pub(crate) struct DeliveryRow {
    pub(crate) event_id: String,
    pub(crate) event: String,
    pub(crate) sequence: u64,
    pub(crate) committed_at: Timestamp,
    pub(crate) state: String,
    pub(crate) attempts: u32,
    pub(crate) next_at: Option<Timestamp>,
    pub(crate) log: Vec<AttemptRow>,
    pub(crate) response: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct AttemptRow {
    pub(crate) at: Timestamp,
    pub(crate) class: String,
    pub(crate) status: Option<u16>,
    pub(crate) latency_ms: u32,
}

/// A part of the log, newest event first.
#[derive(Deserialize)]
pub(crate) struct DeliveryLog {
    pub(crate) deliveries: Vec<DeliveryRow>,
    pub(crate) next_cursor: Option<String>,
}

/// Reads a part of the log of a URL.
pub(crate) async fn load_delivery_log(
    web: &WebState,
    session: &AppSession,
    url: &str,
    (state, cursor): (&str, &str),
    limit: usize,
) -> Result<DeliveryLog, PageError> {
    let mut body = json!({ "url": url, "limit": limit });
    for (name, value) in [("state", state), ("cursor", cursor)] {
        if !value.is_empty() {
            body[name] = json!(value);
        }
    }
    let answer = call_api(web, session, "webhooks/deliveries", body).await?;
    Ok(serde_json::from_value(answer)?)
}

/// The rows of a log.
pub(crate) fn render_log_rows(url: &str, log: &DeliveryLog, now: Timestamp) -> Markup {
    render_table(
        "Deliveries",
        &html! {
            th { "Event" } th { "State" } th.wide { "Last attempt" }
            th.wide.number { "Attempts" } th.wide.number { "Took" } th.wide { "Changed" }
        },
        &html! {
            @for it in &log.deliveries {
                @let last = it.log.last();
                tr {
                    td { a.strong href=(log_href(&format!("/{}", it.event_id), &[("url", url)])) { (it.event) } " " span.seq { "#" (it.sequence) } }
                    td { (render_state_badge(&it.state)) @if let Some(at) = it.next_at { span.note { (render_relative_time(now, at)) } } }
                    td.wide { @match last {
                        Some(last) => { @if let Some(status) = last.status { (status) " " } (describe_outcome(&last.class)) },
                        None => "none yet",
                    } }
                    td.wide.number { (it.attempts) }
                    td.wide.number { @if let Some(last) = last { (format_count(last.latency_ms)) " ms" } }
                    td.wide { (render_relative_time(now, it.committed_at)) }
                }
            }
        },
    )
}

/// Where the pages of a URL hang: at the endpoint of that URL, or at data sync, which has URLs of its
/// own.
pub(crate) async fn render_breadcrumb(
    web: &WebState,
    session: &AppSession,
    url: &str,
) -> Result<Markup, PageError> {
    let id = endpoint_id(session.app.id, url);
    let known = web
        .api
        .store
        .find_endpoint(session.app.id, id)
        .await?
        .is_some();
    Ok(html! {
        p.crumb {
            a href="/dashboard/webhooks" { "Webhooks" } " / "
            @if known { a href={ "/dashboard/webhooks/" (id) } { (url) } } @else { (url) span.note { "a URL of data sync" } }
        }
    })
}

pub(crate) fn requested_url(session: &AppSession) -> Result<&str, PageError> {
    match session.query.get("url") {
        "" => Err(PageError::NotFound("endpoint")),
        url => Ok(url),
    }
}

/// The log of one URL.
pub(crate) async fn render_log_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
) -> Result<Response, PageError> {
    let url = requested_url(&session)?;
    let (state, cursor) = (session.query.get("state"), session.query.get("cursor"));
    let log = load_delivery_log(&web, &session, url, (state, cursor), DELIVERIES_PER_PAGE).await?;
    let tab = |name: &str, text: &str| {
        html! { a href=(log_href("", &[("url", url), ("state", name)])) aria-current=[(name == state).then_some("true")] { (text) } }
    };
    let body = html! {
        div.head { (render_breadcrumb(&web, &session, url).await?) h1 { "Deliveries" } }
        nav.tabs aria-label="State" {
            (tab("", "All"))
            @for (name, text) in DELIVERY_STATES { (tab(name, text)) }
        }
        @if log.deliveries.is_empty() {
            @if state.is_empty() {
                (render_empty_state("Nothing was sent yet", &html! {
                    p { "The first change of a record is told here. " a href="/dashboard/records" { "Choose a record" }
                        " and refresh it, or send the endpoint a test ping." }
                }))
            } @else {
                (render_empty_state("None in that state", &html! { p { a href=(log_href("", &[("url", url)])) { "Show all" } "." } }))
            }
        } @else {
            (render_log_rows(url, &log, web.now()))
        }
        @if let Some(next) = &log.next_cursor {
            p.more { a.button href=(log_href("", &[("url", url), ("state", state), ("cursor", next)])) { "Older" } }
        }
    };
    let live = cursor.is_empty().then(|| live_events_href(url));
    Ok(respond_webhooks_page(&session, "Deliveries", live, body))
}
