//! The dashboard's pages.

mod banks;
mod failing;
mod freshness;
mod keys;
mod live;
mod overview;
mod record;
mod records;
mod sign_in;
mod state;
mod webhooks;

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    response::Redirect,
    routing::{get, post},
};
use okra_core::ids::CustomerId;
use okra_store::Customer;
use serde_json::Value;

use crate::{Web, session::Signed, trouble::Trouble};

pub(crate) fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route("/dashboard", get(overview::page))
        .route(
            "/dashboard/",
            get(|| async { Redirect::permanent("/dashboard") }),
        )
        .route(
            "/dashboard/sign-in",
            get(sign_in::page).post(sign_in::submit),
        )
        .route("/dashboard/sign-out", post(sign_in::sign_out))
        .route("/dashboard/live", get(live::overview))
        .route("/dashboard/records", get(records::page))
        .route("/dashboard/records/{record}", get(record::page))
        .route("/dashboard/records/{record}/live", get(live::record))
        .route("/dashboard/records/{record}/refresh", post(record::refresh))
        .route(
            "/dashboard/records/{record}/interval",
            post(record::interval),
        )
        .route(
            "/dashboard/webhooks",
            get(webhooks::page).post(webhooks::set),
        )
        .route(
            "/dashboard/webhooks/{endpoint}",
            get(webhooks::endpoint).post(webhooks::change),
        )
        .route(
            "/dashboard/webhooks/{endpoint}/rotate",
            post(webhooks::rotate),
        )
        .route(
            "/dashboard/webhooks/{endpoint}/remove",
            post(webhooks::remove),
        )
        .route("/dashboard/webhooks/{endpoint}/ping", post(webhooks::ping))
        .route(
            "/dashboard/webhooks/{endpoint}/enable",
            post(webhooks::enable),
        )
        .route(
            "/dashboard/webhooks/{endpoint}/disable",
            post(webhooks::disable),
        )
        .route(
            "/dashboard/webhooks/{endpoint}/replays",
            post(webhooks::replays::start),
        )
        .route(
            "/dashboard/webhooks/{endpoint}/replays/{replay}",
            post(webhooks::replays::set),
        )
        .route("/dashboard/webhooks/secret", post(webhooks::secret))
        .route("/dashboard/deliveries", get(webhooks::log::page))
        .route("/dashboard/deliveries/live", get(webhooks::is_new))
        .route(
            "/dashboard/deliveries/{event}",
            get(webhooks::log::delivery),
        )
        .route(
            "/dashboard/deliveries/{event}/resend",
            post(webhooks::log::resend),
        )
        .route("/dashboard/events/{event}", get(webhooks::log::of_event))
        .route("/dashboard/banks", get(banks::page))
        .route("/dashboard/keys", get(keys::page))
        .route("/dashboard/keys/rotate", post(keys::rotate))
        .route("/dashboard/keys/revoke", post(keys::revoke))
        .route("/dashboard/keys/public", post(keys::public))
        .route("/dashboard/keys/origins", post(keys::origins))
}

/// Calls a route of the API as the app that is signed in: its `data`, or its refusal as a sentence.
async fn call(web: &Web, signed: &Signed, path: &str, body: Value) -> Result<Value, Trouble> {
    let (status, mut answer) = okra_api::call(&web.api, signed.app.id, path, body).await;
    if status.is_success() {
        return Ok(answer["data"].take());
    }
    let sentence = answer["message"]
        .as_str()
        .unwrap_or("It was refused")
        .to_owned();
    let status = if status.is_server_error() {
        status
    } else {
        StatusCode::BAD_REQUEST
    };
    Err(Trouble::Refused(status, sentence))
}

/// These customers, in the order asked for; those that are not there are left out.
async fn customers(web: &Web, ids: &[CustomerId]) -> Result<Vec<Customer>, Trouble> {
    let found = ids.iter().map(|id| web.api.store.customer(*id));
    let found = futures::future::try_join_all(found).await?;
    Ok(found.into_iter().flatten().collect())
}
