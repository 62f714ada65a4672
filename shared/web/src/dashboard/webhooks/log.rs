//! The delivery log of one URL, newest event first.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_app::{deliveries::ListDeliveriesRequest, endpoint_lookup::EndpointSelector};
use okra_store::{Delivery, DeliveryState};
use okra_webhooks::endpoint_id;

use super::{
    super::{hrefs::log_href, session::AppSession},
    webhooks_page::{live_events_href, respond_webhooks_page},
};
use crate::{
    components::{
        badges::render_delivery_state,
        format::{format_count, render_relative_time},
        labels::{DELIVERY_STATES, attempt_outcome_label, delivery_state_label},
        parts::{render_empty_state, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

/// Deliveries on a page of the log.
const DELIVERIES_PER_PAGE: usize = 30;

/// Deliveries that the page of an endpoint shows.
pub(crate) const NEWEST_DELIVERIES: usize = 8;

/// The rows of a log.
pub(crate) fn render_log_rows(url: &str, deliveries: &[Delivery], now: Timestamp) -> Markup {
    render_table(
        "Deliveries",
        &html! {
            th { "Event" } th { "State" } th.wide { "Last attempt" }
            th.wide.number { "Attempts" } th.wide.number { "Latency" } th.wide { "Committed" }
        },
        &html! {
            @for it in deliveries {
                @let last = it.last_attempt();
                @let href = log_href(&format!("/{}", it.event_id()), &[("url", url)]);
                tr {
                    td { a.strong href=(href) { (it.event_name) } " " span.seq { "#" (it.key.seq) } }
                    td { (render_delivery_state(it.state)) @if let Some(at) = it.next_attempt_at { span.note { (render_relative_time(now, at)) } } }
                    td.wide { @match last {
                        Some(last) => { @if let Some(status) = last.status { (status) " " } (attempt_outcome_label(&last.outcome_class)) },
                        None => "none yet",
                    } }
                    td.wide.number { (it.attempt_count) }
                    td.wide.number { @if let Some(last) = last { (format_count(last.latency_ms)) " ms" } }
                    td.wide { (render_relative_time(now, it.key.committed_at)) }
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
    let id = endpoint_id(session.app().id, url);
    let known = web
        .services
        .store
        .find_endpoint(session.app().id, id)
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
    let (state, cursor) = (session.query.get("state"), session.query.get("cursor"));
    let state = DELIVERY_STATES.into_iter().find(|it| it.as_str() == state);
    let request = ListDeliveriesRequest {
        endpoint: EndpointSelector::Url(url.to_owned()),
        since: None,
        until: None,
        state,
        // A cursor that is none shows the newest deliveries.
        after: cursor.parse().ok(),
        limit: DELIVERIES_PER_PAGE,
    };
    let log = session.scope.list_deliveries(&request).await?;
    let body = html! {
        div.head { (render_breadcrumb(&web, &session, url).await?) h1 { "Deliveries" } }
        nav.tabs aria-label="State" {
            (render_tab(url, None, state))
            @for it in DELIVERY_STATES { (render_tab(url, Some(it), state)) }
        }
        @if !log.deliveries.is_empty() {
            (render_log_rows(url, &log.deliveries, web.now()))
        } @else if state.is_some() {
            (render_empty_state("None in that state", &html! { p { a href=(log_href("", &[("url", url)])) { "Show all" } "." } }))
        } @else {
            (render_empty_state("Nothing was sent yet", &html! {
                p { "The first change of a record is delivered here. " a href="/dashboard/records" { "Choose a record" }
                    " and refresh it, or send the endpoint a test ping." }
            }))
        }
        @if let Some(next) = &log.next_cursor {
            @let state = state.map_or("", DeliveryState::as_str);
            p.more { a.button href=(log_href("", &[("url", url), ("state", state), ("cursor", &next.to_string())])) { "Older" } }
        }
    };
    // An older part of the log does not change.
    let live_url = cursor.is_empty().then(|| live_events_href(url));
    Ok(respond_webhooks_page(
        &session,
        "Deliveries",
        live_url,
        body,
    ))
}

/// The link to the deliveries in a state, or to all, where those in `current` are shown.
fn render_tab(url: &str, state: Option<DeliveryState>, current: Option<DeliveryState>) -> Markup {
    let name = state.map_or("", DeliveryState::as_str);
    let href = log_href("", &[("url", url), ("state", name)]);
    let is_current = state == current;
    html! {
        a href=(href) aria-current=[is_current.then_some("true")] { (state.map_or("All", delivery_state_label)) }
    }
}
