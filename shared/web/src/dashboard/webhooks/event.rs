//! The page of one event: its delivery at each endpoint.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{Path, State},
    response::Response,
};
use maud::html;
use okra_core::model::ids::{EndpointId, EventId, FeedSource, RecordId};
use okra_webhooks::endpoint_id;

use super::{
    super::{
        hrefs::{change_href, log_href},
        session::AppSession,
    },
    webhooks_page::respond_webhooks_page,
};
use crate::{
    components::{
        badges::render_delivery_state,
        format::{render_id, render_relative_time},
        labels::attempt_outcome_label,
        parts::{render_empty_state, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

pub(crate) async fn render_event_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    Path(event): Path<String>,
) -> Result<Response, PageError> {
    let deliveries = session.scope.list_event_deliveries(&event).await?;
    let Some((FeedSource::Record(record), seq)) = EventId::parse(&event) else {
        return Err(PageError::NotFound("event"));
    };
    let urls = load_endpoint_urls(&web, &session, record).await?;
    let now = web.now();
    let body = html! {
        div.head {
            p.crumb { a href=(change_href(record, seq)) { "Record" } " / #" (seq) }
            h1 { "Deliveries of the event" }
        }
        @if deliveries.is_empty() {
            (render_empty_state("No deliveries", &html! {
                p { "No endpoint subscribed to this event when it was committed. " a href="/dashboard/webhooks" { "Add an endpoint" }
                    ", or replay the event to one." }
            }))
        } @else {
            (render_table("Deliveries", &html! { th { "Endpoint" } th { "State" } th.number { "Attempts" } th { "Last attempt" } }, &html! {
                @for it in &deliveries {
                    @let url = urls.get(&it.key.endpoint).map(String::as_str);
                    tr {
                        td.break { @match url {
                            Some(url) => a.strong href=(log_href(&format!("/{event}"), &[("url", url)])) { (url) },
                            None => (render_id(it.key.endpoint)),
                        } }
                        td { (render_delivery_state(it.state)) }
                        td.number { (it.attempt_count) }
                        td { @if let Some(last) = it.last_attempt() {
                            (attempt_outcome_label(&last.outcome_class)) span.note { (render_relative_time(now, last.attempted_at)) }
                        } }
                    }
                }
            }))
        }
    };
    Ok(respond_webhooks_page(
        &session,
        "Deliveries of the event",
        None,
        body,
    ))
}

/// The URLs that a record's events are sent to, by the ids of their endpoints.
async fn load_endpoint_urls(
    web: &WebState,
    session: &AppSession,
    record: RecordId,
) -> Result<HashMap<EndpointId, String>, PageError> {
    let (store, app) = (&web.services.store, session.app().id);
    let endpoints = store.list_endpoints(app).await?;
    let mut urls: HashMap<_, _> = endpoints.into_iter().map(|it| (it.id, it.url)).collect();
    let subscriptions = store.list_subscriptions(record).await?;
    let sync_urls = subscriptions.into_iter().filter_map(|it| it.webhook_url);
    urls.extend(sync_urls.map(|url| (endpoint_id(app, &url), url)));
    Ok(urls)
}
