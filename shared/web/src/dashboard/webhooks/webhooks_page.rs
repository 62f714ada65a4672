//! The frame of every page of this section.

use axum::response::{IntoResponse, Response};
use maud::Markup;

use super::super::{
    hrefs::log_href,
    page::{DashboardPage, Section},
    session::AppSession,
};

pub(crate) fn respond_webhooks_page(
    session: &AppSession,
    title: &str,
    live: Option<String>,
    body: Markup,
) -> Response {
    DashboardPage {
        session,
        section: Section::Webhooks,
        title,
        live_url: live,
        body,
    }
    .into_response()
}

/// Where what is new of the pages of a URL is told from.
pub(crate) fn live_events_href(url: &str) -> String {
    log_href("/live", &[("url", url)])
}
