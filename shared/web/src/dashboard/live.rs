//! What is new, as server-sent events.
//!
//! Behind API Gateway an answer cannot stream. So a call answers what is new since the event that the
//! browser saw last (`Last-Event-ID`), or that nothing is, and ends; the browser's `EventSource` calls
//! again after `retry`. The same happens in the local process: there is one code path. A page that is
//! not looked at does not ask.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use okra_core::model::ids::RecordId;
use okra_store::{Consistency, RecordHead};
use sha2::{Digest, Sha256};

use super::record;
use crate::{WebState, session::AppSession, trouble::PageError};

/// Milliseconds until the browser asks again.
const RECONNECT_AFTER_MS: u32 = 2500;

/// What of a record a page shows that can change.
pub(crate) fn record_version(head: &RecordHead) -> String {
    let state = format!("{:?} {:?}", head.status, head.schedule);
    let digest = Sha256::digest(state.as_bytes());
    format!("{}-{:02x}{:02x}", head.seq.0, digest[0], digest[1])
}

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

pub(crate) async fn record_events(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    Path(id): Path<RecordId>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let head = record::load_own_record(&web, &session, id, Consistency::Eventual).await?;
    Ok(version_event(&headers, &record_version(&head)))
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
