//! Is it up?

use axum::http::StatusCode;
use okra_core::model::interval::Interval;
use serde::Serialize;

use crate::http::{
    envelope::{ApiError, ApiResponse, success_response},
    request::ApiRequest,
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct HealthResponse {
    store: &'static str,
    version: &'static str,
}

/// Answers where the table can be read.
pub(crate) async fn get_health(request: &ApiRequest) -> ApiResponse {
    let read = request
        .services
        .store
        .count_interval_entries(Interval::Daily)
        .await;
    read.map_err(|error| {
        let message = "The store cannot be read";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message).with_cause(error)
    })?;
    success_response(
        "Up",
        HealthResponse {
            store: "up",
            version: env!("CARGO_PKG_VERSION"),
        },
    )
}

routes! {
    Both Open [Ours "health"] => get_health() -> HealthResponse:
        "Returns whether the table can be read, and the version that runs.";
}
