//! What is new of a URL, for the pages that show its health or its deliveries.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use okra_store::SortOrder;
use okra_webhooks::{endpoint_id, retained_since};
use sha2::{Digest, Sha256};

use super::{
    super::{live, session::AppSession},
    loaded_delivery::load_delivery,
    log::NEWEST_DELIVERIES,
};
use crate::{page_error::PageError, web_state::WebState};

/// What is new of a URL: its health, its newest deliveries, the app's replays, and the delivery that a
/// page is about.
pub(crate) async fn endpoint_events(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    headers: axum::http::HeaderMap,
) -> Result<Response, PageError> {
    let (store, app) = (&web.api.store, session.app.id);
    let endpoint = endpoint_id(app, session.query.get("url"));
    let times = (retained_since(web.now()), web.now());
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
    let one = match session.query.get("event") {
        "" => None,
        event => Some(load_delivery(&web, &session, endpoint, event).await?.0),
    };
    let state = format!("{health:?} {newest:?} {replays:?} {one:?}");
    let digest = Sha256::digest(state.as_bytes());
    let version = data_encoding::HEXLOWER.encode(&digest[..8]);
    Ok(live::version_event(&headers, &version))
}
