//! The bank's routers: its API for connectors and users, and what controls it.

use axum::Router;

use crate::{authorise::router::authorise_router, bank::state::SandboxBank, control, obie::http};

impl SandboxBank {
    /// The bank's API in both versions, under [`SandboxBank::base_path`], and its login page. To be merged, not nested:
    /// the links in its responses are made from the path of the request.
    pub fn api_router(&self) -> Router {
        http::account_api_router(self).merge(authorise_router(self))
    }

    /// What controls the bank, under `/control`. It asks for no credentials and returns access tokens: serve it on
    /// loopback only.
    pub fn control_router(&self) -> Router {
        control::control_router(self)
    }
}
