//! [`DashboardPage`]: the frame around every page of the dashboard, with the menu of its [`Section`]s.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use maud::{Markup, html};

use super::session::AppSession;
use crate::{assets::asset_href, components::document::render_document};

/// The dashboard's sections, in the order of the menu.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Records,
    Webhooks,
    Banks,
    Keys,
}

impl Section {
    const ALL: [Self; 5] = [
        Self::Overview,
        Self::Records,
        Self::Webhooks,
        Self::Banks,
        Self::Keys,
    ];

    const fn menu_label(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Records => "Records",
            Self::Webhooks => "Webhooks",
            Self::Banks => "Banks",
            Self::Keys => "Keys",
        }
    }

    const fn page_path(self) -> &'static str {
        match self {
            Self::Overview => "/dashboard",
            Self::Records => "/dashboard/records",
            Self::Webhooks => "/dashboard/webhooks",
            Self::Banks => "/dashboard/banks",
            Self::Keys => "/dashboard/keys",
        }
    }
}

/// One page of the dashboard.
pub(crate) struct DashboardPage<'a> {
    pub(crate) session: &'a AppSession,
    pub(crate) section: Section,
    pub(crate) title: &'a str,
    /// The event source of what is new on this page, if it has one.
    pub(crate) live_url: Option<String>,
    pub(crate) body: Markup,
}

impl IntoResponse for DashboardPage<'_> {
    fn into_response(self) -> Response {
        let Self {
            session,
            section,
            title,
            live_url,
            body,
        } = self;
        let shell = html! {
            a.skip href="#main" { "Skip to the content" }
            header.side {
                a.brand href="/dashboard" {
                    img src=(asset_href("icon.svg")) alt="" width="22" height="22";
                    "okra-sync"
                }
                nav aria-label="Sections" {
                    @for it in Section::ALL {
                        a href=(it.page_path()) aria-current=[(it == section).then_some("page")] { (it.menu_label()) }
                    }
                }
                div.who {
                    span.app title=(session.app().id) { (session.app().name) }
                    span.env { (session.app().environment.as_str()) }
                    form method="post" action="/dashboard/sign-out" {
                        (render_csrf_field(session))
                        button.link { "Sign out" }
                    }
                }
            }
            main id="main" tabindex="-1" data-live=[live_url] { (body) }
        };
        render_document(StatusCode::OK, title, &shell)
    }
}

/// The token that a form sends back.
pub(crate) fn render_csrf_field(session: &AppSession) -> Markup {
    html! { input type="hidden" name="csrf" value=(session.csrf); }
}
