//! What is new of a URL, for the pages that show its health or its deliveries.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use okra_store::SortOrder;
use okra_webhooks::{endpoint_id, retained_since};

use super::{
    super::{live, session::AppSession},
    loaded_delivery::load_delivery,
    log::NEWEST_DELIVERIES,
};
use crate::{page_error::PageError, web_state::WebState};

/// The version of a URL's pages: its health, its newest deliveries, the app's replays, and the delivery that the page
/// shows.
pub(crate) async fn endpoint_events(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    headers: axum::http::HeaderMap,
) -> Result<Response, PageError> {
    let (store, app) = (&web.services.store, session.app().id);
    let endpoint = endpoint_id(app, session.query.get("url"));
    let times = retained_since(web.now())..=web.now();
    let read = futures::future::try_join3(
        store.load_endpoint_health(endpoint),
        store.list_deliveries(
            endpoint,
            times,
            None,
            SortOrder::Descending,
            NEWEST_DELIVERIES,
        ),
        store.list_replays(app),
    );
    let (health, newest, replays) = Box::pin(read).await?;
    let shown = match session.query.get("event") {
        "" => None,
        event => Some(load_delivery(&web, &session, endpoint, event).await?.0),
    };
    let content = format!("{health:?} {newest:?} {replays:?} {shown:?}");
    Ok(live::version_event(&headers, &live::version_of(&content)))
}
