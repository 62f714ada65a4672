//! The HTTP API: Okra's endpoints, and extensions on the same resources.
//!
//! [`ROUTES`] is the whole API: path, method, who may call, handler. A call is read tolerantly, as
//! Okra's clients send it ([`input`]), answered in Okra's envelope, and refused in it too
//! ([`envelope`]): never with a stack, never with what another app owns.

#[macro_use]
mod documented;

mod accounts;
mod auth;
mod auths;
mod balances;
mod banks;
mod call;
mod callback;
mod customers;
mod deliveries;
mod downloads;
mod envelope;
mod feed;
pub mod gateway;
mod history;
mod input;
mod jobs;
mod keys;
mod link;
mod links;
mod names;
#[cfg(feature = "openapi")]
mod openapi;
mod products;
mod records;
mod reference;
mod refresh;
mod removals;
mod repeats;
mod routes;
mod scope;
mod states;
mod sync;
mod system;
mod transactions;
mod webhooks;

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{Router, extract::State, response::Response};
use okra_app::Services;

pub use okra_app::{
    CreateLoginRequest, LinkableLogin, RandomSource, RandomnessError, SandboxLoginFactory,
    Services as ApiState,
};
pub use okra_vault::secrets_match;

pub use self::{
    input::MAX_BODY_BYTES,
    repeats::IDEMPOTENCY_KEY,
    routes::{Access, Origin, ROUTES, Route},
};

/// [`Services::await_bank_permit`], for callers that have not moved to it.
///
/// # Errors
///
/// [`okra_store::StoreError`].
pub async fn await_bank_permit(
    services: &Services,
    bank: &okra_core::model::bank::BankConfig,
    now: jiff::Timestamp,
) -> Result<Result<(), jiff::Timestamp>, okra_store::StoreError> {
    Ok(match services.await_bank_permit(bank, now).await? {
        okra_app::BankPermit::Granted => Ok(()),
        okra_app::BankPermit::ExhaustedUntil(at) => Err(at),
    })
}

type HandlerFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Response, envelope::ApiError>> + Send + 'a>>;

/// The OpenAPI 3.1 document of [`ROUTES`], as the code says it: what `openapi.json` has to be.
///
/// # Errors
///
/// Names a route whose handler is not documented.
#[cfg(feature = "openapi")]
pub fn generate_openapi_document() -> Result<serde_json::Value, String> {
    let modules = [
        accounts::documented(),
        auths::documented(),
        balances::documented(),
        banks::documented(),
        callback::documented(),
        customers::documented(),
        deliveries::documented(),
        downloads::documented(),
        feed::documented(),
        history::documented(),
        jobs::documented(),
        keys::documented(),
        link::documented(),
        links::documented(),
        products::documented(),
        records::documented(),
        reference::documented(),
        refresh::documented(),
        removals::documented(),
        sync::documented(),
        system::documented(),
        transactions::documented(),
        webhooks::documented(),
    ];
    openapi::generate_document(modules.into_iter().flatten().collect())
}

/// The API as one router, on every path.
pub fn build_router(services: Services) -> Router {
    Router::new()
        .fallback(serve_request)
        .with_state(Arc::new(services))
}

/// Calls a route of [`ROUTES`] in process, for an app that something else than a key has named: the
/// dashboard's session, a customer's link session. `body` is what the JSON body would be. Answers the
/// status and Okra's envelope, as over HTTP.
pub async fn call_route(
    services: &Arc<Services>,
    app: okra_core::model::ids::AppId,
    path: &str,
    body: serde_json::Value,
) -> (axum::http::StatusCode, serde_json::Value) {
    routes::call_route(Arc::clone(services), app, path, body).await
}

async fn serve_request(
    State(services): State<Arc<Services>>,
    request: axum::extract::Request,
) -> Response {
    routes::serve_request(services, request).await
}
