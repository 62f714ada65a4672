//! Is it up?

use axum::http::StatusCode;
use okra_core::schedule::Interval;
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Health {
    store: &'static str,
    version: &'static str,
}

/// Answers where the table can be read.
pub(crate) async fn health(call: &Call) -> Answer {
    let read = call.state.store.interval_count(Interval::Daily).await;
    read.map_err(|error| {
        let message = "The store cannot be read";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message).because(error)
    })?;
    success(
        "Up",
        Health {
            store: "up",
            version: env!("CARGO_PKG_VERSION"),
        },
    )
}

documented! {
    health() -> Health: "Whether the table can be read.";
}
