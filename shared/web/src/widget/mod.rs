//! The widget: a script for the app's page, and the frame in which a customer links a bank.
//!
//! `bundle.js` opens the frame in the app's page and speaks Okra's `postMessage` protocol with it. The frame is of our
//! origin, so the page cannot see into it; what it shows is rendered here, step by step. The customer logs in at the
//! bank itself, in a window of the bank's origin, so that neither the page nor the frame ever holds a bank's
//! credentials.
//!
//! [`frame`] serves the documents, [`begin`] checks who opens the frame and makes a [`link_session`], [`steps`] renders
//! what the customer sees, and [`bank_side`] is the login at the bank, which ends in
//! the browser that began it ([`browser_proof`]). A session begins with the app's public key and
//! client token, and only where the page that opened the frame is of an origin that the app allows.

mod bank_side;
mod begin;
mod browser_proof;
mod frame;
mod link_session;
mod options;
mod origins;
mod steps;
mod success_payload;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

pub(crate) use self::{frame::render_message, origins::parse_origin};
use crate::{assets, web_state::WebState};

pub(crate) fn widget_routes() -> Router<Arc<WebState>> {
    Router::new()
        .route("/", get(frame::serve_root))
        .route("/v2/bundle.js", get(|| async { assets::serve_bundle() }))
        .route("/v1/bundle.js", get(|| async { assets::serve_bundle() }))
        .route("/widget", get(frame::serve_frame))
        .route("/link/{name}", get(frame::serve_link_page))
        .route("/widget/begin", post(begin::begin_session))
        .route("/widget/step", post(steps::handle_step))
        .route("/widget/login", get(browser_proof::serve_login_window))
        .route("/widget/authorize", post(browser_proof::authorize_browser))
        .route(
            browser_proof::CALLBACK_PATH,
            get(bank_side::handle_callback),
        )
}
