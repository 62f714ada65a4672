//! The frame of every page of this section.

use axum::response::{IntoResponse, Response};
use maud::Markup;

use super::super::{
    hrefs::log_href,
    page::{DashboardPage, Section},
    session::AppSession,
};

/// A page of this section.
pub(crate) fn respond_webhooks_page(
    session: &AppSession,
    title: &str,
    live_url: Option<String>,
    body: Markup,
) -> Response {
    DashboardPage {
        session,
        section: Section::Webhooks,
        title,
        live_url,
        body,
    }
    .into_response()
}

/// The event source of the pages of a URL.
pub(crate) fn live_events_href(url: &str) -> String {
    log_href("/live", &[("url", url)])
}
