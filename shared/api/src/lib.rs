//! The HTTP API: Okra's endpoints, and extensions on the same resources.
//!
//! The cast: [`ROUTES`], the whole API, which the features declare in the folders of their names; the request and the
//! error in `http`, which all features share. What a call does is in [`okra_app`]; a handler parses its input, calls the
//! application layer and renders the result.
//!
//! The rule: a request is read tolerantly, as Okra's clients send it, and answered in Okra's envelope, errors included;
//! never with a stack trace, never with what another app owns.

#[macro_use]
mod http;

mod admin;
mod customers;
mod data;
mod records;
mod routes;
mod sync;
mod webhooks;

use std::sync::Arc;

use axum::{Router, extract::State, response::Response};
use okra_app::Services;

pub use self::{
    http::{
        gateway,
        idempotency::IDEMPOTENCY_KEY,
        input::MAX_BODY_BYTES,
        route::{Access, Origin, Route},
    },
    routes::ROUTES,
};

/// The OpenAPI 3.1 document of [`ROUTES`], as `openapi.json` must be.
///
/// # Errors
///
/// Says which part cannot be written as JSON, or which name two schemas share.
#[cfg(feature = "openapi")]
pub fn generate_openapi_document() -> Result<serde_json::Value, String> {
    http::openapi::generate_document(ROUTES)
}

/// The API as one router, on every path.
pub fn build_router(services: Services) -> Router {
    Router::new()
        .fallback(serve_request)
        .with_state(Arc::new(services))
}

async fn serve_request(
    State(services): State<Arc<Services>>,
    request: axum::extract::Request,
) -> Response {
    routes::serve_request(services, request).await
}
