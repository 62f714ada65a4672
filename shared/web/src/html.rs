//! The frame of every page, and the parts that pages share.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};

use crate::{assets::asset_href, session::AppSession};

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

/// A whole document around a body.
pub(crate) fn render_document(status: StatusCode, title: &str, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · okra-sync" }
                link rel="icon" href=(asset_href("icon.svg"));
                link rel="stylesheet" href=(asset_href("dashboard.css"));
                script src=(asset_href("dashboard.js")) defer {}
            }
            body { (body) }
        }
    };
    html_response(status, page)
}

/// Markup as an answer.
pub(crate) fn html_response(status: StatusCode, page: Markup) -> Response {
    let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (status, html, page.into_string()).into_response()
}

/// One page of the dashboard.
pub(crate) struct DashboardPage<'a> {
    pub(crate) session: &'a AppSession,
    pub(crate) section: Section,
    pub(crate) title: &'a str,
    /// Where what is new of this page is told from, if anywhere.
    pub(crate) live_url: Option<String>,
    pub(crate) body: Markup,
}

impl IntoResponse for DashboardPage<'_> {
    fn into_response(self) -> Response {
        let Self {
            session: signed,
            section,
            title,
            live_url: live,
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
                    span.app title=(signed.app.id) { (signed.app.name) }
                    span.env { (signed.app.environment.as_str()) }
                    form method="post" action="/dashboard/sign-out" {
                        (render_csrf_field(signed))
                        button.link { "Sign out" }
                    }
                }
            }
            main id="main" tabindex="-1" data-live=[live] { (body) }
        };
        render_document(StatusCode::OK, title, &shell)
    }
}

/// The token that a form sends back.
pub(crate) fn render_csrf_field(session: &AppSession) -> Markup {
    html! { input type="hidden" name="csrf" value=(session.csrf); }
}

/// What a list that is empty says: what it would hold, and what to do next.
pub(crate) fn render_empty_state(title: &str, guidance: &Markup) -> Markup {
    html! { div.empty { h2 { (title) } (guidance) } }
}

/// A number with its name, which leads to the list behind it.
pub(crate) fn render_figure(name: &str, value: &str, note: &str, href: &str) -> Markup {
    html! {
        a.figure href=(href) {
            span.name { (name) }
            span.value { (value) }
            @if !note.is_empty() { span.note { (note) } }
        }
    }
}

/// A table that scrolls in itself where it is wider than the screen.
pub(crate) fn render_table(label: &str, head: &Markup, body: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(label) tabindex="0" {
            table {
                thead { tr { (head) } }
                tbody { (body) }
            }
        }
    }
}
