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
use okra_core::model::ids::CustomerId;
use okra_store::Customer;
use serde_json::Value;

use crate::{WebState, session::AppSession, trouble::PageError};

/// Makes one table of the pages: what is served, and what a test goes through.
macro_rules! pages {
    ($($method:ident $path:literal => $handler:expr;)+) => {
        /// Each page and form of the dashboard: its method, and its path with the names of its parts.
        pub const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path)),+];

        pub(crate) fn routes() -> Router<Arc<WebState>> {
            Router::new()$(.route($path, $method($handler)))+
        }
    };
}

pages! {
    get "/dashboard" => overview::render_overview_page;
    get "/dashboard/" => || async { Redirect::permanent("/dashboard") };
    get "/dashboard/sign-in" => sign_in::render_sign_in_page;
    post "/dashboard/sign-in" => sign_in::submit_sign_in;
    post "/dashboard/sign-out" => sign_in::sign_out;
    get "/dashboard/live" => live::overview_events;
    get "/dashboard/records" => records::render_records_page;
    get "/dashboard/records/{record}" => record::render_record_page;
    get "/dashboard/records/{record}/live" => live::record_events;
    get "/dashboard/records/{record}/changes/{seq}" => record::render_change_page;
    post "/dashboard/records/{record}/refresh" => record::refresh_record;
    post "/dashboard/records/{record}/interval" => record::change_interval;
    post "/dashboard/records/{record}/sync/end" => record::end_subscription;
    get "/dashboard/webhooks" => webhooks::render_webhooks_page;
    post "/dashboard/webhooks" => webhooks::add_endpoint;
    post "/dashboard/webhooks/secret" => webhooks::show_sync_secret;
    get "/dashboard/webhooks/{endpoint}" => webhooks::render_endpoint_page;
    post "/dashboard/webhooks/{endpoint}" => webhooks::update_endpoint;
    post "/dashboard/webhooks/{endpoint}/rotate" => webhooks::rotate_endpoint_secret;
    post "/dashboard/webhooks/{endpoint}/remove" => webhooks::remove_endpoint;
    post "/dashboard/webhooks/{endpoint}/ping" => webhooks::ping_endpoint;
    post "/dashboard/webhooks/{endpoint}/enable" => webhooks::enable_endpoint;
    post "/dashboard/webhooks/{endpoint}/disable" => webhooks::disable_endpoint;
    post "/dashboard/webhooks/{endpoint}/replays" => webhooks::replays::start_replay;
    post "/dashboard/webhooks/{endpoint}/replays/{replay}" => webhooks::replays::cancel_or_resume_replay;
    get "/dashboard/deliveries" => webhooks::log::render_log_page;
    get "/dashboard/deliveries/live" => webhooks::endpoint_events;
    get "/dashboard/deliveries/{event}" => webhooks::log::render_delivery_page;
    post "/dashboard/deliveries/{event}/resend" => webhooks::log::resend_event;
    get "/dashboard/events/{event}" => webhooks::log::render_event_page;
    get "/dashboard/banks" => banks::render_banks_page;
    get "/dashboard/keys" => keys::render_keys_page;
    post "/dashboard/keys/rotate" => keys::rotate_secret_key;
    post "/dashboard/keys/revoke" => keys::revoke_secret_key;
    post "/dashboard/keys/public" => keys::replace_public_key;
    post "/dashboard/keys/origins" => keys::set_widget_origins;
}

/// Calls a route of the API as the app that is signed in: its `data`, or its refusal as a sentence.
async fn call_api(
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

/// These customers, in the order asked for; those that are not there are left out.
async fn load_customers(web: &WebState, ids: &[CustomerId]) -> Result<Vec<Customer>, PageError> {
    let found = ids.iter().map(|id| web.api.store.find_customer(*id));
    let found = futures::future::try_join_all(found).await?;
    Ok(found.into_iter().flatten().collect())
}
