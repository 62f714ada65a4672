//! Calls of the API's routes in process, as the app that is signed in.

use axum::http::StatusCode;
use serde_json::Value;

use super::session::AppSession;
use crate::{page_error::PageError, web_state::WebState};

/// Calls a route of the API as the app that is signed in: the `data` of its response, or its error as a sentence.
pub(crate) async fn call_api(
    web: &WebState,
    session: &AppSession,
    path: &str,
    body: Value,
) -> Result<Value, PageError> {
    let (status, mut response) = okra_api::call_route(&web.api, session.app.id, path, body).await;
    if status.is_success() {
        return Ok(response["data"].take());
    }
    let sentence = response["message"]
        .as_str()
        .unwrap_or("The request was rejected")
        .to_owned();
    let status = match status {
        StatusCode::NOT_FOUND => status,
        status if status.is_server_error() => status,
        _ => StatusCode::BAD_REQUEST,
    };
    Err(PageError::Rejected(status, sentence))
}
