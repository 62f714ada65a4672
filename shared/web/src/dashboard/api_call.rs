//! Calls of the API's routes in process, as the app that is signed in.

use axum::http::StatusCode;
use serde_json::Value;

use super::session::AppSession;
use crate::{page_error::PageError, web_state::WebState};

/// Calls a route of the API as the app that is signed in: its `data`, or its refusal as a sentence.
pub(crate) async fn call_api(
    web: &WebState,
    session: &AppSession,
    path: &str,
    body: Value,
) -> Result<Value, PageError> {
    let (status, mut answer) = okra_api::call_route(&web.api, session.app.id, path, body).await;
    if status.is_success() {
        return Ok(answer["data"].take());
    }
    let sentence = answer["message"]
        .as_str()
        .unwrap_or("It was refused")
        .to_owned();
    let status = match status {
        StatusCode::NOT_FOUND => status,
        status if status.is_server_error() => status,
        _ => StatusCode::BAD_REQUEST,
    };
    Err(PageError::Rejected(status, sentence))
}
