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

/// Makes one table of the pages: what is served, and what a test goes through.
macro_rules! pages {
    ($($method:ident $path:literal => $handler:expr;)+) => {
        /// Each page and form of the dashboard: its method, and its path with the names of its parts.
        pub const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path)),+];

        pub(crate) fn routes() -> Router<Arc<Web>> {
            Router::new()$(.route($path, $method($handler)))+
        }
    };
}

pages! {
    get "/dashboard" => overview::page;
    get "/dashboard/" => || async { Redirect::permanent("/dashboard") };
    get "/dashboard/sign-in" => sign_in::page;
    post "/dashboard/sign-in" => sign_in::submit;
    post "/dashboard/sign-out" => sign_in::sign_out;
    get "/dashboard/live" => live::overview;
    get "/dashboard/records" => records::page;
    get "/dashboard/records/{record}" => record::page;
    get "/dashboard/records/{record}/live" => live::record;
    get "/dashboard/records/{record}/changes/{seq}" => record::change;
    post "/dashboard/records/{record}/refresh" => record::refresh;
    post "/dashboard/records/{record}/interval" => record::interval;
    post "/dashboard/records/{record}/sync/end" => record::end_sync;
    get "/dashboard/webhooks" => webhooks::page;
    post "/dashboard/webhooks" => webhooks::set;
    post "/dashboard/webhooks/secret" => webhooks::secret;
    get "/dashboard/webhooks/{endpoint}" => webhooks::endpoint;
    post "/dashboard/webhooks/{endpoint}" => webhooks::change;
    post "/dashboard/webhooks/{endpoint}/rotate" => webhooks::rotate;
    post "/dashboard/webhooks/{endpoint}/remove" => webhooks::remove;
    post "/dashboard/webhooks/{endpoint}/ping" => webhooks::ping;
    post "/dashboard/webhooks/{endpoint}/enable" => webhooks::enable;
    post "/dashboard/webhooks/{endpoint}/disable" => webhooks::disable;
    post "/dashboard/webhooks/{endpoint}/replays" => webhooks::replays::start;
    post "/dashboard/webhooks/{endpoint}/replays/{replay}" => webhooks::replays::set;
    get "/dashboard/deliveries" => webhooks::log::page;
    get "/dashboard/deliveries/live" => webhooks::is_new;
    get "/dashboard/deliveries/{event}" => webhooks::log::delivery;
    post "/dashboard/deliveries/{event}/resend" => webhooks::log::resend;
    get "/dashboard/events/{event}" => webhooks::log::of_event;
    get "/dashboard/banks" => banks::page;
    get "/dashboard/keys" => keys::page;
    post "/dashboard/keys/rotate" => keys::rotate;
    post "/dashboard/keys/revoke" => keys::revoke;
    post "/dashboard/keys/public" => keys::public;
    post "/dashboard/keys/origins" => keys::origins;
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
    let status = match status {
        StatusCode::NOT_FOUND => status,
        status if status.is_server_error() => status,
        _ => StatusCode::BAD_REQUEST,
    };
    Err(Trouble::Refused(status, sentence))
}

/// These customers, in the order asked for; those that are not there are left out.
async fn customers(web: &Web, ids: &[CustomerId]) -> Result<Vec<Customer>, Trouble> {
    let found = ids.iter().map(|id| web.api.store.customer(*id));
    let found = futures::future::try_join_all(found).await?;
    Ok(found.into_iter().flatten().collect())
}
