//! The delivery log of one URL, newest event first.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_store::Delivery;
use okra_webhooks::endpoint_id;
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{api_call::call_api, hrefs::log_href, session::AppSession},
    webhooks_page::{live_events_href, respond_webhooks_page},
};
use crate::{
    components::{
        badges::render_delivery_state,
        format::{format_count, render_relative_time},
        labels::{DELIVERY_STATES, attempt_outcome_label},
        parts::{render_empty_state, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

/// Deliveries on a page of the log.
const DELIVERIES_PER_PAGE: usize = 30;

/// Deliveries that the page of an endpoint shows.
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

impl DeliveryRow {
    /// The row of a delivery that was read from the store.
    pub(crate) fn from_stored(delivery: Delivery) -> Self {
        let attempts = delivery.attempt_log.iter().map(|it| AttemptRow {
            at: it.attempted_at,
            class: it.outcome_class.clone(),
            status: it.status,
            latency_ms: it.latency_ms,
        });
        Self {
            event_id: delivery.event_id().to_string(),
            sequence: delivery.key.seq.0,
            committed_at: delivery.key.committed_at,
            state: delivery.state.as_str().to_owned(),
            attempts: delivery.attempt_count,
            next_at: delivery.next_attempt_at,
            log: attempts.collect(),
            event: delivery.event_name,
            response: delivery.response_excerpt,
        }
    }
}

/// A part of the log, newest event first.
#[derive(Deserialize)]
pub(crate) struct DeliveryLog {
    pub(crate) deliveries: Vec<DeliveryRow>,
    pub(crate) next_cursor: Option<String>,
}

/// Which part of which log is read.
pub(crate) struct LogSelection<'a> {
    pub(crate) url: &'a str,
    /// Only deliveries in this state; all where it is empty.
    pub(crate) state: &'a str,
    /// Where the part begins; at the newest event where it is empty.
    pub(crate) cursor: &'a str,
    pub(crate) limit: usize,
}

/// Reads a part of a log.
pub(crate) async fn load_delivery_log(
    web: &WebState,
    session: &AppSession,
    selection: &LogSelection<'_>,
) -> Result<DeliveryLog, PageError> {
    let mut request = json!({ "url": selection.url, "limit": selection.limit });
    for (name, value) in [("state", selection.state), ("cursor", selection.cursor)] {
        if !value.is_empty() {
            request[name] = json!(value);
        }
    }
    let response = call_api(web, session, "webhooks/deliveries", request).await?;
    Ok(serde_json::from_value(response)?)
}

/// The rows of a log.
pub(crate) fn render_log_rows(url: &str, log: &DeliveryLog, now: Timestamp) -> Markup {
    render_table(
        "Deliveries",
        &html! {
            th { "Event" } th { "State" } th.wide { "Last attempt" }
            th.wide.number { "Attempts" } th.wide.number { "Latency" } th.wide { "Committed" }
        },
        &html! {
            @for it in &log.deliveries {
                @let last = it.log.last();
                tr {
                    td { a.strong href=(log_href(&format!("/{}", it.event_id), &[("url", url)])) { (it.event) } " " span.seq { "#" (it.sequence) } }
                    td { (render_delivery_state(&it.state)) @if let Some(at) = it.next_at { span.note { (render_relative_time(now, at)) } } }
                    td.wide { @match last {
                        Some(last) => { @if let Some(status) = last.status { (status) " " } (attempt_outcome_label(&last.class)) },
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

/// The breadcrumb of the pages of a URL: the endpoint of that URL, or data sync, which has URLs of its own.
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
            @if known { a href={ "/dashboard/webhooks/" (id) } { (url) } } @else { (url) span.note { "a data sync URL" } }
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
    let selection = LogSelection {
        url,
        state: session.query.get("state"),
        cursor: session.query.get("cursor"),
        limit: DELIVERIES_PER_PAGE,
    };
    let state = selection.state;
    let log = load_delivery_log(&web, &session, &selection).await?;
    let body = html! {
        div.head { (render_breadcrumb(&web, &session, url).await?) h1 { "Deliveries" } }
        nav.tabs aria-label="State" {
            (render_tab(&selection, "", "All"))
            @for (name, text) in DELIVERY_STATES { (render_tab(&selection, name, text)) }
        }
        @if log.deliveries.is_empty() {
            @if state.is_empty() {
                (render_empty_state("Nothing was sent yet", &html! {
                    p { "The first change of a record is delivered here. " a href="/dashboard/records" { "Choose a record" }
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
    // An older part of the log does not change.
    let live_url = selection.cursor.is_empty().then(|| live_events_href(url));
    Ok(respond_webhooks_page(
        &session,
        "Deliveries",
        live_url,
        body,
    ))
}

/// The link to the deliveries in a state.
fn render_tab(selection: &LogSelection<'_>, state: &str, text: &str) -> Markup {
    let href = log_href("", &[("url", selection.url), ("state", state)]);
    let is_current = state == selection.state;
    html! { a href=(href) aria-current=[is_current.then_some("true")] { (text) } }
}
