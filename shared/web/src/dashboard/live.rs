//! What is new on a page, as server-sent events.
//!
//! Behind API Gateway a response cannot stream. So each request is answered at once with the version of the page's
//! content, or with nothing where the browser has that version already (`Last-Event-ID`), and ends; the browser's
//! `EventSource` asks again after `retry`. The local process does the same: there is one code path. A page in a hidden
//! tab does not ask.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use super::session::AppSession;
use crate::{page_error::PageError, web_state::WebState};

/// Milliseconds until the browser asks again.
const RECONNECT_AFTER_MS: u32 = 2500;

/// The event of a page whose content is now `version`.
pub(crate) fn version_event(headers: &HeaderMap, version: &str) -> Response {
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let text = if seen == Some(version) {
        format!("retry: {RECONNECT_AFTER_MS}\n\n")
    } else {
        format!("retry: {RECONNECT_AFTER_MS}\nid: {version}\nevent: version\ndata: {version}\n\n")
    };
    ([(header::CONTENT_TYPE, "text/event-stream")], text).into_response()
}

/// What the overview and the lists show: what was counted for the app in this minute and the last.
pub(crate) async fn overview_events(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let minute = u64::try_from(web.now().as_second().div_euclid(60)).unwrap_or(0);
    let store = &web.api.store;
    let counts = store
        .list_counts(session.app.id, minute - 1, minute)
        .await?;
    let digest = Sha256::digest(format!("{counts:?}").as_bytes());
    let version = data_encoding::HEXLOWER.encode(&digest[..8]);
    Ok(version_event(&headers, &version))
}
