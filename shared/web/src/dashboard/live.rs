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
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::{overview::epoch_minute, session::AppSession};
use crate::{page_error::PageError, web_state::WebState};

/// Milliseconds until the browser asks again.
const RECONNECT_AFTER_MS: u32 = 2500;

/// The response to a browser that listens to a page whose content has now this version.
pub(crate) fn version_event(headers: &HeaderMap, version: &str) -> Response {
    let known = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let text = match known == Some(version) {
        true => format!("retry: {RECONNECT_AFTER_MS}\n\n"),
        false => format!(
            "retry: {RECONNECT_AFTER_MS}\nid: {version}\nevent: version\ndata: {version}\n\n"
        ),
    };
    ([(header::CONTENT_TYPE, "text/event-stream")], text).into_response()
}

/// The version of a page, of everything that it shows: a digest of its debug text.
pub(crate) fn version_of(content: &str) -> String {
    let digest = Sha256::digest(content.as_bytes());
    HEXLOWER.encode(&digest[..8])
}

/// The version of the overview and the lists: what was counted for the app in this minute and the last.
pub(crate) async fn overview_events(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let minute = epoch_minute(web.now());
    let store = &web.services.store;
    let counts = store
        .list_counts(session.app().id, minute.saturating_sub(1), minute)
        .await?;
    Ok(version_event(&headers, &version_of(&format!("{counts:?}"))))
}
