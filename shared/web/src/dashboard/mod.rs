//! The dashboard: one table of its routes, and a module for each section of its menu.
//!
//! [`session`] says who is signed in; every handler takes an `AppSession` or a `SubmittedForm` and reads or changes
//! that app's data alone. Pages are [`page::DashboardPage`]s, addressed by [`hrefs`], and renewed by [`live`] events.

mod banks;
mod failing;
mod freshness;
mod hrefs;
mod keys;
mod live;
mod overview;
mod page;
mod record;
mod records;
mod session;
mod sign_in;
mod webhooks;

use std::sync::Arc;

use axum::{
    Router,
    response::Redirect,
    routing::{get, post},
};

use crate::web_state::WebState;

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
    get "/dashboard/records/{record}/live" => record::record_events;
    get "/dashboard/records/{record}/changes/{seq}" => record::change_page::render_change_page;
    post "/dashboard/records/{record}/refresh" => record::actions::refresh_record;
    post "/dashboard/records/{record}/interval" => record::actions::change_interval;
    post "/dashboard/records/{record}/sync/end" => record::actions::end_subscription;
    get "/dashboard/webhooks" => webhooks::endpoints::render_webhooks_page;
    post "/dashboard/webhooks" => webhooks::endpoints::add_endpoint;
    post "/dashboard/webhooks/secret" => webhooks::secrets::show_sync_secret;
    get "/dashboard/webhooks/{endpoint}" => webhooks::endpoint::render_endpoint_page;
    post "/dashboard/webhooks/{endpoint}" => webhooks::endpoint::update_endpoint;
    post "/dashboard/webhooks/{endpoint}/rotate" => webhooks::endpoint::rotate_endpoint_secret;
    post "/dashboard/webhooks/{endpoint}/remove" => webhooks::endpoint::remove_endpoint;
    post "/dashboard/webhooks/{endpoint}/ping" => webhooks::endpoint::ping_endpoint;
    post "/dashboard/webhooks/{endpoint}/enable" => webhooks::endpoint::enable_endpoint;
    post "/dashboard/webhooks/{endpoint}/disable" => webhooks::endpoint::disable_endpoint;
    post "/dashboard/webhooks/{endpoint}/replays" => webhooks::replays::start_replay;
    post "/dashboard/webhooks/{endpoint}/replays/{replay}" => webhooks::replays::cancel_or_resume_replay;
    get "/dashboard/deliveries" => webhooks::log::render_log_page;
    get "/dashboard/deliveries/live" => webhooks::live_events::endpoint_events;
    get "/dashboard/deliveries/{event}" => webhooks::delivery::render_delivery_page;
    post "/dashboard/deliveries/{event}/resend" => webhooks::delivery::resend_event;
    get "/dashboard/events/{event}" => webhooks::event::render_event_page;
    get "/dashboard/banks" => banks::render_banks_page;
    get "/dashboard/keys" => keys::render_keys_page;
    post "/dashboard/keys/rotate" => keys::rotate_secret_key;
    post "/dashboard/keys/revoke" => keys::revoke_secret_key;
    post "/dashboard/keys/public" => keys::replace_public_key;
    post "/dashboard/keys/origins" => keys::set_widget_origins;
}
